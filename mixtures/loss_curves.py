"""The loss of a source as a power law of tokens, L(n) = e + b n^-a: its fit, and how fast it falls.

Fitted by least squares of relative errors: for each exponent of a grid, e and b follow from two linear equations. No
start, no iterations, the same result for the same points. (ADO's authors minimise a Huber error of log losses with
L-BFGS from 512 starts, for the same curve.)

How it is used: `fit_curve(tokens, losses)`, then `curve.slope(n)`; `mixtures.online_policies.ADO` does.

Source: ADO, arXiv 2410.11820, and its released code: exponents up to .8, at least .05.
"""

from dataclasses import dataclass

import numpy as np

from corpus.errors import InputError
from mixtures.share_design import Floats

EXPONENTS = np.linspace(0.05, 0.8, 151)


@dataclass(frozen=True)
class LossCurve:
    """L(n) = e + b n^-a, with e and b of 0 or more and a in [.05, .8]."""

    e: float
    b: float
    a: float

    def loss(self, tokens: float) -> float:
        """The loss after so many tokens, above 0."""
        return self.e + self.b * tokens**-self.a

    def slope(self, tokens: float) -> float:
        """By how much the loss falls with the next token: a (L - e) / n, 0 or more."""
        return self.a * self.b * tokens**-self.a / tokens


def fit_curve(tokens: Floats, losses: Floats) -> LossCurve:
    """Fit to points (m,), tokens and losses above 0. Raises InputError for fewer than three, or others."""
    if len(tokens) < 3 or len(tokens) != len(losses) or min(float(tokens.min()), float(losses.min())) <= 0:
        raise InputError(
            "a loss curve cannot be fitted to these points",
            expected="three or more, tokens and losses above 0",
            found=f"{len(tokens)} token counts, {len(losses)} losses",
        )
    curves = [_at_exponent(float(a), tokens, losses) for a in EXPONENTS]
    return min(curves, key=lambda curve: float(np.sum(((curve.e + curve.b * tokens**-curve.a) / losses - 1) ** 2)))


def _at_exponent(a: float, tokens: Floats, losses: Floats) -> LossCurve:
    """The best e and b of 0 or more at one exponent."""
    u, v = 1 / losses, tokens**-a / losses
    uu, uv, vv, ru, rv = float(u @ u), float(u @ v), float(v @ v), float(u.sum()), float(v.sum())
    determinant = uu * vv - uv * uv
    e = (ru * vv - rv * uv) / determinant if determinant > 1e-14 * uu * vv else -1.0
    b = (rv * uu - ru * uv) / determinant if determinant > 1e-14 * uu * vv else -1.0
    if e >= 0 and b >= 0:
        return LossCurve(e, b, a)
    flat, falling = LossCurve(ru / uu, 0.0, a), LossCurve(0.0, rv / vv, a)
    return falling if e < 0 and (rv * rv / vv > ru * ru / uu) else flat
