"""Leave out steps whose loss or gradient norm stands out, such as a batch of damaged documents.

A step is compared with the running median of the steps taken before it. It is left out, with its batch, when it is too
many robust standard deviations above (`score`) or too many times as large (`ratio`). After some in a row the next step
is taken and the window begins anew: then the data have changed, and it is no spike. A step that is left out has its
reason in its line of metrics.jsonl (`skipped`) and in events.jsonl.
"""

import math
from typing import Any

import numpy as np

from trainer_hooks.hooks.base import Hook, Tensors, TrainingRun
from trainer_hooks.hooks.kinds import Spikes

ROBUST = 1.4826  # median absolute deviation to standard deviation, for normal values
LEAST_SPREAD = 1e-3  # of the median: values that hardly vary are no reason to call a small step a spike


class SpikesHook(Hook):
    """Vetoes steps; it remembers the windows and how many steps it has left out."""

    kind = "spikes"

    def __init__(self, settings: Spikes) -> None:
        self.settings = settings
        self.windows: dict[str, list[float]] = {name: [] for name in settings.watch}
        self.in_a_row = 0
        self.left_out = 0

    def veto(self, run: TrainingRun) -> str | None:
        """Why the step is left out, or None; a step that is taken enters the windows."""
        values = {name: float(getattr(run, name)) for name in self.settings.watch}
        if not all(map(math.isfinite, values.values())):
            return None  # the plan says what becomes of these
        reasons = [reason for name, value in values.items() if (reason := self._reason(name, value))]
        if reasons and self.in_a_row < self.settings.most_in_a_row:
            self.in_a_row += 1
            self.left_out += 1
            return f"spike: {'; '.join(reasons)}"
        if reasons:
            run.note("spikes", taken_after=self.in_a_row, reason="; ".join(reasons), left_out=self.left_out)
            self.windows = {name: [] for name in self.windows}
        self.in_a_row = 0
        for name, value in values.items():
            self.windows[name] = [*self.windows[name], value][-self.settings.window :]
        return None

    def state(self) -> dict[str, Any]:
        """The windows and the counts."""
        return {"windows": self.windows, "in_a_row": self.in_a_row, "left_out": self.left_out}

    def load(self, state: dict[str, Any], tensors: Tensors) -> None:
        """Go on with the windows of a checkpoint; what the settings no longer watch is dropped."""
        for name in self.windows:
            self.windows[name] = list(state["windows"].get(name, []))
        self.in_a_row, self.left_out = int(state["in_a_row"]), int(state["left_out"])

    def _reason(self, name: str, value: float) -> str | None:
        window = self.windows[name]
        if len(window) < self.settings.warmup:
            return None
        median, spread = median_and_spread(window)
        if self.settings.rule == "ratio":
            found, unit = (value / median if median > 0 else 0.0), "times the median"
        else:
            found, unit = (value - median) / spread if spread > 0 else 0.0, "deviations above the median"
        if found <= self.settings.limit:
            return None
        return f"{name} {value:.6g} is {found:.3g} {unit} {median:.6g} of {len(window)} steps"


def median_and_spread(values: list[float]) -> tuple[float, float]:
    """The median, and 1.4826 times the median distance from it, at least a thousandth of the median."""
    median = float(np.median(values))
    deviation = float(np.median(np.abs(np.asarray(values) - median)))
    return median, max(ROBUST * deviation, LEAST_SPREAD * abs(median))
