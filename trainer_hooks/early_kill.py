"""Early kill: of several runs on the same data, end the least promising by their first steps, and say why.

After a warm-up, every k steps, each run has a median gradient norm g and a smoothed loss l. Under the rule `sft` a low
g and a *high* early loss predict the better model (arXiv 2412.13337), so runs are ranked by rank(g, rising) + rank(l,
falling), ties by g. Under `pretraining` they are ranked by one metric whose good end must be said. The first look kills
nobody; later ones kill the worst 1 - 1/eta, never leaving fewer than two. One of those to be killed, drawn by lot, runs
on as a control: how often would the kill have been wrong?

Each decision is a line in a log, with its inputs, and is read from there when it is asked for again. A run ends when it
has the hook `stop_file`.

    settings = EarlyKill(rule="pretraining", metric="heldout/web", better="low", warmup_steps=200, every_steps=500)
    decision = look(runs, settings, number=2, log=study / "early_kill.jsonl")
    stop_killed(decision, runs)
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator
from scipy.stats import rankdata

from corpus.config import Config, load_yaml, validated
from corpus.errors import ConfigError, InputError
from corpus.keyed_random import keyed_hashes
from corpus.shards import write_text
from trainer_hooks.hooks.stop_file import write_stop
from trainer_hooks.metrics import METRICS, read_lines
from trainer_hooks.run_identity import PLAN_FILE

FEWEST = 2


class EarlyKill(Config):
    """How runs are compared, and how many go on."""

    rule: Literal["sft", "pretraining"]
    metric: str | None = Field(
        None,
        description="pretraining: what runs are ranked by: loss, grad_norm, another value of their metrics lines such "
        "as source_loss/web, or heldout/NAME",
    )
    better: Literal["low", "high"] | None = Field(None, description="pretraining: which end of the metric is good")
    eta: float = Field(2.0, gt=1, description="one in so many runs goes on at each look")
    warmup_steps: int = Field(ge=0, description="first steps that do not count")
    every_steps: int = Field(ge=1, description="steps from one look to the next; the first comes so long after warm-up")
    ema: float = Field(0.05, gt=0, le=1, description="share of each new value in the smoothed loss")
    control: bool = Field(True, description="let one of the runs to be killed go on, drawn by lot")
    seed: int = Field(0, ge=0, description="seed of that lot")

    @model_validator(mode="after")
    def _sign_is_said(self) -> "EarlyKill":
        said = self.metric is not None, self.better is not None
        if self.rule == "pretraining" and not all(said):
            raise ValueError("pretraining needs metric, and better: low or high; neither is the same for all metrics")
        if self.rule == "sft" and any(said):
            raise ValueError("sft ranks by gradient norm and loss; metric and better belong to pretraining")
        return self


class Signals(Config):
    """What a run shows at a look; null where a value was not finite: it has diverged, and is ranked last."""

    grad_norm: float | None = Field(description="median over the steps since warm-up")
    loss: float | None = Field(description="smoothed training loss")
    metric: float | None = None


class Decision(Config):
    """One look at the runs, its inputs and what follows from them."""

    number: int = Field(ge=1, description="looks count from 1")
    step: int
    settings: EarlyKill
    signals: dict[str, Signals]
    ranked: tuple[str, ...] = Field(description="the runs compared, best first; a control is not compared")
    killed: tuple[str, ...]
    control: str | None = Field(None, description="the run that goes on by lot, once there is one")

    @property
    def kept(self) -> tuple[str, ...]:
        """The runs that go on because of their rank, best first."""
        return tuple(name for name in self.ranked if name not in self.killed and name != self.control)


def look(runs: Mapping[str, Path], settings: EarlyKill, number: int, log: Path) -> Decision:
    """The decision at look `number`, at step warmup_steps + number x every_steps; made once, then read from the log.

    Args:
        runs: run folders by name, all runs of the study, also those killed by now.
        log: a file of decisions, one JSON line each.

    Raises ConfigError where the log was made with other settings or runs, a look is left out, or the runs read
    different orders or batches; InputError where a run has not come so far or has no such metric.
    """
    past = read_decisions(log)
    _check_log(past, runs, settings, number, log)
    if number <= len(past):
        return past[number - 1]
    step = settings.warmup_steps + number * settings.every_steps
    killed = {name for decision in past for name in decision.killed}
    alive = {name: folder for name, folder in runs.items() if name not in killed}
    _check_alike(alive, step)
    signals = {name: signals_of(folder, settings, step) for name, folder in sorted(alive.items())}
    control = past[-1].control if past else None
    ranked = rank({name: found for name, found in signals.items() if name != control}, settings)
    worst = ranked[max(FEWEST, math.ceil(len(ranked) / settings.eta)) :] if number > 1 else ()
    if worst and control is None and settings.control:
        control = worst[int(np.argmin(keyed_hashes(settings.seed, worst)))]
    decision = Decision(
        number=number,
        step=step,
        settings=settings,
        signals=signals,
        ranked=ranked,
        killed=tuple(name for name in worst if name != control),
        control=control,
    )
    write_text(log, "".join(made.model_dump_json() + "\n" for made in [*past, decision]))
    return decision


def rank(signals: Mapping[str, Signals], settings: EarlyKill) -> tuple[str, ...]:
    """The runs, best first. Ties go to the lower gradient norm, then to the name; diverged runs come last."""
    whole = [name for name, found in sorted(signals.items()) if None not in _inputs(found, settings)]
    lost = [name for name in sorted(signals) if name not in whole]
    g = np.array([signals[name].grad_norm for name in whole], np.float64)
    if settings.rule == "sft":
        loss = np.array([signals[name].loss for name in whole], np.float64)
        keys = rankdata(g, "min") + rankdata(-loss, "min")
    else:
        sign = 1 if settings.better == "low" else -1
        keys = sign * np.array([signals[name].metric for name in whole], np.float64)
    return (*(whole[i] for i in np.lexsort((g, keys))), *lost)


def signals_of(folder: Path, settings: EarlyKill, step: int) -> Signals:
    """A run's signals from its metrics.jsonl up to a step. Raises InputError where it has not come so far."""
    lines = [line for line in read_lines(folder / METRICS) if line["step"] <= step]
    steps = [line for line in lines if "loss" in line and line["step"] > settings.warmup_steps]
    if not steps or steps[-1]["step"] < step:
        raise InputError(
            f"the run in {folder} has not come to step {step}",
            expected=f"{step} steps in {METRICS}",
            found=str(steps[-1]["step"] if steps else 0),
            fix="look later, or leave the run out of the study",
        )
    norms, loss = [line["grad_norm"] for line in steps], _smoothed((line["loss"] for line in steps), settings.ema)
    g = None if None in norms else float(np.median(norms))
    if settings.metric is None:
        return Signals(grad_norm=g, loss=loss)
    return Signals(grad_norm=g, loss=loss, metric=_metric(settings, folder, lines, steps, g, loss))


