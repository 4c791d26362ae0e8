"""Forgetting as continued pretraining reports it: how far the loss on old text rises, for how long, what stays.

dL(t) = L(t) - L(0) on held-out text of what the model knew before; positive is forgetting. Losses are in nats a token
or bits a byte of fixed text under one tokenizer. A gap of a few hundred steps is invisible on a coarse grid, and
accuracy can fall while loss falls, so probe both.

    tokens, losses = heldout_curve(Path("runs/continued/metrics.jsonl"), "old_web")
    base = heldout_curve(Path("runs/base/metrics.jsonl"), "old_web")[1]
    gap = loss_gap(tokens, losses, base=base[-1], tolerance=recovery_tolerance(base[-5:]))
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from corpus.config import nearest
from corpus.errors import ConfigError, InputError
from trainer_hooks.metrics import read_lines

Floats = npt.NDArray[np.float64]
NOT_RECOVERED = "not recovered"


@dataclass(frozen=True)
class LossGap:
    """The gap on old text; all of it is lower-is-better.

    Args:
        depth: the largest rise; at: the tokens it is reached after.
        recovery: the first tokens from there on at which the rise is within the tolerance; None: not recovered.
        area: integral of the rise over tokens, where there is one (trapezoids).
        residual: the rise at the end.
    """

    depth: float
    at: float
    recovery: float | None
    area: float
    residual: float


def loss_gap(
    tokens: Floats | Sequence[float], losses: Floats | Sequence[float], base: float, tolerance: float
) -> LossGap:
    """Measure the gap of a curve.

    Args:
        tokens: rising, at which the loss was measured; losses: there.
        base: the loss before, at 0 tokens; it is added to the curve where that does not begin at 0.
        tolerance: a rise that counts as recovered, at least 0, such as `recovery_tolerance`.

    Raises ConfigError for an empty curve or tokens that do not rise.
    """
    t, rise = np.asarray(tokens, np.float64), np.asarray(losses, np.float64) - base
    if not len(t) == len(rise) > 0 or (np.diff(t) <= 0).any() or t[0] < 0:
        raise ConfigError(
            "this is no curve of losses",
            expected="a loss for each of rising counts of tokens",
            found=f"{t.tolist()[:5]}",
        )
    if t[0] > 0:
        t, rise = np.insert(t, 0, 0.0), np.insert(rise, 0, 0.0)
    peak = int(rise.argmax())
    after = np.flatnonzero(rise[peak:] <= tolerance)
    return LossGap(
        depth=float(rise[peak]),
        at=float(t[peak]),
        recovery=float(t[peak + after[0]]) if len(after) else None,
        area=float(np.trapezoid(np.maximum(rise, 0.0), t)),
        residual=float(rise[-1]),
    )


def recovery_tolerance(base_losses: Floats | Sequence[float]) -> float:
    """Twice the standard deviation of the loss over the last checkpoints of the base model, at least two of them."""
    if len(base_losses) < 2:
        raise ConfigError("a deviation needs at least two checkpoints of the base", found=str(len(base_losses)))
    return 2 * float(np.std(base_losses, ddof=1))


def share_of_forgetting_removed(without: float, with_it: float, base: float) -> float:
    """(L(0) - L(x)) / (L(0) - L_base) at the end of training: 1 where an intervention x removes all forgetting.

    Raises ConfigError where nothing was forgotten without it.
    """
    if without <= base:
        raise ConfigError("nothing was forgotten that could be removed", found=f"loss {without} from a base of {base}")
    return (without - with_it) / (without - base)


def heldout_curve(
    metrics: Path, heldout: str, weights: str = "raw", unit: str = "nats_per_token"
) -> tuple[Floats, Floats]:
    """Tokens and losses of a run's evaluations, from its metrics.jsonl.

    Raises InputError for a held-out set or weights that were never measured.
    """
    lines = [line for line in read_lines(metrics) if "heldout" in line]
    known = {f"{line['heldout']} with {line['weights']} weights" for line in lines}
    wanted = f"{heldout} with {weights} weights"
    if wanted not in known:
        hint = nearest(wanted, known) if known else ""
        raise InputError(f"no loss was measured on {wanted}{hint}", where=str(metrics))
    found = [line for line in lines if line["heldout"] == heldout and line["weights"] == weights]
    return np.array([float(line["tokens"]) for line in found]), np.array([float(line[unit]) for line in found])
