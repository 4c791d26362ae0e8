"""Move the shares of sources while a run reads, by its losses on each, and decide the order as it goes.

The run's order gives the sources' visits; this hook puts an `OnlineOrder` of them in its place, which is laid from one
update to the next. Losses are means since the last update (`measure: training`), or those of held-out sets at each
evaluation. A source that was not read since has the loss it had; before every source has one, and where a loss is not
finite, shares stay as they are. Every rank follows the same sums, so every rank lays the same order.

Beside the run: `online_shares.jsonl`, the log of updates, and at the end `order/`, what was read, as an ordinary order.
"""

import math
from typing import Any

import numpy as np

from corpus.errors import ConfigError
from curriculum.order import Order
from mixtures.online_shares import LogRow, OnlineLog, OnlineShares, mean_shares, write_log
from trainer_hooks.hooks.base import Hook, Tensors, TrainingRun
from trainer_hooks.hooks.grouped_loss import sums_by_group
from trainer_hooks.hooks.kinds import OnlineMixture
from trainer_hooks.lengths import half_up
from trainer_hooks.online_order import OnlineOrder

LOG_FILE, ORDER_FOLDER = "online_shares.jsonl", "order"


class OnlineMixtureHook(Hook):
    """Follows one policy, and lays the run's order by its shares."""

    kind = "online_mixture"

    def __init__(self, settings: OnlineMixture) -> None:
        """Everything else follows from the run, at its start."""
        self.settings = settings
        self.order: OnlineOrder
        self.shares: OnlineShares
        self._decided = 0  # tokens of the stream that were asked for; the last visit may reach over
        self._log_is_ours = False

    def start(self, run: TrainingRun) -> None:
        """Put an online order in the place of the run's, and lay what is read before the first update.

        Raises ConfigError for an order that cannot be taken apart by source, or sources that do not fit the settings.
        """
        base, settings = run.loader.order, self.settings
        if not isinstance(base, Order) or run.loader.skip:
            raise ConfigError(
                "an online mixture is made of a plain order, read from its start to its end",
                found=f"{type(base).__name__}{', with samples to skip' if run.loader.skip else ''}",
                fix="give the run the order that a mixture or a policy wrote",
            )
        names = list(settings.shares or base.artifact.manifest.totals["tokens_by_source"])
        self.order = OnlineOrder(
            base, names, run.resolved.tokens + 1,
            piece_tokens=settings.piece_tokens, passes=settings.passes, exhausted=settings.exhausted,
        )  # fmt: skip
        first = tuple((settings.shares or {}).values()) or self.order.first_shares
        self.shares = OnlineShares(names, settings.policy, first)
        self._every = self._steps_between(run)
        self._measured = list(settings.heldout or names)
        self._check_measured()
        self._sums = np.zeros((2, len(names)))
        self._known: list[float | None] = [None] * len(names)
        run.loader.order = self.order
        self._extend(run)

    def after_step(self, run: TrainingRun) -> None:
        """Note the shares the step was read under and, where training losses are followed, take them in."""
        for name, share in self.shares.shares.items():
            run.facts[f"{self.kind}/{name}"] = share
        last = run.step == run.resolved.steps
        if self.settings.measure == "training":
            self._take_in(run)
            if run.step % self._every == 0 and not last:
                self._update(run, self._training_losses())
        if last:
            self._finish(run)

    def after_evaluation(self, run: TrainingRun, losses: dict[str, dict[str, float]]) -> None:
        """Where held-out losses are followed, move the shares by those of the raw weights."""
        if self.settings.measure != "heldout" or run.step == run.resolved.steps:
            return
        missing = [name for name in self._measured if name not in losses]
        if missing:
            raise ConfigError(
                f"there is no held-out set {missing[0]!r} for an online mixture to follow",
                expected=", ".join(self._measured),
                found=", ".join(losses) or "no held-out sets",
                fix="name the sets in heldout, or follow training losses: measure: training",
            )
        self._update(run, [losses[name]["raw"] for name in self._measured])

    def state(self) -> dict[str, Any]:
        """The log of shares, the policy's memory, and the losses since the last update."""
        return {"shares": self.shares.state_dict(), "sums": self._sums.tolist(), "known": self._known,
                "decided": self._decided}  # fmt: skip

    def load(self, state: dict[str, Any], tensors: Tensors) -> None:
        """Take the shares up where they were, and lay the order again as it was read."""
        self.shares.load_state_dict(state["shares"])
        self._sums, self._known = np.array(state["sums"], np.float64), list(state["known"])
        self._decided = int(state["decided"])
        self.order.follow(self.shares.log, self._decided)
        self._log_is_ours = False

    # ---- losses

    def _take_in(self, run: TrainingRun) -> None:
        """Add the step's losses; a step whose loss is not finite is left out."""
        numbers, _ = run.loader.visit_numbers(run.batch.number)
        found = sums_by_group(run, self.order.sources_of(numbers.numpy()), len(self.order.names))
        if np.isfinite(found).all():
            self._sums += found

    def _training_losses(self) -> list[float]:
        """Nats a token of each source since the last update, or what was known before; NaN for none at all."""
        sums = zip(*self._sums.tolist(), self._known, strict=True)
        self._known = [total / n if n else known for total, n, known in sums]
        self._sums[:] = 0
        return [math.nan if loss is None else loss for loss in self._known]

    # ---- shares

    def _update(self, run: TrainingRun, losses: list[float]) -> None:
        """Move the shares by a loss of each source or target, log it, and lay the order on to the next update."""
        if all(map(math.isfinite, losses)):
            reference = self.settings.reference or {}
            signal = [loss - reference.get(name, 0.0) for name, loss in zip(self._measured, losses, strict=True)]
            self.shares.update(run.tokens, signal)
            if run.parallel.first:
                self._write_update(run, signal)
        else:
            run.note("online_mixture", left_out="a source without a finite loss")
        self._extend(run)

    def _extend(self, run: TrainingRun) -> None:
        """Lay the order up to the target of the last step before the next update."""
        next_update = (run.step // self._every + 1) * self._every
        self._decided = min(next_update, run.resolved.steps) * run.resolved.step_tokens + 1
        self.order.extend(tuple(self.shares.shares.values()), self._decided)

    def _write_update(self, run: TrainingRun, signal: list[float]) -> None:
        """Add a line to the log; the first one of this process writes it whole, without what a killed run left."""
        path = run.folder / LOG_FILE
        if not self._log_is_ours:
            write_log(path, self.shares.log)
            self._log_is_ours = True
            return
        row = LogRow(tokens=run.tokens, signal=tuple(signal), shares=tuple(self.shares.shares.values()))
        with path.open("a", encoding="utf-8") as file:
            file.write(row.model_dump_json() + "\n")

    def _finish(self, run: TrainingRun) -> None:
        """Leave the log whole, the mean shares, and what was read as an order."""
        if not run.parallel.first:
            return
        log: OnlineLog = self.shares.log
        write_log(run.folder / LOG_FILE, log)
        run.note("online_mixture", updates=len(log.rows), **({"mean_shares": mean_shares(log)} if log.rows else {}))
        if self.settings.write_order:
            self.order.write(run.folder / ORDER_FOLDER, name=f"orders/{run.folder.name}", log=log)

    # ---- settings

    def _steps_between(self, run: TrainingRun) -> int:
        """Steps from one update to the next."""
        every, resolved = self.settings.every, run.resolved
        if every is None:
            each_step = self.settings.policy.kind == "ado" and self.settings.measure == "training"
            return 1 if each_step else resolved.eval_every_steps
        steps = half_up(every.of(resolved.plan.tokens) / resolved.step_tokens)
        if steps < 1:
            raise ConfigError("an online mixture moves its shares after whole steps", found=f"every: {every}",
                              expected=f"at least {resolved.step_tokens:,} tokens", where="plan.hooks")  # fmt: skip
        return steps

    def _check_measured(self) -> None:
        """The reference names every source, and a policy's signal has a number for each."""
        reference, policy = self.settings.reference, self.settings.policy
        if reference is not None and set(reference) != set(self._measured):
            raise ConfigError("the reference of an online mixture does not fit its sources", where="reference",
                              expected=", ".join(self._measured), found=", ".join(reference))  # fmt: skip
        expected = len(policy.graph[0]) if policy.kind == "skill_it" else len(self.order.names)
        if len(self._measured) != expected:
            raise ConfigError("an online mixture measures other things than its policy follows", where="heldout",
                              expected=f"{expected} sets", found=", ".join(self._measured))  # fmt: skip
