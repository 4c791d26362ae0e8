"""What proxy runs found: share vectors and one loss each, joined by run id, with every failed run named.

Joining by position has misaligned vectors and losses in public code, and a failed run written as 0 is the best run of
all. Here a result belongs to a run id, a run without a loss is listed with its reason, and a table is kept in the
order of its ids, so the order in which results arrive changes nothing.

How it is used: `join_runs(design, results)`, or `run_table` for runs that were not drawn here; then
`mixtures.learned_shares.learn_shares`.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from corpus.config import nearest
from corpus.errors import InputError
from corpus.fingerprints import fingerprint
from mixtures.share_design import Design, Floats

OFF_ONE = 0.01  # rows that sum to one within this are rounded rows, and are divided by their sum
EXACT = 1e-12
BASELINES = ("uniform", "proportional")


@dataclass(frozen=True)
class RunTable:
    """Finished proxy runs, sorted by run id; build it with `join_runs` or `run_table`, which check it.

    Attributes:
        run_ids: n names, each once.
        shares: shape (n, K), each row sums to one.
        losses: shape (n,), finite; lower is better.
        kinds: n kinds as in the design; "uniform" and "proportional" mark the repeats of the baseline.
        failed: run id to the reason why there is no loss.
        design_hash: of the design the runs belong to, empty for runs drawn elsewhere.
    """

    run_ids: tuple[str, ...]
    shares: Floats
    losses: Floats
    kinds: tuple[str, ...]
    failed: dict[str, str] = field(default_factory=dict)
    design_hash: str = ""

    @property
    def is_repeat(self) -> npt.NDArray[np.bool_]:
        """Shape (n,): runs of the baseline, whose spread is the noise floor."""
        return np.array([kind in BASELINES for kind in self.kinds], bool)

    @property
    def hash(self) -> str:
        """Identity of ids, shares and losses, 16 hex digits."""
        return fingerprint([list(self.run_ids), self.shares.tolist(), self.losses.tolist()])


def join_runs(design: Design, results: Mapping[str, float | str | None]) -> RunTable:
    """Join each run of a design to its result by run id.

    Args:
        design: the runs that were asked for.
        results: run id to its loss, or to the reason (text) why it has none. A run that is absent, null, or whose loss
            is not finite is listed in `failed`; it is never a number.

    Raises:
        InputError: a result for a run the design does not hold, or no run with a loss.
    """
    known = {row.run_id for row in design.rows}
    if strangers := sorted(set(results) - known):
        raise InputError(
            f"there is a result for run {strangers[0]!r}, which the design does not hold{nearest(strangers[0], known)}",
            expected=f"runs of design {design.hash}",
            found=f"{len(strangers)} unknown of {len(results)} results",
            fix="join each result with the design it was trained for",
        )
    read = {row.run_id: _loss_or_reason(results.get(row.run_id, "no result")) for row in design.rows}
    failed = {run_id: found for run_id, found in read.items() if isinstance(found, str)}
    rows = [row for row in design.rows if row.run_id not in failed]
    ids, kinds = [row.run_id for row in rows], [row.kind for row in rows]
    losses = [read[run_id] for run_id in ids]
    return run_table(ids, [row.shares for row in rows], losses, kinds=kinds, failed=failed, design_hash=design.hash)


def run_table(
    run_ids: Sequence[str],
    shares: npt.ArrayLike,
    losses: npt.ArrayLike,
    *,
    kinds: Sequence[str] | None = None,
    failed: Mapping[str, str] | None = None,
    design_hash: str = "",
) -> RunTable:
    """A checked table from columns that belong together row by row, sorted by run id.

    Rows of shares that sum to one within 1 % (printed tables are rounded) are divided by their sum.

    Raises InputError for no rows, columns of different length, a run id given twice, a loss that is not finite, or a
    row that is no share vector.
    """
    ids, x, y = list(run_ids), np.array(shares, np.float64), np.array(losses, np.float64)
    named = list(kinds) if kinds is not None else ["dirichlet"] * len(ids)
    if not ids:
        reasons = Counter((failed or {}).values()).most_common(3)
        found = ", ".join(f"{n} times {reason!r}" for reason, n in reasons)
        raise InputError("no run has a loss", found=found or "no runs", fix="mend the cause and train the runs again")
    if x.ndim != 2 or y.shape != (len(ids),) or len(x) != len(ids) or len(named) != len(ids):
        raise InputError(
            "the columns of a run table do not belong together",
            expected="one row of shares, one loss and one kind for each run id",
            found=f"{len(ids)} ids, shares of shape {x.shape}, losses of shape {y.shape}, {len(named)} kinds",
        )
    if twice := [run_id for run_id, n in Counter(ids).items() if n > 1]:
        raise InputError(f"run {twice[0]!r} stands in the table more than once", found=f"{len(twice)} such ids")
    _check_rows(ids, x, y)
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return RunTable(
        run_ids=tuple(ids[i] for i in order),
        shares=_normalised(x)[order],
        losses=y[order],
        kinds=tuple(named[i] for i in order),
        failed=dict(sorted((failed or {}).items())),
        design_hash=design_hash,
    )


def _loss_or_reason(result: float | str | None) -> float | str:
    """A finite loss, or why there is none."""
    if isinstance(result, str):
        return result or "failed without a reason"
    if result is None:
        return "no loss"
    return float(result) if math.isfinite(result) else f"its loss is {result}"


def _normalised(x: Floats) -> Floats:
    """Rows divided by their sum, but for those that sum to one already: once or twice gives the same bits."""
    total = x.sum(axis=1, keepdims=True)
    return np.where(np.abs(total - 1) < EXACT, x, x / total)


def _check_rows(ids: list[str], x: Floats, y: Floats) -> None:
    for run_id, row, loss in zip(ids, x, y, strict=True):
        if not math.isfinite(loss):
            raise InputError(f"the loss of run {run_id!r} is {loss}", fix="give failed runs as failed, with a reason")
        if not np.all(np.isfinite(row)) or row.min() < 0 or abs(row.sum() - 1) > OFF_ONE:
            raise InputError(
                f"the shares of run {run_id!r} are no share vector",
                expected="numbers of zero or more that sum to one",
                found=f"smallest {row.min():g}, sum {row.sum():g}",
            )
