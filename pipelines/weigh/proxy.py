"""One proxy: select what a weighting ranks highest, train a small model on it, and measure the held-out losses.

Every proxy reads the same number of tokens under the same plan. Runs of the design share their seed, so two of them
differ in what was selected and in nothing else; repeats differ in the seed alone and show the noise. A run whose loss
stops being finite is a failure with its reason, and never a number.
"""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, ValidationError

from corpus.artifacts import Artifact
from corpus.config import Config
from corpus.errors import ArtifactError, ConfigError, TaskError
from corpus.fingerprints import fingerprint
from corpus.keyed_random import digests, keyed_uniforms
from corpus.shards import read_table, write_text
from corpus.tokens import read_token_shard
from curriculum.arrange import arrange
from curriculum.order import NAMES, Order, write_order
from curriculum.policies.shuffled import Shuffled
from curriculum.visits import VISIT_SCHEMA
from pipelines.combining import COMPOSITE
from pipelines.stages.naming import source_of
from pipelines.tally import Tally
from pipelines.weigh.pool import HELD_OUT
from raters.composite import read_composite
from raters.select import take_budget
from trainer_hooks.model_config import ModelConfig
from trainer_hooks.plan import Plan

VERSION = 1
"""Raised when the same settings would train or measure otherwise."""
KEPT = "cache/proxies"
"""Results by the identity of their run, so that a larger design trains only what is new."""


class ProxyResult(Config):
    """What one proxy run came to."""

    run_id: str
    kind: str
    shares: tuple[float, ...] | None
    seed: int
    status: Literal["finished", "failed"]
    reason: str = ""
    losses: dict[str, float] = Field({}, description="held-out bits per byte, by source")
    subset: str = Field(description="fingerprint of the ids that were selected, best first")
    documents: int
    tokens: int
    tokens_by_source: dict[str, int]
    read_tokens: int = Field(0, description="tokens trained on")


@dataclass(frozen=True)
class ProxyWork:
    """Train one proxy, unless the workspace keeps its result already.

    Args:
        root: the workspace; inputs: a fingerprint of what proxies read there (pool, tokens, composite, validation).
        shares: the weights, None for a subset drawn at random; seed: of the training and the order.
        budget: tokens of the subset; tie_seed: decides between equal scores.
        number: its place in the design, by which runs take turns on GPUs.
    """

    root: Path
    inputs: str
    run_id: str
    kind: str
    shares: tuple[float, ...] | None
    seed: int
    budget: int
    tie_seed: int
    plan: Plan
    model: ModelConfig
    number: int

    def identity(self) -> dict[str, Any]:
        """What decides this run's result; its name and its place in the design do not."""
        return {
            "version": VERSION, "inputs": self.inputs, "shares": self.shares, "seed": self.seed, "budget": self.budget,
            "tie_seed": self.tie_seed, "plan": self.plan.model_dump(), "model": self.model.model_dump(),
        }  # fmt: skip

    def run(self, folder: Path, tally: Tally) -> Iterable[Path]:
        """Write `<run id>.json`, a ProxyResult: the one kept from an earlier design, or a new one.

        Training goes on at its last checkpoint after a kill.
        """
        scratch = self.root / KEPT / fingerprint(self.identity())
        kept = scratch.with_suffix(".json")
        if kept.exists():
            made = read_result(kept).model_copy(update={"run_id": self.run_id, "kind": self.kind})
        else:
            made = self._train(scratch)
            write_text(kept, made.model_dump_json(indent=1) + "\n")
        shutil.rmtree(scratch, ignore_errors=True)
        path = folder / f"{self.run_id}.json"
        write_text(path, made.model_dump_json(indent=1) + "\n")
        tally.totals[made.status] += 1
        tally.totals["tokens"] += made.read_tokens
        return [path]

    def _train(self, scratch: Path) -> ProxyResult:
        from trainer_hooks.trainer import train

        chosen = self._select(read_table(self.root / "weigh/pool/pool.parquet"))
        tokens = Artifact(self.root / "weigh/tokens")
        order = self._order(chosen, tokens, scratch / "order")
        arrays = [np.asarray(read_token_shard(path)) for path in tokens.files(".npy")]
        plan = self.plan.model_copy(update={"seed": self.seed})
        facts = self._facts(chosen)
        try:
            result = train(
                order, arrays, self._heldout(), self.model, plan, scratch / "run", device=_device(self.number)
            )
        except TaskError as error:
            return ProxyResult(status="failed", reason=f"{error.what}: {error.found}", **facts)
        losses = {source: kinds["raw"].bits_per_byte for source, kinds in result.losses.items()}
        return ProxyResult(status="finished", losses=losses, read_tokens=result.tokens, **facts)

    def _select(self, pool: pa.Table) -> pa.Table:
        """The documents of the subset, best first; none that is held out."""
        free = pool.filter(pc.invert(pool[HELD_OUT]))
        ids = free["id"].to_pylist()
        if self.shares is None:
            scores = keyed_uniforms(self.seed, ids)
        else:
            composite = read_composite(self.root / "weigh/composite" / COMPOSITE)
            scores, _ = composite.weighted(self.shares).combined(free)
        lengths = free["length"].to_numpy()
        selection = take_budget(scores, lengths, self.budget, seed=self.tie_seed, ids=ids)
        return free.take(pa.array(selection.rows))

    def _order(self, chosen: pa.Table, tokens: Artifact, folder: Path) -> Order:
        """The subset in pieces of a sequence's length, shuffled by the run's seed.

        A proxy's batch is a few thousand tokens: whole documents in a row would fill it with one text, and what the
        last batches happen to hold would decide the loss. Pieces of two subsets come in the same relative order.
        """
        pieces = in_pieces(chosen, self.plan.sequence_length)
        n = pieces.num_rows
        same = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array(["subset"]))
        made = {
            "source": pieces["source"].combine_chunks().dictionary_encode().cast(NAMES),
            "digest": digests(pieces["id"]), "phase": same, "component": same,
            "rephrased": pa.array(np.zeros(n, np.bool_)), "inherited": pa.array(np.zeros(n, np.bool_)),
        }  # fmt: skip
        columns = [made[name] if name in made else pieces[name] for name in VISIT_SCHEMA.names]
        visits = arrange(pa.Table.from_arrays(columns, schema=VISIT_SCHEMA), Shuffled(seed=self.seed))
        shards = [f"{tokens.name}/{path.name}" for path in tokens.files(".npy")]
        identity = fingerprint([self.run_id, self.seed, chosen["id"].to_pylist()])
        write_order(
            folder, visits, name=self.run_id, fingerprint=identity, config={}, inputs=[tokens.ref], shards=shards
        )
        return Order.open(folder)

    def _heldout(self) -> dict[str, Any]:
        from trainer_hooks.evaluation import HeldOut

        paths = Artifact(self.root / "weigh/validation").files(".npy")
        return {source_of(path): HeldOut.from_shards([path]) for path in paths}

    def _facts(self, chosen: pa.Table) -> dict[str, Any]:
        sums = chosen.group_by("source").aggregate([("length", "sum")]).sort_by("source").to_pylist()
        return {
            "run_id": self.run_id, "kind": self.kind, "shares": self.shares, "seed": self.seed,
            "subset": fingerprint(chosen["id"].to_pylist()), "documents": chosen.num_rows,
            "tokens": sum(row["length_sum"] for row in sums),
            "tokens_by_source": {row["source"]: row["length_sum"] for row in sums},
        }  # fmt: skip


