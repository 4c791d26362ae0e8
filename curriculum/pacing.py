"""Pacing: what share of the easiest documents a run may draw from, as a function of its progress.

Every function has the form c(tau) = (a + b tau + d tau^2)^(1/p), tau in [0, 1]. Written so, the size of the pool is
decided by comparing (m / n)^p with a polynomial, in products and quotients alone: no root's last bit can move a
document. Beside them stand two schedules of other quantities that papers give in the same breath: a cubic decay
and DeepSpeed's sequence length.

How it is used: `pacing("root2", initial=0.1).share(tau)`; the order policy `paced` draws by it. Sources:
competence-based curriculum (1903.09848) for root2; AdaLoRA (2303.10512) for the cubic decay; DeepSpeed's fixed_root
schedule.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from corpus.errors import ConfigError

PacingKind = Literal["linear", "root2", "root3", "quadratic", "inverse_quadratic"]
WITHOUT_INITIAL: tuple[PacingKind, ...] = ("quadratic", "inverse_quadratic")
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pacing:
    """c(tau) = (constant + linear tau + square tau^2)^(1 / root)."""

    constant: float
    linear: float
    square: float
    root: int

    def power(self, tau: Floats) -> Floats:
        """c(tau)^root, any shape, from sums and products alone."""
        return self.constant + tau * (self.linear + tau * self.square)

    def share(self, tau: Floats) -> Floats:
        """The share of the easiest documents that is available at progress tau in [0, 1], any shape."""
        return np.asarray(self.power(tau) ** (1 / self.root))


def pacing(kind: PacingKind, initial: float = 0.1) -> Pacing:
    """A pacing function by name.

    Args:
        initial: the share available at the start, in [0, 1]; the quadratic ones start at 0 and do not use it.
    """
    if kind == "quadratic":
        return Pacing(0.0, 0.0, 1.0, 1)
    if kind == "inverse_quadratic":
        return Pacing(0.0, 2.0, -1.0, 1)
    root = {"linear": 1, "root2": 2, "root3": 3}[kind]
    constant = initial**root
    return Pacing(constant, 1.0 - constant, 0.0, root)


def cubic_decay(tau: Floats, first: float, last: float) -> Floats:
    """last + (first - last) (1 - tau)^3 for tau in [0, 1], any shape: AdaLoRA's budget shape."""
    rest = 1.0 - np.asarray(tau, np.float64)
    return last + (first - last) * rest * rest * rest


def sequence_length(tokens: int, total: int, *, shortest: int, longest: int, step: int, root: int = 1) -> int:
    """Sequence length along a schedule: (tokens / total)^(1/root) of the way from shortest to longest.

    Args:
        tokens: seen so far; from `total` on the length is `longest`.
        total: tokens of the schedule, 1 or more.
        shortest, longest: lengths at the start and the end, in tokens; longest must be a multiple of `step`.
        step: lengths are rounded down to a multiple of it, but never below `shortest`.
        root: 1 for a straight line, 2 for the square root.

    Computed in whole numbers. Raises ConfigError for settings that do not go together. Source: DeepSpeed, fixed_root.
    """
    if not (
        step >= 1 and 1 <= shortest <= longest and longest % step == 0 and total >= 1 and root >= 1 and tokens >= 0
    ):
        raise ConfigError(
            "these settings give no schedule of sequence lengths",
            expected="1 <= shortest <= longest, longest a multiple of step, total and root at least 1",
            found=f"shortest {shortest}, longest {longest}, step {step}, total {total}, root {root}, tokens {tokens}",
        )
    low, high = shortest // step, longest // step
    while low < high:  # the largest multiple that the schedule has reached
        middle = (low + high + 1) // 2
        gained = max(middle * step - shortest, 0)
        reached = gained**root * total <= min(tokens, total) * (longest - shortest) ** root
        low, high = (middle, high) if reached else (low, middle - 1)
    return max(low * step, shortest)
