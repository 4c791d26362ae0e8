"""The learning rate as a pure function of tokens, and where its mass falls on the quality of the data.

No counter, no scheduler object: a rate depends on the saved phase table and the tokens seen, so resuming,
drawing and testing need nothing else. An optimizer step covers [n, n + b) tokens and takes the rate at its
midpoint, which makes the sum over steps equal the integral of a piecewise linear curve and leaves neither
the first nor the last step at rate 0.

In a training loop of your own:

    from trainer_hooks.curves import step_learning_rates
    rates = step_learning_rates(resolve(plan))
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = rates[step] * group.get("lr_multiplier", 1.0)
        ...
"""

import warnings

import numpy as np
import numpy.typing as npt

from corpus.errors import ConfigError
from trainer_hooks.plan import ResolvedPlan
from trainer_hooks.shapes import Floats

DECILES = 10


def learning_rate(tokens: npt.ArrayLike, resolved: ResolvedPlan) -> Floats:
    """The plan's curve at points on the token axis, float64, same shape as `tokens`.

    Points lie in [0, resolved.tokens]; a value at a boundary belongs to the later phase. Beyond the end the
    last rate is held, with a warning; after a decay to 0 it is refused. For the rates that training uses, see
    `step_learning_rates`. Raises ConfigError for negative tokens, or for tokens beyond a decay to 0.
    """
    points = _checked(tokens, resolved)
    rates = np.full(points.shape, resolved.phases[-1].lr_end)
    for phase in resolved.phases:
        inside = (points >= phase.start) & (points < phase.end)
        rates[inside] = phase.rate(points[inside])
    return rates


def learning_rate_integral(tokens: npt.ArrayLike, resolved: ResolvedPlan) -> Floats:
    """The integral of the plan's curve from 0 to points on the token axis, float64, same shape as `tokens`; exact.

    Its difference over an interval, divided by the interval's length, is the mean rate there. Points as in
    `learning_rate`.
    """
    points = _checked(tokens, resolved)
    total = resolved.phases[-1].lr_end * np.maximum(points - resolved.tokens, 0.0)
    for phase in resolved.phases:
        total = total + phase.integral(np.clip(points, phase.start, phase.end))
    return np.asarray(total)


def _checked(tokens: npt.ArrayLike, resolved: ResolvedPlan) -> Floats:
    points = np.asarray(tokens, dtype=np.float64)
    if points.size and points.min() < 0:
        raise ConfigError("tokens seen cannot be negative", found=f"{points.min():g}")
    if points.size and points.max() > resolved.tokens:
        if resolved.phases[-1].lr_end == 0:
            raise ConfigError(
                "this plan has decayed to rate 0 and cannot train further",
                expected=f"at most {resolved.tokens:,} tokens",
                found=f"{points.max():,.0f}",
                fix="end the decay above 0, or start a new plan from the checkpoint",
            )
        warnings.warn(f"beyond the plan's {resolved.tokens:,} tokens the last learning rate is held", stacklevel=3)
    return points


def step_learning_rates(resolved: ResolvedPlan) -> Floats:
    """The rate of every optimizer step, shape (steps,): the curve at each step's midpoint."""
    return learning_rate((np.arange(resolved.steps) + 0.5) * resolved.step_tokens, resolved)


def averaged_step_rates(resolved: ResolvedPlan, average: str) -> Floats:
    """The rate at which each step counts in an average of the plan, by its name; shape (steps,).

    A step's update is in every checkpoint taken at or after it, so its rate is weighed by the sum of their
    coefficients. Source: arXiv 2507.17634, the duality.
    """
    rates, merged = step_learning_rates(resolved), resolved.averages[average].final()
    ends = (np.arange(resolved.steps) + 1) * resolved.step_tokens
    counted: Floats = np.concatenate([np.cumsum(merged.coefficients[::-1])[::-1], [0.0]])
    return rates * counted[np.searchsorted(merged.marks, ends, side="left")]


def lr_mass(
    resolved: ResolvedPlan, lengths: npt.ArrayLike, scores: npt.ArrayLike, *, average: str | None = None
) -> Floats:
    """The share of the learning rate's mass that each quality decile of the data receives, shape (10,), lowest first.

    Args:
        lengths: tokens of each visit, in the order's sequence, shape (visits,).
        scores: the visits' scores, shape (visits,), higher is better; NaN means not scored and is left out.
        average: the name of an average of the plan; each step is then weighed by its share in those weights.

    Deciles hold equal token mass of the scored data within the plan; a visit across a border is divided, and
    visits of equal score share what they receive by tokens. Visits beyond the plan's tokens are not counted.
    Shares sum to 1. Raises ConfigError when no visit within the plan is scored.
    Source: arXiv 2511.18903 (the rate weighs each sample); mass(d) = sum of rate x tokens in d over the total.
    """
    rates = step_learning_rates(resolved) if average is None else averaged_step_rates(resolved, average)
    edges = np.arange(resolved.steps + 1) * float(resolved.step_tokens)
    cumulative = np.concatenate([[0.0], np.cumsum(rates * resolved.step_tokens)])
    ends = np.minimum(np.cumsum(np.asarray(lengths, dtype=np.float64)), resolved.tokens)
    starts = np.concatenate([[0.0], ends[:-1]])
    mass = np.interp(ends, edges, cumulative) - np.interp(starts, edges, cumulative)
    weight, quality = ends - starts, np.asarray(scores, dtype=np.float64)
    scored = (weight > 0) & ~np.isnan(quality)
    if not scored.any():
        raise ConfigError(
            "no visit of this order is scored, so there are no quality deciles", fix="build the order from a score"
        )
    _, group = np.unique(quality[scored], return_inverse=True)
    tokens_by_score = np.bincount(group, weights=weight[scored])
    mass_by_score = np.bincount(group, weights=mass[scored])
    borders = np.linspace(0, 1, DECILES + 1) * tokens_by_score.sum()
    by_tokens = np.concatenate([[0.0], np.cumsum(tokens_by_score)])
    by_mass = np.concatenate([[0.0], np.cumsum(mass_by_score)])
    shares = np.diff(np.interp(borders, by_tokens, by_mass))
    return np.asarray(shares / shares.sum(), dtype=np.float64)
