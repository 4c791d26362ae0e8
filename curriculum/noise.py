"""Normal and Gumbel noise for orders, keyed by document, with the same bits on every machine.

Logarithms and the normal quantile differ in their last bit between machines and engines. So the noise is one of 65,536
values, rounded to millionths and looked up by 16 bits of a keyed hash: the middles of equal slices of the
distribution. It reaches 4.3 standard deviations for the normal one, and from -2.5 to 11.8 for the Gumbel one.

How it is used: `noise: {kind: gauss, scale: 5%}` under any order; `noise_steps(...)` in a policy.
"""

from functools import lru_cache
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from corpus.config import Config, Share
from curriculum.arrangement import Lookup, Step
from curriculum.exact import double
from curriculum.keyed_hash import hash_steps

NoiseKind = Literal["gauss", "gumbel"]
CELL_BITS = 16
MILLIONTHS = 1_000_000
_SEED = 0x6E6F697365  # apart from the seed that decides ties, so that noise and ties are independent


class Noise(Config):
    """Noise added to a place in an order before sorting again: a border as soft as you like, with a tail."""

    kind: NoiseKind = Field(
        default="gauss", description="gauss, or gumbel (skewed: some visits move far towards the end)"
    )
    scale: Share = Field(gt=0, description="of the noise, as a share of all visits")


def noise_steps(kind: NoiseKind, name: str, seed: int) -> tuple[Step, ...]:
    """Steps that add a column of noise in millionths, BIGINT, for each document and number of visit."""
    drawn = f"{name}_hash"
    return (*hash_steps(drawn, seed ^ _SEED), Lookup(f"{drawn} >> {63 - CELL_BITS}", noise_table(kind, name)))


def noisy(place: str, scale: float, name: str) -> str:
    """An expression: a place (DOUBLE) plus `scale` times the noise of a column that `noise_steps` made."""
    return f"{place} + {double(scale)} * ({name} / {MILLIONTHS})"


@lru_cache(maxsize=8)
def noise_table(kind: NoiseKind, name: str) -> pa.Table:
    """Columns `_cell` (0 to 65,535) and `name`: the noise in millionths, int64, rising."""
    cells = 2**CELL_BITS
    middle = (np.arange(cells) + 0.5) / cells
    values = _normal(middle) if kind == "gauss" else -np.log(-np.log(middle))
    return pa.table({"_cell": np.arange(cells), name: np.rint(values * MILLIONTHS).astype(np.int64)})


def _normal(shares: np.ndarray[tuple[int], np.dtype[np.float64]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    from statistics import NormalDist

    quantile = NormalDist().inv_cdf
    return np.array([quantile(share) for share in shares.tolist()])