def stop_killed(decision: Decision, runs: Mapping[str, Path]) -> None:
    """Ask each killed run to end: a stop.json in its folder, which the hook `stop_file` heeds."""
    for name in decision.killed:
        place = f"rank {decision.ranked.index(name) + 1} of {len(decision.ranked)} at step {decision.step}"
        write_stop(runs[name], f"early kill: {place}")


def read_decisions(log: Path) -> list[Decision]:
    """The decisions made so far, in turn."""
    return [validated(Decision, line, str(log)) for line in read_lines(log)]


def _inputs(found: Signals, settings: EarlyKill) -> tuple[float | None, ...]:
    return (found.grad_norm, found.loss) if settings.rule == "sft" else (found.grad_norm, found.metric)


def _metric(
    settings: EarlyKill, folder: Path, lines: list[dict[str, Any]], steps: list[dict[str, Any]],
    g: float | None, loss: float | None,
) -> float | None:  # fmt: skip
    if settings.metric in ("loss", "grad_norm"):
        return loss if settings.metric == "loss" else g
    assert settings.metric is not None
    if settings.metric.startswith("heldout/"):
        name = settings.metric.removeprefix("heldout/")
        found = [line["nats_per_token"] for line in lines if line.get("heldout") == name and line["weights"] == "raw"]
        value = found[-1] if found else None
    else:
        found = [line[settings.metric] for line in steps if settings.metric in line]
        value = _smoothed(found, settings.ema)
    if not found:
        raise InputError(
            f"the run in {folder} has no {settings.metric} up to step {steps[-1]['step']}",
            expected=f"a line of {METRICS} with it",
            fix="name a metric that the runs log, or evaluate more often",
        )
    return value


def _smoothed(values: Iterable[float | None], share: float) -> float | None:
    """The exponential moving average at the end of the values, begun at the first; None where one is missing."""
    mean: float | None = None
    for value in values:
        if value is None:
            return None
        mean = value if mean is None else mean + share * (value - mean)
    return mean


def _check_log(past: list[Decision], runs: Mapping[str, Path], settings: EarlyKill, number: int, log: Path) -> None:
    if past and (past[0].settings != settings or set(past[0].signals) != set(runs)):
        raise ConfigError(
            "decisions were made with other settings or for other runs",
            where=str(log),
            expected=_shown(past[0].signals, past[0].settings),
            found=_shown(runs, settings),
            fix="keep them, or begin a new log",
        )
    if not 1 <= number <= len(past) + 1:
        raise ConfigError(
            f"look {number} cannot come after {len(past)} looks",
            expected=f"a look from 1 to {len(past) + 1}",
            where=str(log),
        )
    if len(runs) < FEWEST + 1:
        raise ConfigError(
            "there is nothing to kill",
            expected=f"at least {FEWEST + 1} runs",
            found=f"{len(runs)}, and two always go on",
        )


def _shown(runs: Iterable[str], settings: EarlyKill) -> str:
    return f"runs {', '.join(sorted(runs))}; {settings.model_dump_json(exclude_defaults=True)}"


def _check_alike(runs: Mapping[str, Path], step: int) -> None:
    """Raise ConfigError unless the runs read the same order in the same batches."""
    seen: dict[tuple[Any, Any], str] = {}
    for name, folder in sorted(runs.items()):
        data = load_yaml(folder / PLAN_FILE)
        seen[data["order"], data["resolved"]["step_tokens"]] = name
    if len(seen) > 1:
        (first, a), (second, b) = list(seen.items())[:2]
        raise ConfigError(
            f"runs {a} and {b} cannot be compared at step {step}",
            expected="runs of one order and one batch size",
            found=f"order {first[0]} with {first[1]:,} tokens a step, and {second[0]} with {second[1]:,}",
        )
