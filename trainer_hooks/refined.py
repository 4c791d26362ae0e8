"""Make a learning-rate schedule from the gradient norms of a finished run (arXiv 2310.07831).

The theory behind it weighs each step by how small its gradients are, and lets the rate fall with what is left to come:
rate_t ~ w_t x (the sum of w over later steps), w = 1 / |g|_2^2 for SGD, 1 / |g|_1 for Adam. Constant norms give linear
decay to 0; norms that fall at first give a warm-up of their own. It costs one whole run, of the same batch size.

    schedule = refined_schedule(Path("runs/first"), norm="l1")
    plan = {**first, "schedule": schedule.model_dump(), "peak_lr": 0.004}      # the peak is to be found again

The values are part of the plan from then on, with a checksum of the norms; nothing is computed anew on resume.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import xxhash

from corpus.config import load_yaml
from corpus.errors import ConfigError, InputError
from trainer_hooks.metrics import METRICS, read_lines
from trainer_hooks.run_identity import PLAN_FILE
from trainer_hooks.schedules import Refined
from trainer_hooks.shapes import Floats

Norm = Literal["l1", "l2"]
POINTS = 10_000
"""Norms are smoothed at so many equal distances, whatever the run's number of steps."""
_COLUMN: dict[Norm, str] = {"l1": "grad_l1", "l2": "grad_norm"}
_AT_ENDS = 2


def refined_schedule(
    folder: Path,
    norm: Norm = "l1",
    *,
    smoothing: float = 0.1,
    longest_warmup: float = 0.1,
    drop_last: float = 0.03,
    points: int = 1001,
) -> Refined:
    """The schedule that the gradient norms of a finished run ask for; they are read from its metrics.jsonl.

    Args:
        folder: the run's. Norms are of the whole model's gradient, before clipping.
        norm: `l1`, for Adam and its like, from `grad_l1` (written by the hook of that name); `l2`, for SGD,
            from `grad_norm`.
        smoothing, longest_warmup, drop_last: as in `refined_values`.
        points: at how many equal distances the plan keeps the curve; straight lines between, at least 2.

    Raises InputError for a run that is not finished or has no such norms.
    """
    resolved = load_yaml(folder / PLAN_FILE)["resolved"]
    norms = _norms_of_run(folder, _COLUMN[norm], resolved["steps"])
    values = refined_values(norms, norm, smoothing=smoothing, longest_warmup=longest_warmup, drop_last=drop_last)
    kept = np.interp(np.linspace(0, 1, points), np.linspace(0, 1, len(values)), values)
    checksum = xxhash.xxh3_64_hexdigest(norms.astype("<f8").tobytes())
    return Refined(
        values=tuple((kept / kept.max()).round(6).tolist()), norms=checksum, step_tokens=resolved["step_tokens"]
    )


def refined_values(
    norms: Floats, norm: Norm, *, smoothing: float = 0.1, longest_warmup: float = 0.1, drop_last: float = 0.03
) -> Floats:
    """Ratios of the peak at 10,000 equal distances over the run, shape (10000,), in [0, 1], the last 0.

    Args:
        norms: one a step, in sequence, shape (steps,); those that are not finite are left out, and two at each end.
        smoothing: width of the median filter, as a share of the run.
        longest_warmup: the peak is sought in this first share of the run, and the rate does not rise after it; norms
            that keep falling would otherwise move the peak far into the run, and a collapse at the end raise the rate.
        drop_last: the last share of the norms, which the end of the run distorts, is left out; the norm before it is
            held to the end.

    Raises ConfigError for shares outside their range, or when fewer than 10 norms are left.
    Source: arXiv 2310.07831 and its authors' code for the smoothing; the last two are guards beside it.
    """
    if not all(0 <= share < 0.5 for share in (smoothing, drop_last)) or not 0 <= longest_warmup <= 1:
        raise ConfigError(
            "a refined schedule cannot be smoothed so",
            expected="smoothing and drop_last in [0, 0.5), longest_warmup in [0, 1]",
            found=f"{smoothing:g}, {drop_last:g}, {longest_warmup:g}",
        )
    finite = np.asarray(norms, dtype=np.float64)
    finite = finite[np.isfinite(finite)][_AT_ENDS:-_AT_ENDS]
    if len(finite) < 10 or finite.min() <= 0:
        raise ConfigError(
            "a refined schedule needs at least 10 gradient norms beside two at each end, all above 0",
            found=f"{len(finite)} norms" + (f", the lowest {finite.min():g}" if len(finite) else ""),
        )
    at = np.linspace(0, 1, POINTS)
    used = np.interp(at, np.linspace(0, 1, len(finite)), finite)[: POINTS - int(drop_last * POINTS)]
    smooth = _running_median(used, 2 * (int(smoothing * POINTS) // 2) + 1)
    rates = refine(np.concatenate([smooth, np.full(POINTS - len(smooth), smooth[-1])]), norm)
    peak = int(np.argmax(rates[: max(1, int(longest_warmup * POINTS))]))
    guarded = np.concatenate([rates[:peak], np.minimum.accumulate(rates[peak:])])
    return np.asarray(guarded / guarded[peak])


def refine(norms: Floats, norm: Norm) -> Floats:
    """The bare rule: w_t x (the sum of w over later steps), w = |g|^-2 or 1/|g|; shape (n,), highest 1, last 0."""
    weights = np.power(np.asarray(norms, dtype=np.float64), -2.0 if norm == "l2" else -1.0)
    weights = weights / weights.max()
    rates = weights * (np.cumsum(weights[::-1])[::-1] - weights)
    rates[-1] = 0.0  # nothing comes after it; a difference of sums leaves a rounding error
    return np.asarray(rates / rates.max())


def _running_median(values: Floats, width: int) -> Floats:
    """Medians over an odd width, same shape; the first value is held before the start, the end is reflected."""
    half = width // 2
    padded = np.concatenate([np.full(half, values[0]), values])
    padded = np.pad(padded, (0, half), mode="reflect") if half else padded
    windows = np.lib.stride_tricks.sliding_window_view(padded, width)
    blocks = [np.median(windows[i : i + 500], axis=1) for i in range(0, len(values), 500)]
    return np.concatenate(blocks)


def _norms_of_run(folder: Path, column: str, steps: int) -> Floats:
    lines = list(read_lines(folder / METRICS))
    if not lines or lines[-1]["step"] != steps:
        raise InputError(
            "a refined schedule is made from a finished run, and this one is not",
            expected=f"{steps:,} steps",
            found=f"{lines[-1]['step'] if lines else 0:,}",
            where=str(folder / METRICS),
            fix="finish the run",
        )
    norms = [line[column] for line in lines if column in line]
    if not norms:
        raise InputError(
            f"this run has not written {column}",
            where=str(folder / METRICS),
            fix="train with hooks: [grad_l1], or take norm l2 (a schedule for SGD)",
        )
    return np.asarray(norms, dtype=np.float64)
