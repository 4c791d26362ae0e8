"""A number for each visit, from a seed, the document and the visit alone: the only randomness an order has.

A document is known by its digest, the first 64 bits of its id (which is an xxh3-128). The digest's two halves go
through three rounds of a Feistel network whose constants come from the seed; the visit's number is added first. Each
round is a bijection, so two documents never share a number unless their digests are equal, and one document has
another in every epoch. The round function holds a square: with sums and products alone the shuffles of different
epochs resemble each other (rank correlations up to .17). It is written in sums, products and shifts below 2^63, which
DuckDB, Spark SQL and numpy compute alike.

How it is used: `hash_steps("_hash", seed)` in an arrangement; `visit_hashes(seed, digests, visits)` on arrays.

Source: M. Luby, C. Rackoff, How to construct pseudorandom permutations (1988), with a middle square as the round
function.
"""

import numpy as np
import numpy.typing as npt

from corpus.keyed_random import keyed_hashes
from curriculum.arrangement import Derive

ROUNDS = 3
_LOW = 2**32 - 1
_SQUARED = 2**31 - 1
_VISIT = 2_654_435_769  # 2^32 over the golden ratio: consecutive visits start far apart


def hash_steps(name: str, seed: int, number: str = "visit") -> tuple[Derive, ...]:
    """Steps that add a column of hashes, BIGINT in [0, 2^63), to visits with the columns `digest` and `visit`.

    `number` is an expression below 2^30 that stands in for the visit's number, where more than that tells visits apart.
    """
    left, right = f"{name}0", f"{name}1"
    low = f"(digest & {_LOW}) + CAST({number} AS BIGINT) * {_VISIT}"
    steps = [Derive({left: f"(digest >> 32) & {_LOW}", right: f"({low}) & {_LOW}"})]
    for i, (factor, addend) in enumerate(_constants(seed)):
        squared = f"(({right} + {addend}) & {_SQUARED})"
        mixed = f"({squared} * {squared} + {right} * {factor}) >> 16"
        made = f"{name}{i + 2}"
        steps.append(Derive({made: f"({left} + ({mixed})) & {_LOW}"}))
        left, right = right, made
    return (*steps, Derive({name: f"({right} << 31) + ({left} >> 1)"}))


def visit_hashes(
    seed: int, digests: npt.NDArray[np.int64], visits: npt.NDArray[np.int32] | int
) -> npt.NDArray[np.int64]:
    """The same hashes, shape (n,), for arrays of digests and visit numbers."""
    low = np.int64(_LOW)
    left = (digests >> np.int64(32)) & low
    right = ((digests & low) + np.asarray(visits, np.int64) * np.int64(_VISIT)) & low
    for factor, addend in _constants(seed):
        squared = (right + np.int64(addend)) & np.int64(_SQUARED)
        mixed = (squared * squared + right * np.int64(factor)) >> np.int64(16)
        left, right = right, (left + mixed) & low
    return (right << np.int64(31)) + (left >> np.int64(1))


def _constants(seed: int) -> list[tuple[int, int]]:
    """An odd factor below 2^29 and an addend below 2^32 for each round: squares, products and sums stay below 2^63."""
    drawn = [int(value) for value in keyed_hashes(seed, (f"order round {i}" for i in range(2 * ROUNDS)))]
    return [(drawn[2 * i] % 2**29 | 1, drawn[2 * i + 1] % 2**32) for i in range(ROUNDS)]
