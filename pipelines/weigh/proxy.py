"""One proxy of a weighting: select what it ranks highest, and train on that (`pipelines.proxies`)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corpus.errors import ConfigError
from corpus.fingerprints import fingerprint
from corpus.keyed_random import digests, keyed_uniforms
from corpus.shards import read_table
from curriculum.arrange import arrange
from curriculum.order import NAMES
from curriculum.policies.shuffled import Shuffled
from curriculum.visits import VISIT_SCHEMA
from pipelines.combining import COMPOSITE
from pipelines.proxies import Proxy, in_pieces
from pipelines.weigh.pool import HELD_OUT
from raters.composite import read_composite
from raters.select import take_budget
from trainer_hooks.plan import Plan


@dataclass(frozen=True, kw_only=True)
class WeighProxy(Proxy):
    """A proxy whose shares are weights of scores, None for a subset drawn at random.

    Args:
        budget: tokens of the subset; tie_seed: decides between equal scores.
    """

    budget: int
    tie_seed: int

    def identity(self) -> dict[str, Any]:
        """What decides this run's result."""
        return {**super().identity(), "budget": self.budget, "tie_seed": self.tie_seed}

    def visits(self) -> tuple[pa.Table, str, pa.Table]:
        """The subset in pieces of a sequence's length, shuffled by the run's seed.

        A proxy's batch is a few thousand tokens: whole documents in a row would fill it with one text, and what the
        last batches happen to hold would decide the loss. Pieces of two subsets come in the same relative order.
        """
        chosen = self._select(read_table(self.root / "weigh/pool/pool.parquet"))
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
        return visits, fingerprint(chosen["id"].to_pylist()), chosen

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
