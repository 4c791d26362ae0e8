"""The mean training loss of groups of documents in one step, over all ranks.

A token's loss counts for the document of the token that was read, so the first token of a document counts for the one
before it, unless the plan masks documents. Padding and targets that are not predicted count nowhere.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from trainer_hooks.hooks.base import TrainingRun

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
STEPS_AHEAD = 64


class BatchVisits:
    """The document visits of each step's batch, whose table is read for many steps at once."""

    def __init__(self) -> None:
        """Nothing is read yet."""
        self._first = self._stop = 0
        self._table: pa.Table | None = None

    def of(self, run: TrainingRun) -> tuple[pa.Table, Rows]:
        """The visits of the run's global batch, and the row of each token on this rank in them, -1 in padding."""
        order, size = run.loader.order, run.resolved.step_tokens
        a = run.batch.number * size
        first, stop = order.visits_between(a, a + size)
        if self._table is None or first < self._first or stop > self._stop:
            known = getattr(order, "decided_tokens", order.n_tokens)  # an online mixture decides as it goes
            self._first, self._stop = first, order.visits_between(a, min(a + STEPS_AHEAD * size, known))[1]
            self._table = order.visits(self._first, self._stop)
        numbers = run.loader.visit_numbers(run.batch.number)[0].numpy()
        return self._table.slice(first - self._first, stop - first), np.where(numbers < 0, -1, numbers - first)


def mean_by_group(run: TrainingRun, rows: Rows, group_of_visit: Rows, groups: int) -> Floats:
    """Mean nats a token of each group in the run's batch, shape (groups,), NaN for a group without tokens.

    Args:
        rows: the visit of each token, of the batch's shape, -1 in padding, as `BatchVisits` gives them.
        group_of_visit: (visits,) in [0, groups).
    """
    total, count = sums_by_group(run, np.where(rows < 0, -1, group_of_visit[rows]), groups)
    with np.errstate(invalid="ignore"):
        means: Floats = total / count
    return means


def sums_by_group(run: TrainingRun, group_of_token: npt.ArrayLike, groups: int) -> Floats:
    """The sum of losses of each group in the run's batch, in nats, and its tokens, shape (2, groups), over all ranks.

    `group_of_token` has the shape of the batch: groups in [0, groups), -1 in padding.
    """
    group = np.asarray(group_of_token).ravel()
    counted = (group >= 0) & (run.batch.targets.detach().cpu().numpy().ravel() != -100)
    losses = run.batch.losses.detach().cpu().numpy().ravel()[counted]
    sums = np.stack([np.bincount(group[counted], losses, groups), np.bincount(group[counted], minlength=groups)])
    found: Floats = run.parallel.sum(torch.from_numpy(sums).to(run.device)).cpu().numpy()
    return found


def log_groups(run: TrainingRun, kind: str, names: list[str], means: Floats) -> None:
    """Add the groups that had tokens to the step's facts, as `kind/name`."""
    for name, mean in zip(names, means.tolist(), strict=True):
        if mean == mean:
            run.facts[f"{kind}/{name}"] = mean
