"""Log the training loss of each quality decile of the data, in nats a token, as `quality_loss/1` (lowest) to `/10`.

Deciles hold equal token mass of what the plan reads, by the order's score. Their borders are found once, before the
first step, and are in every checkpoint. Documents of equal score are in one decile; those without a score are
`quality_loss/unscored`.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from corpus.errors import ConfigError
from trainer_hooks.hooks.base import Hook, Tensors, TrainingRun
from trainer_hooks.hooks.grouped_loss import BatchVisits, Floats, log_groups, mean_by_group
from trainer_hooks.hooks.kinds import QualityLoss
from trainer_hooks.loader import TokenOrder

DECILES = 10
NAMES = [*map(str, range(1, DECILES + 1)), "unscored"]
_VISITS_AT_ONCE = 122_880


class QualityLossHook(Hook):
    """Adds the mean loss of each decile to the facts of every n-th step."""

    kind = "quality_loss"

    def __init__(self, settings: QualityLoss) -> None:
        self.settings = settings
        self._visits = BatchVisits()
        self.borders: Floats | None = None

    def before_step(self, run: TrainingRun) -> None:
        """Find the deciles' borders, once in a run; the first rank reads the order for all."""
        if self.borders is None:
            borders = np.zeros(DECILES - 1)
            if run.parallel.first:
                borders = decile_borders(*_lengths_and_scores(run.loader.order, run.resolved.tokens))
            self.borders = run.parallel.sum(torch.from_numpy(borders).to(run.device)).cpu().numpy()

    def after_step(self, run: TrainingRun) -> None:
        """Group the step's losses by the decile of their documents."""
        if run.step % self.settings.every:
            return
        assert self.borders is not None
        visits, rows = self._visits.of(run)
        groups = deciles(visits["score"].to_numpy(), self.borders)
        log_groups(run, self.kind, NAMES, mean_by_group(run, rows, groups, len(NAMES)))

    def state(self) -> dict[str, Any]:
        """The borders, nine scores; null before the first step."""
        return {"borders": None if self.borders is None else self.borders.tolist()}

    def load(self, state: dict[str, Any], tensors: Tensors) -> None:
        """Take the borders of a checkpoint."""
        self.borders = None if state["borders"] is None else np.array(state["borders"])


def decile_borders(lengths: npt.NDArray[Any], scores: npt.NDArray[Any]) -> Floats:
    """The nine scores that part visits into ten groups of equal token mass, float64, rising.

    Args: lengths, scores: tokens and score of each visit; NaN means not scored and is left out.

    A decile reaches up to its border, inclusive. Raises ConfigError when no visit is scored.
    """
    scored = np.isfinite(scores)
    if not scored.any():
        raise ConfigError(
            "no visit of this order is scored, so there are no quality deciles",
            where="plan.hooks, quality_loss",
            fix="build the order from a score, or leave the hook out",
        )
    lengths, scores = lengths[scored], scores[scored]
    rising = np.argsort(scores, kind="stable")
    tokens = np.cumsum(lengths[rising], dtype=np.int64)
    marks = tokens[-1] * np.arange(1, DECILES) / DECILES
    return np.asarray(scores[rising][np.searchsorted(tokens, marks)], np.float64)


def deciles(scores: npt.NDArray[Any], borders: Floats) -> npt.NDArray[np.int64]:
    """The decile of each score, from 0 (lowest) to 9, and 10 where there is none."""
    return np.where(np.isfinite(scores), np.searchsorted(borders, scores), DECILES)


def _lengths_and_scores(order: TokenOrder, tokens: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Tokens within the plan and score of every visit that it reads."""
    first, stop = order.visits_between(0, tokens)
    lengths, scores = np.empty(stop - first, np.int64), np.empty(stop - first, np.float32)
    for a in range(first, stop, _VISITS_AT_ONCE):
        visits = order.visits(a, min(a + _VISITS_AT_ONCE, stop))
        rows = slice(a - first, a - first + len(visits))
        lengths[rows], scores[rows] = visits["length"].to_numpy(), visits["score"].to_numpy()
    excess = int(lengths.sum()) - tokens
    lengths[-1] -= max(0, excess)  # the last visit may reach beyond the plan
    return lengths, scores
