"""Proxies: small models trained only to compare choices of data, each a task whose result is kept.

Every proxy of a design reads the same number of tokens under the same plan. Runs of the design share their seed, so two
of them differ in what they read and in nothing else; repeats differ in the seed alone and show the noise. A run whose
loss stops being finite is a failure with its reason, and never a number.

What a proxy reads is a subclass's: documents that a weighting ranks highest (`pipelines.weigh.proxy`), or a mixture of
sources (`pipelines.mix_proxies`).
"""

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, ValidationError, model_validator

from corpus.artifacts import Artifact, InputRef
from corpus.config import Config
from corpus.errors import ArtifactError, TaskError
from corpus.fingerprints import fingerprint
from corpus.shards import write_text
from corpus.tokens import DOCS_SCHEMA, read_docs, read_token_shard, write_token_shard
from curriculum.order import Order, write_order
from pipelines.build import Workshop
from pipelines.tally import Tally
from pipelines.tasks import Work
from trainer_hooks.model_config import ModelConfig
from trainer_hooks.plan import Plan

VERSION = 1
"""Raised when the same settings would train or measure otherwise."""
KEPT = "cache/proxies"
"""Results by the identity of their run, so that a larger design trains only what is new."""
DEFAULT_VOCABULARY = 2_048
PADDING = 64
PLAN: dict[str, Any] = {
    "tokens": "1M",
    "sequence_length": 256,
    "batch_sequences": 16,
    "peak_lr": 2e-3,
    "phases": [{"warmup": "25%"}, {"stable": "45%"}, {"decay": "30%", "to": "1/30", "shape": "1-sqrt"}],
    "threads": 1,  # proxies run side by side, one a core
    "eval_every": "100%",
    "checkpoint_every": "50%",
}
"""A short run needs a long warm-up: with 5 % of it and 3e-3, seeds spread seven times as far."""


