"""Which share vectors may be learned, and the one that what is learned has to beat.

Weights of scores may be anything and are compared with equal ones. Shares of sources have a natural mixture (each
source by its tokens), are drawn around a flattened form of it, and are capped: a source of n tokens can fill at most
R n / B of a run of B tokens when it may be read R times.

How it is used: `learn_shares(names, runs, settings, space)`; without a space, shares are equal by nature and uncapped.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from corpus.errors import ConfigError
from mixtures.share_design import Floats
from mixtures.shares import MixtureError

ROUNDING = 1e-12


@dataclass(frozen=True)
class ShareSpace:
    """Where shares may lie.

    Attributes:
        name: of the baseline, as a verdict says it: "equal", "proportional".
        baseline: shape (K,), the shares that learned ones are compared with; they sum to one.
        centre: shape (K,), the mean of the vectors a search draws; they sum to one.
        caps: shape (K,), the largest share of each; 1 is no cap. They sum to more than one.
    """

    name: str
    baseline: Floats
    centre: Floats
    caps: Floats

    @classmethod
    def equal(cls, n_shares: int) -> "ShareSpace":
        """Equal shares, nothing capped."""
        same = np.full(n_shares, 1 / n_shares)
        return cls("equal", same, same, np.ones(n_shares))

    def alphas(self, concentration: float) -> Floats:
        """Parameters of a Dirichlet distribution with the centre as its mean; equal to the concentration on average."""
        return concentration * len(self.centre) * self.centre

    def capped(self, shares: Floats) -> Floats:
        """Share vectors, shape (n, K), brought under the caps."""
        return shares if bool(np.all(self.caps >= 1)) else under_caps(shares, self.caps)


def visit_caps(tokens: Sequence[int], budget: int | None, max_visits: float) -> Floats:
    """The largest share each source can fill with whole tokens, min(1, floor(R n) / B), shape (K,); 1 without a budget.

    Args:
        tokens: n of each source, above zero; budget: B, the tokens of the run the shares are for.

    Raises: MixtureError when all sources together cannot fill the budget.

    Source: the repetition cap of Olmix, x_i <= R n_i / B.
    """
    held = np.asarray(tokens, np.float64)
    if budget is None:
        return np.ones(len(held))
    most = np.floor(max_visits * held)
    if most.sum() < budget:
        raise MixtureError(
            "the sources cannot fill the budget, whatever their shares",
            expected=f"at most {int(most.sum()):,} tokens, each read {max_visits:g} times",
            found=f"a budget of {budget:,}",
            fix="lower the budget, raise max_visits, or add sources",
        )
    return np.minimum(1.0, most / budget)


def rounded_shares(shares: Floats, caps: Floats, units: int = 1_000_000) -> list[float]:
    """Shares as whole units (millionths) that sum to one exactly, none above its cap; shape (K,) in and out.

    The largest remainders are rounded up, where the cap leaves room for it.
    """
    scaled = shares * units
    counts = np.floor(scaled + 1e-9).astype(np.int64)
    most = np.where(caps >= 1, units, np.floor(caps * units + 1e-9)).astype(np.int64)
    counts = np.minimum(counts, most)
    assert int(most.sum()) >= units, "the caps leave no room for whole units"
    order = np.argsort(counts - scaled, kind="stable")
    while (missing := units - int(counts.sum())) > 0:
        counts[[i for i in order if counts[i] < most[i]][:missing]] += 1
    return [int(count) / units for count in counts]


def under_caps(shares: Floats, caps: Floats) -> Floats:
    """Clip share vectors at the caps and scale the others up, until no share is above its cap.

    Args:
        shares: shape (n, K), rows that sum to one.
        caps: shape (K,), summing to one or more.

    Returns: shape (n, K), rows that sum to one. Where the uncapped shares of a row are all zero, the rest goes to them
    in proportion to what their caps leave.

    Raises: ConfigError when the caps sum to less than one.
    """
    if float(caps.sum()) < 1 - 1e-12:
        raise ConfigError(
            "the caps leave no room for any shares", expected="a sum of 1 or more", found=f"{caps.sum():g}"
        )
    result = np.array(shares, np.float64)
    clipped = np.zeros(result.shape, np.bool_)
    for _ in range(len(caps)):
        over = (result > caps) & ~clipped
        if not over.any():
            break
        clipped |= over
        result = np.where(clipped, caps, result)
        result = np.where(clipped, result, result * _scale(result, clipped))
    missing = 1 - result.sum(axis=1, keepdims=True)
    missing = np.where(missing > ROUNDING, missing, 0.0)
    room = np.maximum(caps - result, 0.0)
    filled: Floats = result + missing * room / np.maximum(room.sum(axis=1, keepdims=True), 1e-300)
    return filled


def _scale(shares: Floats, clipped: npt.NDArray[np.bool_]) -> Floats:
    """By what the free shares of each row are multiplied so that it sums to one; 1 where none is above zero."""
    free = np.where(clipped, 0.0, shares).sum(axis=1, keepdims=True)
    rest = 1 - np.where(clipped, shares, 0.0).sum(axis=1, keepdims=True)
    scale: Floats = np.divide(rest, free, out=np.ones_like(rest), where=free > 0)
    return np.maximum(scale, 0.0)