def in_pieces(documents: pa.Table, size: int) -> pa.Table:
    """Documents cut into pieces of `size` tokens, the last one shorter; `visit` numbers the pieces of a document.

    Args:
        documents: columns `start` and `length` (in tokens) among any others, which every piece repeats.
    """
    lengths = documents["length"].to_numpy().astype(np.int64)
    counts = -(-lengths // size)
    rows = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = documents["start"].to_numpy()[rows] + number * size
    length = np.minimum(size, lengths[rows] - number * size)
    cut = {
        "start": pa.array(start),
        "length": pa.array(length.astype(np.int32)),
        "visit": pa.array(number.astype(np.int32)),
    }
    kept = {name: documents[name].take(pa.array(rows)) for name in documents.column_names if name not in cut}
    return pa.table({**kept, **cut})


def read_result(path: Path) -> ProxyResult:
    """Read one run's result. Raises ArtifactError where it is not one."""
    try:
        return ProxyResult.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ArtifactError(
            "this is not a proxy's result", found=str(error.errors()[0]["msg"]), where=str(path)
        ) from None


def check_budget(budget: int, plan: Plan, pool: pa.Table) -> None:
    """Raise ConfigError unless a subset of `budget` tokens is smaller than the pool and long enough for the plan."""
    free = int(pc.sum(pool.filter(pc.invert(pool[HELD_OUT]))["length"]).as_py() or 0)
    longest = int(pc.max(pool["length"]).as_py() or 0)
    if budget - longest <= plan.tokens:
        raise ConfigError(
            "a subset holds fewer tokens than a proxy reads",
            expected=f"more than the plan's {plan.tokens:,}, and the longest document's {longest:,} on top",
            found=f"a budget of {budget:,} out of {free:,} tokens", fix="lower plan.tokens, or raise subset.share",
        )  # fmt: skip
    if budget >= free:
        raise ConfigError(
            "a subset would be the whole pool, so every weighting would select the same documents",
            found=f"a budget of {budget:,} out of {free:,} tokens", fix="lower subset.share or subset.tokens",
        )  # fmt: skip


def _device(number: int) -> str:
    """Runs take turns on the GPUs of a machine, by their number in the design; the CPU where there is none."""
    import torch

    return f"cuda:{number % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"
