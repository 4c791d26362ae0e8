"""A learning rate that falls as a power of the tokens seen, with or without a floor: a law without a horizon.

One curve stands for all published laws of this kind. A clock shows `age` tokens where the law begins; the rate is
held until the clock shows `knee`, and then is (knee / clock)^exponent of what it was:

    inverse square root   exponent .5, age and knee the warm-up: sqrt(W / n)
    power (2408.13359)    exponent .51, knee where B a n^b falls below the cap
    anytime (2602.03702)  exponent .5, age and knee alpha: sqrt(alpha / (t + alpha))

Values and integrals are closed forms, so means over an interval are exact.
"""

from typing import Literal

import numpy as np
from pydantic import Field

from corpus.config import Config
from trainer_hooks.shapes import Floats

FloorForm = Literal["max", "added"]


class PowerLaw(Config):
    """rate(t) for t tokens since the law began, given the rate it began at."""

    exponent: float = Field(gt=0, description="how fast it falls; 0.5 is the inverse square root")
    age: float = Field(ge=0, description="tokens on the law's clock where it begins")
    knee: float = Field(gt=0, description="tokens on the clock until which the rate is held; at least age")
    floor: float = Field(0.0, ge=0, description="a rate, at most the one the law begins at")
    floor_form: FloorForm = Field("max", description="max: never below the floor; added: falls towards the floor")

    def rate(self, t: Floats, begin: float) -> Floats:
        """The rate after t >= 0 tokens of the law, same shape as t; `begin` at t = 0.

        Source: the floors are those of Megatron-LM (max) and OLMo-core (added).
        """
        part = np.power(self.knee / np.maximum(t + self.age, self.knee), self.exponent)
        if self.floor_form == "added":
            return np.asarray(self.floor + (begin - self.floor) * part)
        return np.asarray(np.maximum(begin * part, self.floor))

    def integral(self, t: Floats, begin: float) -> Floats:
        """The integral of the rate from 0 to t, same shape as t."""
        if self.floor_form == "added":
            return np.asarray(self.floor * t + (begin - self.floor) * self._part_integral(t))
        if self.floor == 0:
            return begin * self._part_integral(t)
        reached = self.knee * np.power(begin / self.floor, 1 / self.exponent) - self.age
        above = np.minimum(t, reached)
        return np.asarray(begin * self._part_integral(above) + self.floor * (t - above))

    def _part_integral(self, t: Floats) -> Floats:
        """The integral of (knee / clock)^exponent, held at 1 before the knee."""
        held = np.minimum(t, self.knee - self.age)
        growth = np.log(np.maximum(t + self.age, self.knee) / self.knee)
        left = 1 - self.exponent
        fallen = growth if left == 0 else np.expm1(left * growth) / left
        return np.asarray(held + self.knee * fallen)
