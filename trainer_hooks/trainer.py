"""Train a small decoder on an order under a plan, so that a killed run continues to the same bits.

The learning rate is a function of tokens seen, the loader's state is one integer, and the average under way is
in the checkpoint; nothing else can drift. `kill -9` and the same call give the same losses, weights, averages
and metrics lines as an undisturbed run on the same machine. There is no dropout, so no random state is kept.

A run folder holds plan.yaml, metrics.jsonl, checkpoints/ and averages/; times are in events.jsonl.

    result = train(order, token_arrays, {"web": HeldOut.from_shards(paths)}, ModelConfig(vocabulary=4096), plan, folder)
    result.losses["web"]["averaged"].bits_per_byte

To use only the parts, see `trainer_hooks.curves`, `trainer_hooks.averaging` and `trainer_hooks.loader`.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from corpus.config import Config
from corpus.errors import TaskError
from corpus.events import EVENTS, log_event
from corpus.shards import write_text
from trainer_hooks import checkpoints
from trainer_hooks.averaging import Averager
from trainer_hooks.curves import step_learning_rates
from trainer_hooks.determinism import matmul_dtype, reproducible
from trainer_hooks.evaluation import HeldOut, Loss, evaluate
from trainer_hooks.loader import OrderedLoader, TokenOrder
from trainer_hooks.metrics import METRICS, Metrics, read_lines
from trainer_hooks.model import Decoder, count_parameters
from trainer_hooks.model_config import ModelConfig
from trainer_hooks.plan import Plan, ResolvedPlan
from trainer_hooks.resolution import resolve
from trainer_hooks.run_identity import check_identity

OnStep = Callable[[int, int, float], None]
AVERAGE_FILE, AVERAGE_FACTS = "average.safetensors", "average.json"


@dataclass(frozen=True)
class RunResult:
    """What a finished run leaves.

    Attributes:
        losses: held-out set -> `raw` and, when something is averaged, `averaged` -> final loss.
        checkpoint: the last checkpoint's folder; average: the averaged weights' file, or None.
        resumed_from: the step this call continued from, None for a fresh start.
        seconds: wall-clock time of this call.
    """

    folder: Path
    steps: int
    tokens: int
    parameters: int
    losses: dict[str, dict[str, Loss]]
    checkpoint: Path
    average: Path | None
    resumed_from: int | None
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
    events: Path | None = None,
) -> RunResult:
    """Train, or continue, the run in `folder`; a finished run returns at once.

    Args:
        order, token_arrays: what to read, as `OrderedLoader` takes it.
        heldout: named sets for evaluation; may be empty.
        on_step: called after each optimizer step with (steps done, steps in all, loss in nats a token).
        device: `cpu`, `cuda`; None takes a GPU where there is one.
        events: where timed events are written; None means events.jsonl in the folder.

    Raises ConfigError when the order is shorter than the plan, or the folder holds a run of another plan, model,
    order or held-out set; TaskError when the loss stops being finite; ArtifactError for a damaged checkpoint.
    """
    started = time.monotonic()
    resolved = resolve(plan)
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    folder.mkdir(parents=True, exist_ok=True)
    with reproducible(plan.threads):
        run = _Run(order, token_arrays, heldout, model_config, resolved, folder, target, events or folder / EVENTS)
        resumed_from = run.resume()
        run.train(on_step)
        average = run.write_average()
    return RunResult(
        folder=folder,
        steps=resolved.steps,
        tokens=resolved.tokens,
        parameters=count_parameters(run.model),
        losses=_final_losses(folder, resolved.steps),
        average=average,
        resumed_from=resumed_from,
        checkpoint=checkpoints.checkpoint_path(run.checkpoints, resolved.steps),
        seconds=time.monotonic() - started,
    )


def make_optimizer(model: torch.nn.Module, plan: Plan) -> torch.optim.AdamW:
    """AdamW with two parameter groups: matrices decay; norm scales, biases and embeddings (also tied ones) do not."""
    named = list(model.named_parameters())
    decayed = [p for name, p in named if p.ndim >= 2 and "embed" not in name]
    others = [p for name, p in named if p.ndim < 2 or "embed" in name]
    groups = [{"params": decayed, "weight_decay": plan.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=plan.peak_lr, betas=plan.betas, eps=plan.eps, fused=True)


class _Run:
    """The objects of one run and the acts at the borders between its steps."""

    def __init__(
        self,
        order: TokenOrder,
        token_arrays: Any,
        heldout: Mapping[str, HeldOut],
        model_config: ModelConfig,
        resolved: ResolvedPlan,
        folder: Path,
        device: torch.device,
        events: Path,
    ) -> None:
        plan = resolved.plan
        self.resolved, self.folder, self.heldout, self.device, self.events = resolved, folder, heldout, device, events
        self.checkpoints = folder / "checkpoints"
        self.dtype = matmul_dtype(plan.precision, device)
        self.loader = OrderedLoader(order, token_arrays, plan.sequence_length, plan.batch_sequences)
        self.rates = step_learning_rates(resolved)
        self.model = Decoder(model_config, plan.seed).to(device)
        averager = Averager(self.model, resolved.coefficients) if resolved.marks else None
        self.training = checkpoints.Training(self.model, make_optimizer(self.model, plan), averager)
        self.step = 0
        self._identity(model_config, order)

    def _identity(self, model_config: ModelConfig, order: TokenOrder) -> None:
        if self.resolved.steps > self.loader.n_batches:
            self.loader.batch(self.resolved.steps - 1)  # raises, naming what the order holds
        parts: dict[str, Config | str | dict[str, str]] = {
            "resolved": self.resolved,
            "model": model_config,
            "order": order.fingerprint,
            "heldout": {name: data.identity() for name, data in sorted(self.heldout.items())},
            "matmul": str(self.dtype).removeprefix("torch."),
            "device": self.device.type,
        }
        check_identity(self.folder, parts)

    def resume(self) -> int | None:
        """Continue from the newest checkpoint; None where there is none."""
        found = checkpoints.checkpoints_in(self.checkpoints)
        self._prune()
        if found:
            self.step, path = list(found.items())[-1]
            state = checkpoints.load(path, self.training)
            self.loader.load_state_dict(state["loader"])
        log_event(
            self.events,
            run=self.folder.name,
            event="start",
            step=self.step,
            steps=self.resolved.steps,
            threads=torch.get_num_threads(),
            parameters=count_parameters(self.model),
            matmul=str(self.dtype),
            torch=torch.__version__,
        )
        return self.step if found else None

    def train(self, on_step: OnStep | None) -> None:
        """Take the remaining steps."""
        if self.step == self.resolved.steps:
            return
        metrics, begun, first = Metrics(self.folder, self.step), time.monotonic(), self.step
        try:
            while self.step < self.resolved.steps:
                loss = self._take_step(metrics)
                self._at_border(metrics)
                if on_step is not None:
                    on_step(self.step, self.resolved.steps, loss)
        finally:
            metrics.close()
        seconds = time.monotonic() - begun
        tokens = (self.step - first) * self.resolved.step_tokens
        speed = round(tokens / seconds)
        log_event(
            self.events,
            run=self.folder.name,
            event="trained",
            step=self.step,
            seconds=round(seconds, 3),
            tokens_per_s=speed,
        )

    def write_average(self) -> Path | None:
        """Write the averaged weights and the facts of the merge, once the run is complete."""
        averager = self.training.averager
        if averager is None:
            return None
        folder = self.folder / "averages"
        folder.mkdir(exist_ok=True)
        path = folder / AVERAGE_FILE
        plan = self.resolved.plan
        checkpoints.write_tensors(path, averager.average())
        facts = {
            "kind": plan.average.kind,
            "coefficients": averager.coefficients,
            "dtype": "float32",
            "checkpoints": [self._merged(mark) for mark in self.resolved.marks],
        }
        write_text(folder / AVERAGE_FACTS, json.dumps(facts, indent=1) + "\n")
        return path

    def _merged(self, mark: int) -> dict[str, Any]:
        """Position and checksum of an averaged checkpoint; null where someone has removed it since."""
        step = mark // self.resolved.step_tokens
        path = checkpoints.checkpoints_in(self.checkpoints).get(step)
        return {"step": step, "tokens": mark, "weights_xxh3": checkpoints.weights_checksum(path) if path else None}

    def _take_step(self, metrics: Metrics) -> float:
        optimizer, rate = self.training.optimizer, float(self.rates[self.step])
        ids, targets = (part.to(self.device) for part in self.loader.next_batch())
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            loss = self.model.loss(ids, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.resolved.plan.grad_clip)
        value, norm_value = float(loss.detach()), float(norm)
        if not math.isfinite(value) or not math.isfinite(norm_value):
            raise TaskError(
                f"train: the loss stopped being finite at step {self.step + 1}",
                where=str(self.folder),
                found=f"loss {value}, gradient norm {norm_value}, learning rate {rate:g}",
                fix="lower peak_lr or lengthen the warm-up, in a new folder",
            )
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
        self.step += 1
        metrics.write({**self._position(), "lr": rate, "loss": value, "grad_norm": norm_value})
        return value

    def _at_border(self, metrics: Metrics) -> None:
        """Average, evaluate and save where the plan says so; in this order, so that a checkpoint holds all of it."""
        last, marked = self.step == self.resolved.steps, self._tokens in self.resolved.marks
        if marked:
            assert self.training.averager is not None
            self.training.averager.update(self.model)
        if last or self.step % self.resolved.eval_every_steps == 0:
            self._evaluate(metrics)
        if last or marked or self.step % self.resolved.checkpoint_every_steps == 0:
            metrics.flush()
            self._save()
            self._prune()

    def _save(self) -> None:
        state = {"loader": self.loader.state_dict(), "tokens": self._tokens}
        checkpoints.save(self.checkpoints, self.step, self.training, state)
        log_event(self.events, run=self.folder.name, event="checkpoint", step=self.step)

    def _prune(self) -> None:
        """Keep the newest checkpoint and those that the average is made of."""
        found = list(checkpoints.checkpoints_in(self.checkpoints))
        marks = [mark // self.resolved.step_tokens for mark in self.resolved.marks]
        checkpoints.prune(self.checkpoints, {*found[-1:], *marks})

    def _evaluate(self, metrics: Metrics) -> None:
        self._evaluate_as("raw", metrics)
        averager = self.training.averager
        if averager is not None and averager.count:
            with averager.swapped(self.model):
                self._evaluate_as("averaged", metrics)

    def _evaluate_as(self, weights: str, metrics: Metrics) -> None:
        plan = self.resolved.plan
        for name, data in sorted(self.heldout.items()):
            loss = evaluate(self.model, data, plan.sequence_length, plan.batch_sequences, self.dtype)
            metrics.write({**self._position(), "heldout": name, "weights": weights, **asdict(loss)})

    @property
    def _tokens(self) -> int:
        return self.step * self.resolved.step_tokens

    def _position(self) -> dict[str, int]:
        return {"step": self.step, "tokens": self._tokens}


def _final_losses(folder: Path, steps: int) -> dict[str, dict[str, Loss]]:
    losses: dict[str, dict[str, Loss]] = {}
    for line in read_lines(folder / METRICS):
        if "heldout" in line and line["step"] == steps:
            found = Loss(line["nats_per_token"], line["bits_per_byte"])
            losses.setdefault(line["heldout"], {})[line["weights"]] = found
    return losses
