"""Train a decoder on an order under a plan, so that a killed run continues to the same bits.

The learning rate is a function of tokens seen, the loader's state is one integer, and averages and hooks are in the
checkpoint; nothing else can drift. `kill -9` and the same call give the same losses, weights, averages and metrics
lines as an undisturbed run on the same machine. There is no dropout, so no random state is kept.

A run folder holds plan.yaml, metrics.jsonl, checkpoints/ and averages/; times are in events.jsonl.

    result = train(order, token_arrays, {"web": HeldOut.from_shards(paths)}, ModelConfig(vocabulary=4096), plan, folder)
    result.losses["web"]["raw"].bits_per_byte

Under `torchrun` every process makes the same call. To use only the parts, see `trainer_hooks.curves`,
`trainer_hooks.averaging` and `trainer_hooks.loader`.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from corpus.errors import TaskError
from corpus.events import EVENTS
from trainer_hooks.checkpoints import Checkpoints, checkpoint_path, checkpoints_in
from trainer_hooks.determinism import reproducible
from trainer_hooks.evaluation import HeldOut, Loss
from trainer_hooks.loader import TokenOrder
from trainer_hooks.metric_sinks import open_sinks
from trainer_hooks.metrics import METRICS, Metrics, read_lines
from trainer_hooks.model import count_parameters
from trainer_hooks.model_config import ModelConfig
from trainer_hooks.parallel import Parallel, Spreading
from trainer_hooks.plan import Plan
from trainer_hooks.resolution import resolve
from trainer_hooks.run import Run
from trainer_hooks.run_identity import Change, check_identity, former_orders
from trainer_hooks.throughput import Meter, Progress
from trainer_hooks.written_averages import write_averages

OnStep = Callable[[Progress], None]
MOST_SKIPPED = 10
"""Steps in a row that may be left out because their numbers are not finite; then the run has diverged."""
NOTED_EVERY = 60.0
"""Seconds between lines of progress in events.jsonl."""


@dataclass(frozen=True)
class RunResult:
    """What a run leaves.

    Attributes:
        steps, tokens: of the whole plan; step: those taken. They differ when the run was asked to stop.
        losses: held-out set -> `raw` or an average's name -> final loss; empty until the run is complete.
        checkpoint: the last checkpoint's folder; averages: the averaged weights' files by name.
        resumed_from: the step this call continued from, None for a fresh start.
        stopped: why it ended before its last step; None for a complete run.
        seconds: wall-clock time of this call.
    """

    folder: Path
    steps: int
    tokens: int
    step: int
    parameters: int
    losses: dict[str, dict[str, Loss]]
    checkpoint: Path
    averages: dict[str, Path]
    resumed_from: int | None
    stopped: str | None
    seconds: float


def train(
    order: TokenOrder,
    token_arrays: Any,
    heldout: Mapping[str, HeldOut],
    model_config: ModelConfig,
    plan: Plan,
    folder: Path,
    *,
    on_step: OnStep | None = None,
    device: str | None = None,
    spreading: Spreading = "fsdp",
    events: Path | None = None,
    sinks: Sequence[str] = (),
    change: Change | None = None,
    on_begin: Callable[[], None] | None = None,
) -> RunResult:
    """Train, or continue, the run in `folder`; a finished run returns at once.

    Args:
        order, token_arrays: what to read, as `OrderedLoader` takes it.
        heldout: named sets for evaluation; may be empty.
        on_step: called on the first rank after each optimizer step.
        device: `cpu`, `cuda`; None takes a GPU where there is one.
        spreading: how a model lies over several ranks, `fsdp` or `ddp`; a run may be resumed under the other.
        events: where timed events are written; None means events.jsonl in the folder.
        sinks: where metrics go beside metrics.jsonl: `tensorboard`, `wandb`.
        change: accept a plan or an order that differs from here on (`trainer_hooks.run_identity`).
        on_begin: called on the first rank when the run is known to be the folder's own, before it goes on.

    SIGTERM ends the run after the step under way, with a checkpoint. Raises ConfigError when the order is shorter
    than the plan, or the folder holds a run of another plan, model, order or held-out set; TaskError when the loss
    stops being finite; ArtifactError when no checkpoint is whole; EnvironmentProblem for a full disk.
    """
    started = time.monotonic()
    resolved = resolve(plan)
    folder.mkdir(parents=True, exist_ok=True)
    with Parallel.join() as parallel, reproducible(plan.threads, plan.deterministic):
        run = Run(
            order, token_arrays, heldout, model_config, resolved, folder,
            device=parallel.device(device), parallel=parallel, spreading=spreading, events=events or folder / EVENTS,
        )  # fmt: skip
        loop = _Loop(run, on_step, on_begin)
        resumed_from = loop.resume(_identity(run, model_config, order), change)
        loop.train(sinks)
        complete = run.step == resolved.steps
        averages = write_averages(run, loop.checkpoints.folder) if complete else {}
        parallel.wait()
    return RunResult(
        folder=folder,
        steps=resolved.steps,
        tokens=resolved.tokens,
        step=run.step,
        parameters=count_parameters(run.model),
        losses=_final_losses(folder, resolved.steps) if complete else {},
        averages=averages,
        resumed_from=resumed_from,
        checkpoint=checkpoint_path(loop.checkpoints.folder, run.step),
        stopped=None if complete else run.stop,
        seconds=time.monotonic() - started,
    )


class _Loop:
    """The steps of a run, and what happens at the borders between them."""

    def __init__(self, run: Run, on_step: OnStep | None, on_begin: Callable[[], None] | None) -> None:
        self.run, self.resolved, self.plan = run, run.resolved, run.resolved.plan
        self._on_step, self._noted = on_step if run.parallel.first else None, time.monotonic()
        self._on_begin = on_begin
        self.checkpoints = Checkpoints(run.folder / "checkpoints", run.parallel, self._kept)

    def resume(self, identity: dict[str, Any], change: Change | None) -> int | None:
        """Compare the run with the one in the folder, and go on from its newest whole checkpoint."""
        run = self.run
        if run.parallel.first:
            newest = max(checkpoints_in(self.checkpoints.folder), default=0)
            position = newest * self.resolved.step_tokens
            check_identity(run.folder, identity, position, change, run.loader.order)
            if self._on_begin is not None:
                self._on_begin()
        run.parallel.wait()
        state = self.checkpoints.load(run.training, lambda path, problem: run.note("damaged", found=problem))
        if state is not None:
            run.step, run.skipped_in_a_row = int(state["step"]), int(state["skipped_in_a_row"])
            run.loader.load_state_dict(_position(state["loader"], run))
        self.checkpoints.prune()
        run.note(
            "start", steps=self.resolved.steps, ranks=run.parallel.world, threads=torch.get_num_threads(),
            parameters=count_parameters(run.model), groups=run.groups, matmul=str(run.dtype), torch=torch.__version__,
        )  # fmt: skip
        return None if state is None else run.step

    def train(self, sinks: Sequence[str]) -> None:
        """Take the remaining steps, until the last one or a reason to stop."""
        run = self.run
        if run.step == self.resolved.steps:
            return
        begun, first = time.monotonic(), run.step
        try:
            with self._metrics(sinks) as metrics, _on_sigterm(run):
                meter, ends = self._meter(), False
                while not ends:
                    self._take_step(metrics)
                    ends = self._at_border(metrics)
                    self._tell(meter.after(run.step, run.loss, run.rate))
        finally:
            self.checkpoints.finish()
        seconds = time.monotonic() - begun
        tokens = (run.step - first) * self.resolved.step_tokens
        speed = {"seconds": round(seconds, 3), "tokens_per_s": round(tokens / seconds)}
        run.note("trained" if run.stop is None else "stopped", **speed, **({"reason": run.stop} if run.stop else {}))

    def _take_step(self, metrics: Metrics) -> None:
        """One optimizer step: read, forward, backward, clip, move; hooks act in between."""
        run = self.run
        run.begin_phase()
        run.rate, run.facts = float(run.rates[run.step]), {}
        for hook in run.hooks:
            hook.before_step(run)
        run.batch = run.read_batch(run.loader.next_number())
        run.loss = run.forward_backward(run.batch)
        for hook in run.hooks:
            hook.after_backward(run)
        run.grad_norm = run.clip()
        if self._refused() is None:
            run.update()
            for hook in run.hooks:
                hook.after_update(run)
        run.optimizer.zero_grad()
        run.step += 1
        run.model.set_progress(run.tokens)
        for hook in run.hooks:
            hook.after_step(run)
        metrics.write({**self._position(), "lr": run.rate, "loss": _number(run.loss),
                       "grad_norm": _number(run.grad_norm), **run.facts})  # fmt: skip

    def _refused(self) -> str | None:
        """Why this step is not taken: numbers that are not finite, or a hook's reason; None: it is."""
        run = self.run
        finite = math.isfinite(run.loss) and math.isfinite(run.grad_norm)
        run.skipped_in_a_row = 0 if finite else run.skipped_in_a_row + 1
        if not finite and (self.plan.non_finite == "stop" or run.skipped_in_a_row >= MOST_SKIPPED):
            raise TaskError(
                f"train: the loss stopped being finite at step {run.step + 1}",
                where=str(run.folder),
                found=f"loss {run.loss}, gradient norm {run.grad_norm}, learning rate {run.rate:g}",
                fix="lower peak_lr or lengthen the warm-up, in a new folder; or leave such steps out: non_finite: skip",
            )
        vetoes = (reason for hook in run.hooks if (reason := hook.veto(run)) is not None)
        reason = next(vetoes, None) if finite else "not finite"
        if reason is not None:
            run.facts["skipped"] = reason
            run.note("skipped", reason=reason)
        return reason

    def _at_border(self, metrics: Metrics) -> bool:
        """Average, evaluate and save where the plan says so; in this order, so that a checkpoint holds all of it.

        Returns whether the run ends here: it is complete, or a rank was asked to stop.
        """
        run, last = self.run, self.run.step == self.resolved.steps
        for name, average in self.resolved.averages.items():
            if average.takes(run.tokens):
                run.averages[name].update(run.model, run.tokens)
        if self.resolved.evaluates(run.step):
            self._evaluate(metrics)
        stops = run.parallel.any(run.stop is not None)
        if stops:
            run.stop = run.stop or "another rank was asked to stop"
        if last or stops or self._stays(run.step) or run.step % self.resolved.checkpoint_every_steps == 0:
            metrics.flush()
            self._save()
        return last or stops

    def _tell(self, progress: Progress) -> None:
        if self._on_step is not None:
            self._on_step(progress)
        if time.monotonic() - self._noted > NOTED_EVERY:
            self._noted = time.monotonic()
            self.run.note("progress", **_rounded(progress))

    def _evaluate(self, metrics: Metrics) -> None:
        found: dict[str, dict[str, float]] = {name: {} for name in self.run.heldout}
        for weights in self.run.variants:
            for name, loss in self.run.evaluate(weights).items():
                self._check_finite(name, weights, loss)
                metrics.write({**self._position(), "heldout": name, "weights": weights, **asdict(loss)})
                found[name][weights] = loss.nats_per_token
        for hook in self.run.hooks:
            hook.after_evaluation(self.run, found)

    def _check_finite(self, heldout: str, weights: str, loss: Loss) -> None:
        if not math.isfinite(loss.nats_per_token):
            raise TaskError(
                f"train: the held-out loss stopped being finite at step {self.run.step}",
                where=str(self.run.folder),
                found=f"loss {loss.nats_per_token} of {weights} weights on {heldout}",
                fix="lower peak_lr or lengthen the warm-up, in a new folder",
            )

    def _save(self) -> None:
        run, begun = self.run, time.monotonic()
        state = {"loader": run.loader.state_dict(), "tokens": run.tokens, "skipped_in_a_row": run.skipped_in_a_row}
        self.checkpoints.save(run.step, run.training, state)
        run.note("checkpoint", stall_s=round(time.monotonic() - begun, 4))

    def _kept(self, steps: list[int]) -> set[int]:
        """The newest checkpoints, those that averages are made of, and one in so many where the plan says so."""
        every = self.resolved.keep_every_steps
        for_good = {step for step in steps if self._stays(step) or (every and step % every == 0)}
        return {*steps[-self.plan.keep.last :], *for_good}

    def _stays(self, step: int) -> bool:
        """Whether the checkpoint after a step is made and stays: the plan says so, or an average is made of it."""
        tokens = step * self.resolved.step_tokens
        averaged = any(average.saves(tokens) for average in self.resolved.averages.values())
        return averaged or step in self.resolved.keep_at_steps

    @contextmanager
    def _metrics(self, sinks: Sequence[str]) -> Iterator[Metrics]:
        """The metrics of this run, open for writing on the first rank; other ranks' lines go nowhere."""
        run = self.run
        opened = (
            open_sinks(sinks, run.folder, run.step, self.resolved.model_dump(mode="json")) if run.parallel.first else []
        )
        metrics = Metrics(run.folder, run.step, opened) if run.parallel.first else Metrics(None, run.step, [])
        try:
            yield metrics
        finally:
            metrics.close()

    def _meter(self) -> Meter:
        from trainer_hooks.model_size import flops_per_token

        flops = flops_per_token(self.run.model.config, self.plan.sequence_length)
        return Meter(self.resolved.steps, self.resolved.step_tokens, flops, self.run.device, self.run.parallel.world)

    def _position(self) -> dict[str, int]:
        return {"step": self.run.step, "tokens": self.run.tokens}