class ProxySettings(Config):
    """What every proxy is and does."""

    model: ModelConfig = Field(
        ModelConfig(vocabulary=DEFAULT_VOCABULARY), description="the proxy; its vocabulary follows the tokens"
    )
    plan: Plan = Field(
        Plan.model_validate(PLAN), description="the plan that every proxy follows; keys not given are the default's"
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: Any) -> Any:
        """What a plan or a model does not say is the default's, so that one key can be changed alone."""
        filled = dict(data)
        if isinstance(filled.get("model"), str):
            filled["model"] = {"preset": filled["model"]}
        for name, default in (("plan", PLAN), ("model", {"vocabulary": DEFAULT_VOCABULARY})):
            if isinstance(given := filled.get(name), dict):
                kept = {key: value for key, value in default.items() if key != "phases" or not given.get("schedule")}
                filled[name] = {**kept, **given}
        return filled

    def proxy_of(self, vocabulary: int) -> ModelConfig:
        """The proxy's shape for a vocabulary, padded to a multiple of 64."""
        return self.model.model_copy(update={"vocabulary": -(-vocabulary // PADDING) * PADDING})


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


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """Train one proxy, unless the workspace keeps its result already.

    Args:
        root: the workspace; inputs: a fingerprint of all that proxies read there.
        tokens, validation: names of the artifacts with the token shards that are trained on, and measured on.
        shares: what the design asks of this run; None for a run outside it.
        seed: of the training and the order.
        number: its place in the design, by which runs take turns on GPUs.
    """

    root: Path
    inputs: str
    tokens: str
    validation: str
    run_id: str
    kind: str
    shares: tuple[float, ...] | None
    seed: int
    plan: Plan
    model: ModelConfig
    number: int

    def identity(self) -> dict[str, Any]:
        """What decides this run's result; its name and its place in the design do not."""
        return {
            "version": VERSION, "inputs": self.inputs, "shares": self.shares, "seed": self.seed,
            "plan": self.plan.model_dump(), "model": self.model.model_dump(),
        }  # fmt: skip

    def visits(self) -> tuple[pa.Table, str, pa.Table]:
        """What the run reads: visits in reading order, their identity, and a table of `source` and `length` for it."""
        raise TypeError(f"{type(self).__name__} does not define visits")

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

        tokens = Artifact(self.root / self.tokens)
        visits, subset, chosen = self.visits()
        order = self._order(visits, subset, tokens, scratch / "order")
        arrays = [np.asarray(read_token_shard(path)) for path in tokens.files(".npy")]
        plan = self.plan.model_copy(update={"seed": self.seed})
        facts = self._facts(subset, chosen)
        try:
            result = train(
                order, arrays, self._heldout(), self.model, plan, scratch / "run", device=device_of(self.number)
            )
        except TaskError as error:
            return ProxyResult(status="failed", reason=f"{error.what}: {error.found}", **facts)
        losses = {source: kinds["raw"].bits_per_byte for source, kinds in result.losses.items()}
        return ProxyResult(status="finished", losses=losses, read_tokens=result.tokens, **facts)

    def _order(self, visits: pa.Table, subset: str, tokens: Artifact, folder: Path) -> Order:
        shards = [f"{tokens.name}/{path.name}" for path in tokens.files(".npy")]
        identity = fingerprint([self.run_id, self.seed, subset])
        write_order(
            folder, visits, name=self.run_id, fingerprint=identity, config={}, inputs=[tokens.ref], shards=shards
        )
        return Order.open(folder)

    def _heldout(self) -> dict[str, Any]:
        from trainer_hooks.evaluation import HeldOut

        paths = Artifact(self.root / self.validation).files(".npy")
        return {read_docs(path)["source"][0].as_py(): HeldOut.from_shards([path]) for path in paths}

    def _facts(self, subset: str, chosen: pa.Table) -> dict[str, Any]:
        sums = chosen.group_by("source").aggregate([("length", "sum")]).sort_by("source").to_pylist()
        return {
            "run_id": self.run_id, "kind": self.kind, "shares": self.shares, "seed": self.seed,
            "subset": subset, "documents": chosen.num_rows, "tokens": sum(row["length_sum"] for row in sums),
            "tokens_by_source": {row["source"]: row["length_sum"] for row in sums},
        }  # fmt: skip


def train_proxies(shop: Workshop, name: str, work: Sequence[Proxy], inputs: Sequence[Artifact | InputRef]) -> Artifact:
    """Train proxies, one task each, into the artifact `name`, which holds a ProxyResult for each run id."""
    named: dict[str, Work] = {item.run_id: item for item in work}
    config = {item.run_id: item.identity() for item in sorted(work, key=lambda item: item.run_id)}
    return shop.build_tasks(name, "proxies", config=config, inputs=inputs, work=named)


def results_of(runs: Artifact) -> dict[str, ProxyResult]:
    """The results of an artifact of proxies, by run id."""
    return {result.run_id: result for result in map(read_result, runs.files(".json"))}


def write_heldout_shard(path: Path, rows: pa.Table, shards: Sequence[Any]) -> None:
    """Write documents that lie in other token shards as one shard of their own, to be measured on.

    Args:
        rows: `shard` (an index of `shards`), `start`, and the other columns of DOCS_SCHEMA.
        shards: arrays of token ids.
    """
    lengths = rows["length"].to_numpy().astype(np.int64)
    places = zip(rows["shard"].to_pylist(), rows["start"].to_pylist(), lengths.tolist(), strict=True)
    ids = np.concatenate([np.asarray(shards[shard][start : start + length]) for shard, start, length in places])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    columns = {"start": pa.array(starts), **{name: rows[name] for name in ("id", "length", "source", "n_bytes")}}
    write_token_shard(path, ids, pa.table({name: columns[name] for name in DOCS_SCHEMA.names}, DOCS_SCHEMA))


def read_result(path: Path) -> ProxyResult:
    """Read one run's result. Raises ArtifactError where it is not one."""
    try:
        return ProxyResult.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ArtifactError(
            "this is not a proxy's result", found=str(error.errors()[0]["msg"]), where=str(path)
        ) from None


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


def device_of(number: int) -> str:
    """Runs take turns on the GPUs of a machine, by their number in the design; the CPU where there is none."""
    import torch

    return f"cuda:{number % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"
