"""Log the training loss of each source, in nats a token, as `source_loss/NAME`.

The losses of a step are those of the weights before its update. A source that the step did not read has no line.
"""

import numpy as np

from trainer_hooks.hooks.base import Hook, TrainingRun
from trainer_hooks.hooks.grouped_loss import BatchVisits, log_groups, mean_by_group
from trainer_hooks.hooks.kinds import SourceLoss


class SourceLossHook(Hook):
    """Adds the mean loss of each source to the facts of every n-th step."""

    kind = "source_loss"

    def __init__(self, settings: SourceLoss) -> None:
        self.settings = settings
        self._visits = BatchVisits()

    def after_step(self, run: TrainingRun) -> None:
        """Group the step's losses by the source of their documents."""
        if run.step % self.settings.every:
            return
        visits, rows = self._visits.of(run)
        sources = visits["source"].to_pylist()
        names = sorted(set(sources))
        code = {name: number for number, name in enumerate(names)}
        groups = np.array([code[source] for source in sources], np.int64)
        log_groups(run, self.kind, names, mean_by_group(run, rows, groups, len(names)))