def _identity(run: Run, model_config: ModelConfig, order: TokenOrder) -> dict[str, Any]:
    """What makes this run this run; the number of ranks and how the model lies over them do not."""
    return {
        "resolved": run.resolved,
        "model": model_config,
        "order": order.fingerprint,
        "objective": run.objective.identity(),
        "heldout": {name: data.identity() for name, data in sorted(run.heldout.items())},
        "matmul": str(run.dtype).removeprefix("torch."),
        "device": run.device.type,
    }


def _position(saved: dict[str, Any], run: Run) -> dict[str, Any]:
    """The loader's state as saved, or as it reads in the order that an accepted change has brought since."""
    if saved["order_fingerprint"] in former_orders(run.folder):
        return {**saved, "order_fingerprint": run.loader.order.fingerprint}
    return saved


@contextmanager
def _on_sigterm(run: Run) -> Iterator[None]:
    """While the block runs, SIGTERM asks for an end after the step under way; only the main thread hears signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def asked(number: int, frame: Any) -> None:
        run.stop = "SIGTERM"

    before = signal.signal(signal.SIGTERM, asked)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _number(value: float) -> float | None:
    """A number as JSON has it: one that is not finite is null."""
    return value if math.isfinite(value) else None


def _rounded(progress: Progress) -> dict[str, Any]:
    left = asdict(progress) | {
        "tokens_per_s": round(progress.tokens_per_s),
        "seconds_left": round(progress.seconds_left),
    }
    return {name: value for name, value in left.items() if name not in ("step", "steps")}


def _final_losses(folder: Path, steps: int) -> dict[str, dict[str, Loss]]:
    losses: dict[str, dict[str, Loss]] = {}
    for line in read_lines(folder / METRICS):
        if "heldout" in line and line["step"] == steps:
            found = Loss(line["nats_per_token"], line["bits_per_byte"], line.get("standard_error"))
            losses.setdefault(line["heldout"], {})[line["weights"]] = found
    return losses
