"""Search the learning rate while training: per stage, try some, take the trials back, train on with the best.

At the start of a stage the run is copied. From that copy each candidate takes the same first batches of the stage, its
loss at the stage's end is forecast from them, and the run is put back bit for bit; then the stage is trained with the
candidate of the lowest forecast. Stages double up to a longest; from then on a trial is judged by the held-out loss,
where the run has one, and by the training loss elsewhere (events.jsonl says which). Candidates are factors on the
plan's curve, chosen by a Gaussian process over their logarithm. Trial steps run without the other hooks.

The search happens between two steps, so a checkpoint is never inside it: a resumed run goes on with the chosen rate, or
starts the search of its next stage. A run that is asked to end (SIGTERM) ends after the search and one step more; one
that is killed in a search begins it again. Source: AutoLRS, arXiv 2105.10762.
"""

import math
from itertools import islice
from typing import Any

import numpy as np

from corpus.errors import ConfigError, TaskError
from trainer_hooks.curves import step_learning_rates
from trainer_hooks.hooks.base import Hook, StepBatch, Tensors, TrainingRun, in_steps
from trainer_hooks.hooks.gaussian_process import lowest_bound
from trainer_hooks.hooks.kinds import LrSearch
from trainer_hooks.hooks.loss_forecast import LEAST_POINTS, forecast

EVALUATIONS = 16  # of the held-out sets in one trial


