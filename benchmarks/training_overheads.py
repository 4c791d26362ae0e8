"""What everything beside the model costs in a step: reading, hooks, averages; and what a checkpoint holds training up.

A real run of `train` with an average of every step and losses by source and by quality, in which the calls are timed
where the trainer makes them. Asked: reading and hooks together under 2 % of a step, an average of every step under 2 %,
a checkpoint under 5 % of the time between two of them.

Run it:  python -m benchmarks.training_overheads [--threads 2] [--steps 40] [--every 10] [--precision bf16]
"""

import argparse
import os
import platform
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # read when torch loads; on shared cores long spinning crawls

import torch

from benchmarks.trainer import make_order
from corpus.config import validated
from trainer_hooks.averaging import WeightedAverage
from trainer_hooks.checkpoints import Checkpoints
from trainer_hooks.hooks.base import Hook
from trainer_hooks.hooks.quality_loss import QualityLossHook
from trainer_hooks.hooks.source_loss import SourceLossHook
from trainer_hooks.model_config import ModelConfig
from trainer_hooks.model_size import parameter_count
from trainer_hooks.plan import Plan
from trainer_hooks.run import Run
from trainer_hooks.trainer import train

LENGTH, SEQUENCES, LEFT_OUT = 256, 16, 5
CONFIG = ModelConfig(vocabulary=8192, hidden=256, layers=4, heads=4, head_size=64, intermediate=704)


def main() -> None:
    """Train, time the parts, print a record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"threads": 2, "steps": 40, "every": 10}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="bf16")
    options = parser.parse_args()
    print(f"machine   {options.threads} threads of {os.cpu_count()} cores {platform.machine()}, "
          f"load {os.getloadavg()[0]:.1f}; torch {torch.__version__}")  # fmt: skip
    print(f"model     {parameter_count(CONFIG):,} parameters, batch {SEQUENCES} x {LENGTH}, {options.precision}, "
          f"compiled; a checkpoint every {options.every} steps")  # fmt: skip
    spent: dict[str, list[float]] = defaultdict(list)
    times = run(options, spent)
    step = median(b - a for a, b in pairwise(times))
    print(f"  step                      {1000 * step:>8.1f} ms  {LENGTH * SEQUENCES / step:,.0f} tokens/s (medians)")
    for part in ("reading", "losses by source", "losses by quality", "average of every step"):
        calls = len(spent[part]) // (options.steps + LEFT_OUT)  # of a step
        each = sum(spent[part][LEFT_OUT * calls :]) / options.steps
        print(f"  {part:<25} {1000 * each:>8.2f} ms  {each / step:.2%} of a step (mean)")
    stall = median(spent["checkpoint"][1:])
    share = stall / (options.every * step)
    print(
        f"  {'checkpoint, held up':<25} {1000 * stall:>8.1f} ms  {share:.2%} of the {options.every} steps between two"
    )


def run(options: argparse.Namespace, spent: dict[str, list[float]]) -> list[float]:
    """One training; the times at which its steps ended, without the first ones."""
    steps = options.steps + LEFT_OUT
    data = {
        "tokens": steps * LENGTH * SEQUENCES, "sequence_length": LENGTH, "batch_sequences": SEQUENCES, "peak_lr": 1e-3,
        "schedule": {"kind": "constant", "warmup": 0}, "average": {"kind": "step_ema", "half_life": "10%"},
        "hooks": ["source_loss", "quality_loss"], "checkpoint_every": options.every * LENGTH * SEQUENCES,
        "compile": True, "precision": options.precision, "threads": options.threads, "eval_every": "100%",
    }  # fmt: skip
    times: list[float] = []
    with tempfile.TemporaryDirectory() as name, timed(spent):
        folder = Path(name)
        order, arrays = make_order(folder, steps * LENGTH * SEQUENCES + 1, CONFIG.vocabulary)
        train(order, arrays, {}, CONFIG, validated(Plan, data, "benchmark"), folder / "run", device="cpu",
              on_step=lambda progress: times.append(time.perf_counter()))  # fmt: skip
    return times[LEFT_OUT:]


@contextmanager
def timed(spent: dict[str, list[float]]) -> Iterator[None]:
    """Inside the block the parts note how long each of their calls takes."""
    parts: list[tuple[str, Any, str]] = [
        ("reading", Run, "read_batch"), ("average of every step", WeightedAverage, "update"),
        ("checkpoint", Checkpoints, "save"), *_acts("losses by source", SourceLossHook),
        *_acts("losses by quality", QualityLossHook),
    ]  # fmt: skip
    kept = [(owner, name, getattr(owner, name)) for _, owner, name in parts]
    for part, owner, name in parts:
        setattr(owner, name, _noting(getattr(owner, name), spent[part]))
    try:
        yield
    finally:
        for owner, name, method in kept:
            setattr(owner, name, method)


def _acts(part: str, hook: type[Hook]) -> list[tuple[str, Any, str]]:
    """The points of a step at which a hook does something."""
    points = ("before_step", "after_backward", "after_update", "after_step")
    return [(part, hook, point) for point in points if getattr(hook, point) is not getattr(Hook, point)]


def _noting(method: Callable[..., Any], into: list[float]) -> Callable[..., Any]:
    def call(*args: Any, **named: Any) -> Any:
        begun = time.perf_counter()
        result = method(*args, **named)
        into.append(time.perf_counter() - begun)
        return result

    return call


if __name__ == "__main__":
    main()
