"""Measure finished weights: one pass over the held-out documents for each kind, kept document by document.

The losses of sets (sources, and the best documents) are sums over their documents, so whatever is asked later of
sources, tenths of the score or single documents needs no second pass.

    measures = measured(weights_of(run_folder, device), data, plan)
    measures.losses["web"]["sma"].bits_per_byte
    curve_of(run_folder)                                     # what was measured while training
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from torch import nn

from corpus.errors import ArtifactError, TaskError
from pipelines.experiments.heldout_nats import nats_by_set
from pipelines.experiments.item_scores import Questions
from pipelines.experiments.pool import StudyData
from pipelines.experiments.results import BEST, DOCUMENTS_SCHEMA, CurvePoint, ItemScore, SetLoss
from trainer_hooks.determinism import matmul_dtype, reproducible
from trainer_hooks.evaluation import HeldOut
from trainer_hooks.metrics import METRICS, read_lines
from trainer_hooks.plan import Plan

LN2 = log(2)
Floats = npt.NDArray[np.float64]
Models = Iterable[tuple[str, nn.Module]]
"""Names of weights with a model that has them, which need not be there before it is asked for."""


@dataclass(frozen=True)
class Measures:
    """What was measured of some kinds of weights.

    Args:
        losses: by held-out set and weights; documents: DOCUMENTS_SCHEMA; items: scores on questions, by weights.
    """

    losses: dict[str, dict[str, SetLoss]]
    documents: pa.Table
    items: dict[str, tuple[ItemScore, ...]]


def measured(models: Models, data: StudyData, plan: Plan, questions: Sequence[Questions] = ()) -> Measures:
    """Measure models on the held-out documents of a study, and on questions, as their plan says they compute.

    Raises TaskError, naming the weights, for a loss that is not finite.
    """
    sets = {name: one for name, one in data.heldout_sets().items() if name != BEST}
    nats: dict[str, dict[str, Floats]] = {}
    items: dict[str, tuple[ItemScore, ...]] = {}
    with reproducible(plan.threads, plan.deterministic):
        for weights, model in models:
            nats[weights] = nats_by_set(model, sets, plan)
            if questions:
                dtype = matmul_dtype(plan.precision, next(model.parameters()).device)
                items[weights] = tuple(score for one in questions for score in one.scores(model, dtype))
    return measures_of(nats, data, items)


def measures_of(
    nats: Mapping[str, Mapping[str, Floats]], data: StudyData, items: Mapping[str, tuple[ItemScore, ...]] | None = None
) -> Measures:
    """What nats of documents come to, wherever they were measured.

    Args:
        nats: by weights and source, of the documents of a set in its order, shape (documents,).

    Raises TaskError for nats that are not finite, ArtifactError for those of other documents.
    """
    heldout = _HeldOut(data.heldout_sets(), data.heldout_table())
    losses: dict[str, dict[str, SetLoss]] = {name: {} for name in heldout.names}
    tables = []
    for weights, by_source in nats.items():
        column = heldout.column(by_source)
        if not np.isfinite(column).all():
            raise TaskError("the held-out loss is not finite", found=f"of {weights} weights")
        for name in heldout.names:
            losses[name][weights] = heldout.loss(name, column)
        tables.append(heldout.documents(weights, column))
    return Measures(losses, pa.concat_tables(tables), dict(items or {}))


def curve_of(run: Path) -> tuple[CurvePoint, ...]:
    """What a run measured while it trained, in that order: a point for each place and kind of weights."""
    points: dict[tuple[int, str], dict[str, float]] = {}
    for line in read_lines(run / METRICS):
        if "heldout" in line:
            points.setdefault((line["tokens"], line["weights"]), {})[line["heldout"]] = line["nats_per_token"]
    return tuple(CurvePoint(tokens=at, weights=weights, losses=found) for (at, weights), found in points.items())


class _HeldOut:
    """Held-out sets by source beside the table of their documents, and sums over any of them."""

    def __init__(self, sets: dict[str, HeldOut], table: pa.Table) -> None:
        self._sets = {name: sets[name] for name in sorted(sets) if name != BEST}
        self._table = table
        self._rows = {name: _mask(pc.equal(table["source"], name)) for name in self._sets}
        self._predicted = self._spread({name: one.predicted() for name, one in self._sets.items()}, np.int64)
        self._masks = self._rows | ({BEST: _mask(table["best"])} if BEST in sets else {})
        self.names = list(self._masks)

    def column(self, nats: Mapping[str, Floats]) -> Floats:
        """Nats of the documents of each source, as those of the table's rows, shape (documents,)."""
        return self._spread({name: nats[name] for name in self._sets}, np.float64)

    def loss(self, name: str, nats: Floats) -> SetLoss:
        """The loss of a set."""
        mask, tokens, n_bytes = self._masks[name], *(self._table[key].to_numpy() for key in ("n_tokens", "n_bytes"))
        by_token = float(nats[mask].sum()) / int(self._predicted[mask].sum())
        bits = by_token * int(tokens[mask].sum()) / (LN2 * int(n_bytes[mask].sum()))
        return SetLoss(nats_per_token=by_token, bits_per_byte=bits)

    def documents(self, weights: str, nats: Floats) -> pa.Table:
        """DOCUMENTS_SCHEMA for one kind of weights."""
        made: dict[str, Any] = {
            "n_tokens": pa.array(self._predicted, pa.int32()), "nats": pa.array(nats),
            "weights": pa.array([weights] * len(nats), pa.string()),
        }  # fmt: skip
        columns = {name: made[name] if name in made else self._table[name] for name in DOCUMENTS_SCHEMA.names}
        return pa.table(columns, DOCUMENTS_SCHEMA)

    def _spread(self, by_source: Mapping[str, npt.NDArray[Any]], dtype: Any) -> npt.NDArray[Any]:
        """Values of the documents of each source, as a column of the table."""
        column = np.zeros(self._table.num_rows, dtype)
        for name, values in by_source.items():
            rows = self._rows[name]
            if int(rows.sum()) != len(values):
                raise ArtifactError(
                    f"the held-out documents of {name} are not those of the table",
                    expected=f"{len(values):,} documents", found=f"{int(rows.sum()):,} rows",
                )  # fmt: skip
            column[rows] = values
        return column


def _mask(column: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = column.to_numpy().astype(bool)
    return found