class LrSearchHook(Hook):
    """Sets the rate of every step within its stages; it remembers the stage under way."""

    kind = "lr_search"

    def __init__(self, settings: LrSearch) -> None:
        self.settings = settings
        self.stage = 0  # stages begun
        self.begin = self.end = 0  # the stage under way, in steps
        self.factor = 1.0
        self.tried: list[tuple[float, float | None]] = []  # factors and forecasts of this stage; None: diverged
        self.trial_steps = 0

    def start(self, run: TrainingRun) -> None:
        """Check that trials are long enough to forecast from. Raises ConfigError."""
        first = in_steps(self.settings.stage, run.resolved)
        if self._trial(first) < LEAST_POINTS:
            raise ConfigError(
                f"trials of {self._trial(first)} steps are too short to forecast a loss from",
                expected=f"at least {LEAST_POINTS} steps",
                found=f"a stage of {first} steps, and a trial of {self.settings.trial:g} of it",
                where="plan.hooks, lr_search",
                fix="lengthen stage, or raise trial",
            )

    def before_step(self, run: TrainingRun) -> None:
        """Search at the start of a stage; then multiply the step's rate by the stage's factor."""
        until = min(in_steps(self.settings.until, run.resolved), run.resolved.steps)
        if not in_steps(self.settings.after, run.resolved) <= run.step < until:
            return
        if self.stage == 0 or run.step >= self.end:
            length = self._length(self.stage + 1, run)
            self.stage, self.begin, self.end = self.stage + 1, run.step, min(run.step + length, until)
            self._search(run, length)
        run.rate *= self.factor
        run.facts["lr_search/factor"] = self.factor

    def state(self) -> dict[str, Any]:
        """The stage, its observations, the chosen factor and how many trial steps there were."""
        return {
            "stage": self.stage,
            "begin": self.begin,
            "end": self.end,
            "factor": self.factor,
            "tried": [list(pair) for pair in self.tried],
            "trial_steps": self.trial_steps,
        }

    def load(self, state: dict[str, Any], tensors: Tensors) -> None:
        """Go on in the stage of a checkpoint."""
        self.stage, self.begin, self.end = int(state["stage"]), int(state["begin"]), int(state["end"])
        self.factor, self.trial_steps = float(state["factor"]), int(state["trial_steps"])
        self.tried = [(factor, loss) for factor, loss in state["tried"]]

    def _length(self, stage: int, run: TrainingRun) -> int:
        first, longest = (in_steps(length, run.resolved) for length in (self.settings.stage, self.settings.longest))
        return int(min(first * 2 ** (stage - 1), max(first, longest)))

    def _trial(self, length: int) -> int:
        return int(self.settings.trial * length)

    def _search(self, run: TrainingRun, length: int) -> None:
        """Try the candidates and choose; a rest of the run too short for a trial keeps the factor before it."""
        numbers = list(islice(run.loader.steps(), min(self._trial(length), self.end - self.begin)))
        if len(numbers) < LEAST_POINTS:
            run.note("lr_search", stage=self.stage, factor=self.factor, searched=False)
            return
        by_heldout = length >= in_steps(self.settings.longest, run.resolved) and run.heldout_loss() is not None
        copy, rate = run.snapshot(), run.rate
        self.tried = []
        for _ in range(self.settings.candidates):
            factor = self._candidate(run)
            loss = self._try(run, factor, numbers, by_heldout)
            self.tried.append((factor, loss if math.isfinite(loss) else None))
            run.restore(copy)
            run.rate = rate
        self.factor = self._best(run)
        run.note(
            "lr_search",
            stage=self.stage,
            until=self.end,
            objective="held-out loss" if by_heldout else "training loss",
            tried=[list(pair) for pair in self.tried],
            factor=self.factor,
            trial_steps=self.trial_steps,
        )

    def _candidate(self, run: TrainingRun) -> float:
        """The next factor to try: 1 first, then where the process is least sure or expects least; from rank 0."""
        if not self.tried:
            return 1.0
        low, width = math.log(self.settings.low), math.log(self.settings.high / self.settings.low)
        x = np.array([(math.log(factor) - low) / width for factor, _ in self.tried])
        known = [loss for _, loss in self.tried if loss is not None] or [0.0]
        worst = 2 * max(known) - min(known)  # what diverged is worse than all others, but not endlessly
        y = np.array([worst if loss is None else loss for _, loss in self.tried])
        factor = math.exp(low + width * lowest_bound(x, y, self.settings.kappa))
        return float(run.parallel.told(min(max(factor, self.settings.low), self.settings.high)))

    def _best(self, run: TrainingRun) -> float:
        finite = [(loss, factor) for factor, loss in self.tried if loss is not None]
        if not finite:
            raise TaskError(
                f"train: every learning rate tried at step {run.step} made the loss diverge",
                where="plan.hooks, lr_search",
                found=f"factors {min(f for f, _ in self.tried):.3g} to {max(f for f, _ in self.tried):.3g} of the "
                f"plan's rate {run.rate:g}",
                fix="lower peak_lr, or low",
            )
        return float(run.parallel.told(min(finite)[1]))

    def _try(self, run: TrainingRun, factor: float, numbers: list[int], by_heldout: bool) -> float:
        """The forecast loss at the end of the stage after trial steps on these batches; inf where they diverge."""
        rates = step_learning_rates(run.resolved)[self.begin : self.begin + len(numbers)] * factor
        every = max(1, len(numbers) // EVALUATIONS) if by_heldout else 1
        losses, positions = [], []
        for position, (number, rate) in enumerate(zip(numbers, rates.tolist(), strict=True)):
            loss, norm = trial_step(run, run.read_batch(number), rate)
            self.trial_steps += 1
            if not (math.isfinite(loss) and math.isfinite(norm)):
                return math.inf
            if by_heldout and (position + 1) % every == 0:
                loss = run.heldout_loss() or math.inf
            if (position + 1) % every == 0:
                losses.append(loss)
                positions.append(position)
        return forecast(losses, self.end - self.begin, positions)


def trial_step(run: TrainingRun, batch: StepBatch, rate: float) -> tuple[float, float]:
    """One optimizer step on a batch at a rate, without hooks; the loss and the gradient norm before clipping.

    A step whose loss or norm is not finite is not taken.
    """
    loss = run.forward_backward(batch)
    norm = run.clip()
    if math.isfinite(loss) and math.isfinite(norm):
        run.rate = rate
        run.update()
    run.optimizer.zero_grad()
    return loss, norm
