"""Which weights an average gives to its checkpoints, as explicit vectors; no tensors are touched here.

Each scheme is a coefficient vector, oldest checkpoint first, that sums to 1. The running form of all of them
is one rule, A <- A + l_t (theta_t - A) with l_t = c_t / (c_1 + ... + c_t), which `trainer_hooks.averaging`
applies; means over every step are given by l_t itself, so that no coefficient grows out of range. Averaging is
dual to decay: the same parameters come out of constant-rate training whose update i counts w_i = sum of c_j over
j >= i; the helpers convert both ways.

    coefficients("ema_debiased", 6, 0.2)        # .0888 .1110 .1388 .1735 .2168 .2711
"""

import numpy as np
import numpy.typing as npt

from corpus.config import nearest
from corpus.errors import ConfigError
from trainer_hooks.shapes import SHAPES, Floats


def coefficients(kind: str, m: int, alpha: float = 0.2) -> Floats:
    """The weights of m checkpoints, oldest first, shape (m,), float64, summing to 1.

    Args:
        kind: `sma` 1/m; `wma` proportional to the checkpoint's number; `ema` the recursion
            A <- alpha theta + (1 - alpha) A started at the oldest, which keeps (1 - alpha)^(m-1) of it;
            `ema_debiased` proportional to (1 - alpha)^(m-i), which never favours an older checkpoint.
        m: how many checkpoints, at least 1.
        alpha: the share of the newest checkpoint in an ema update, in (0, 1].

    Raises ConfigError for an unknown kind, m < 1 or alpha outside (0, 1].
    Source: arXiv 2511.18903 (SMA, EMA, WMA over the last checkpoints).
    """
    if m < 1 or not 0 < alpha <= 1:
        raise ConfigError(
            "this average has no coefficients",
            expected="at least 1 checkpoint and alpha in (0, 1]",
            found=f"{m} checkpoints, alpha {alpha:g}",
        )
    age = np.arange(m - 1, -1, -1, dtype=np.float64)
    if kind == "sma":
        return np.full(m, 1 / m)
    if kind == "wma":
        return (m - age) * 2 / (m * (m + 1))
    if kind == "ema":
        weights = alpha * np.power(1 - alpha, age)
        weights[0] = np.power(1 - alpha, m - 1)
        return weights
    if kind == "ema_debiased":
        weights = np.power(1 - alpha, age)
        return np.asarray(weights / weights.sum(), dtype=np.float64)
    raise ConfigError(f"unknown average {kind!r}{nearest(kind, ('sma', 'ema', 'ema_debiased', 'wma'))}")


def curve_coefficients(shape: str, ratio: float, positions: npt.ArrayLike) -> Floats:
    """Coefficients that imitate a decay of the given shape over checkpoints at these token positions.

    w_i is the mean of the decay curve over segment i, so the merge equals training with that decay when the
    updates are constant inside a segment. Shape (k + 1,) for k + 1 rising positions; sums to 1.
    Source: arXiv 2507.17634, with segment means in place of point values, which would zero one end.
    """
    marks = np.asarray(positions, dtype=np.float64)
    if len(marks) < 2 or not np.all(np.diff(marks) > 0):
        raise ConfigError("a decay curve needs at least two rising positions", found=f"{marks.tolist()}")
    if shape not in SHAPES:
        raise ConfigError(f"unknown shape {shape!r}{nearest(shape, SHAPES)}")
    if SHAPES[shape].positive and ratio == 0:
        raise ConfigError(f"a curve of shape {shape} cannot end at 0", fix="use a ratio above 0, such as 1/300")
    r = (marks - marks[0]) / (marks[-1] - marks[0])
    integral = SHAPES[shape].integral(r, ratio)
    return coefficients_from_decay(np.diff(integral) / np.diff(r))


def coefficients_from_decay(weights: npt.ArrayLike) -> Floats:
    """Merge coefficients c, shape (k + 1,), that weigh the k updates by w: c_0 = 1 - w_1, c_j = w_j - w_(j+1)."""
    w = np.asarray(weights, dtype=np.float64)
    merge: Floats = np.concatenate([[1.0], w]) - np.concatenate([w, [0.0]])
    return merge


def decay_from_coefficients(merge: npt.ArrayLike) -> Floats:
    """Update weights w, shape (k,), of merge coefficients c, shape (k + 1,): w_i is the sum of c_j over j >= i."""
    return np.cumsum(np.asarray(merge, dtype=np.float64)[::-1])[::-1][1:]


def step_sizes(merge: npt.ArrayLike) -> Floats:
    """The running form, shape (m,): l_t = c_t / (c_1 + ... + c_t), so l_1 = 1.

    Raises ConfigError for coefficients that do not sum to 1, or whose partial sums are not all above 0.
    """
    c = np.asarray(merge, dtype=np.float64)
    partial = np.cumsum(c)
    if len(c) == 0 or not np.all(partial > 0) or abs(partial[-1] - 1) > 1e-9:
        raise ConfigError(
            "these merge coefficients cannot be applied one after the other",
            expected="partial sums above 0 and a total of 1",
            found=f"{c.tolist()}",
        )
    return c / partial


def coefficients_from_steps(sizes: npt.ArrayLike) -> Floats:
    """The coefficients, shape (m,), of a running mean with step sizes l_t: c_i = l_i x product of (1 - l_j), j > i."""
    steps = np.asarray(sizes, dtype=np.float64)
    merge: Floats = steps * np.concatenate([np.cumprod((1 - steps[1:])[::-1])[::-1], [1.0]])
    return merge


def half_life_steps(count: int, spacing: float, half_life: float, *, debiased: bool) -> Floats:
    """Step sizes, shape (count,), of a mean in which a mark's share halves every `half_life` tokens.

    With d = 2^(-spacing / half_life): the recursion has l = 1 - d after the first; debiased, weights are in
    proportion to d^age, which makes l_t = (1 - d) / (1 - d^t).
    """
    decay = np.log(2) * spacing / half_life
    if debiased:
        return np.asarray(np.expm1(-decay) / np.expm1(-decay * np.arange(1, count + 1)), dtype=np.float64)
    sizes = np.full(count, -np.expm1(-decay))
    sizes[:1] = 1.0
    return sizes


def anytime_steps(positions: npt.ArrayLike, share: float, *, debiased: bool) -> Floats:
    """Step sizes, shape (m,), of a mean whose half-life is a fixed share of the tokens seen.

    With kappa = ln 2 / share: debiased, the weights after s tokens count in proportion to s^(kappa - 1), so their
    mean age after t tokens is t / (kappa + 1), and share = ln 2 is the plain mean of the whole run; the recursion
    keeps (s / t)^kappa between marks at s and t. Positions rise and are above 0.
    """
    kappa = np.log(2) / share
    logs = np.log(np.asarray(positions, dtype=np.float64))
    if debiased:
        weights = (kappa - 1) * logs  # kept as logarithms: powers of token counts leave the range of a float
        return np.asarray(np.exp(weights - np.logaddexp.accumulate(weights)), dtype=np.float64)
    return np.concatenate([np.ones(min(1, len(logs))), -np.expm1(-kappa * np.diff(logs))])
