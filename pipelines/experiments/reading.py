"""What a run reads: its mixture drawn from the pool, put in order, written as an order; and what that comes to.

The seed of a run decides the draw, ties and shuffles. The order's fingerprint is that of its content, so two runs that
read the same tokens in the same sequence have equal ones, whatever their arms are called.

How it is used: `order = write_run_order(data, run, folder)`; `reading_of(data, run, order)`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from corpus.rank_correlation import spearman
from curriculum.arrange import stream
from curriculum.duckdb_engine import DuckDBEngine
from curriculum.order import Order, as_order, write_order
from curriculum.policies.base import OrderPolicy
from curriculum.policies.shuffled import Shuffled
from curriculum.visits import multiset
from mixtures.draw import draw
from pipelines.experiments.arms import Run
from pipelines.experiments.drawing import by_document, counted_out, run_candidates
from pipelines.experiments.pool import StudyData
from pipelines.experiments.results import Reading
from pipelines.experiments.study import SCORE
from pipelines.ordering import in_pieces
from pipelines.phase_orders import phase_orders
from trainer_hooks.plan_order_checks import PlannedData, masses, scored
from trainer_hooks.resolution import resolve

Floats = npt.NDArray[np.float64]
_DIGITS = 6  # of percentages and correlations: what lies below them differs between machines


def write_run_order(data: StudyData, run: Run, folder: Path) -> Order:
    """Write the order of a run into a folder: the same files for the same data, arm and seed.

    Raises MixtureError where the pool cannot fill the mixture, OrderError where its visits cannot be arranged so.
    """
    settings = run.arm.settings
    candidates = run_candidates(data.pool_table(), settings, run.seed)
    allocation = counted_out(candidates, settings)
    drawn = draw(candidates, allocation, run.seed)
    policies = run_policies(settings.order, allocation.phases, run.seed)
    visits = in_pieces(drawn, policies)
    batches = stream(visits, policies, phases=allocation.phases, engine=DuckDBEngine())
    table = as_order(pa.Table.from_batches(batches))
    shards = data.shard_names()
    write_order(
        folder, table, name=run.id, fingerprint=_content(data, table), config={},
        inputs=[item.ref for item in data.token_artifacts()], shards=shards,
    )  # fmt: skip
    return Order.open(folder)


def run_policies(
    order: OrderPolicy | Mapping[str, OrderPolicy], phases: tuple[str, ...], seed: int
) -> dict[str, OrderPolicy]:
    """The policy of each phase under a run's seed; a phase that nothing is said of is shuffled.

    Raises ConfigError for phases that the mixture does not have.
    """
    found = phase_orders(order, dict.fromkeys(phases, Shuffled()))
    return {phase: _seeded(policy, seed) for phase, policy in found.items()}


def reading_of(data: StudyData, run: Run, order: Order) -> Reading:
    """What a run reads within its plan, and how its learning rate falls on it."""
    resolved, table = resolve(run.arm.settings.plan), order.table()
    scores = _scores(data, table)
    place = table.schema.get_field_index("score")
    planned = PlannedData.of(table.set_column(place, "score", pa.array(scores.astype(np.float32), from_pandas=True)))
    read = planned.part(0, resolved.tokens)
    by_source = np.bincount(planned.source, read, len(planned.sources))
    known = ~np.isnan(planned.scores)
    rho = spearman(np.flatnonzero(known), planned.scores[known]) if known.any() else None
    mass = masses(resolved, planned) if scored(planned, resolved) else {}
    return Reading(
        order=order.fingerprint, visits=order.n_visits, tokens=resolved.tokens, multiset=multiset(table),
        tokens_by_source=dict(sorted(zip(planned.sources, by_source.astype(int).tolist(), strict=True))),
        mean_visits=round(order.n_tokens / _distinct(table), _DIGITS),
        rate_mass={name: tuple(round(100 * float(x), _DIGITS) for x in shares) for name, shares in mass.items()},
        spearman=None if rho is None else round(rho, _DIGITS),
    )  # fmt: skip


def _seeded(policy: OrderPolicy, seed: int) -> OrderPolicy:
    """A policy under a run's seed, on top of its own; by `length` it orders by the whole document's."""
    changes: dict[str, Any] = {"seed": policy.seed + seed}
    by = getattr(policy, "by", None)
    if by is not None:
        changes["by"] = by_document(by) if isinstance(by, str) else tuple(by_document(name) for name in by)
    changes |= {name: _seeded(part, seed) for name in ("first", "last")
                if isinstance(part := getattr(policy, name, None), OrderPolicy)}  # fmt: skip
    return policy.model_copy(update=changes)


def _content(data: StudyData, table: pa.Table) -> str:
    """The identity of the visits in their sequence: where each lies in which tokens, and which reading it is."""
    digest = xxhash.xxh3_64()
    for item in data.token_artifacts():
        digest.update(f"{item.name} {item.manifest.fingerprint}\n".encode())
    for name in ("shard", "doc", "start", "length", "visit"):
        digest.update(np.ascontiguousarray(table[name].to_numpy().astype("<i8")).data)
    return digest.hexdigest()


def _scores(data: StudyData, table: pa.Table) -> Floats:
    """The score of each visit's document, shape (visits,), NaN where there is none."""
    pool = data.pool_table()
    if SCORE not in pool.column_names:
        return np.full(table.num_rows, np.nan)
    keys, first = np.unique(_document(pool), return_index=True)
    values = pool[SCORE].cast(pa.float64()).to_numpy()
    return np.asarray(values[first][np.searchsorted(keys, _document(table))])


def _document(table: pa.Table) -> npt.NDArray[np.int64]:
    shard, doc = (table[name].to_numpy().astype(np.int64) for name in ("shard", "doc"))
    return np.asarray((shard << 32) + doc)


def _distinct(table: pa.Table) -> int:
    """How many different tokens the visits hold."""
    shard, start = (table[name].to_numpy().astype(np.int64) for name in ("shard", "start"))
    line = np.lexsort([start, shard])
    begin = (shard[line] << 44) + start[line]  # shards follow each other, far apart
    reach = np.maximum.accumulate(begin + table["length"].to_numpy()[line])
    before = np.concatenate([begin[:1], reach[:-1]])
    return int(np.maximum(reach - np.maximum(begin, before), 0).sum())
