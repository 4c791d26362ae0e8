"""Drawing from a pool that grows, compiled; `curriculum.policies.paced` is where to call it from.

The pool is a binary heap of hashes: a document enters once and leaves once, so n documents cost n log n.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

kernel: Callable[..., Any] = numba.njit(cache=True, nogil=True)
SLACK = 1.0 + 1e-12  # a share that equals the limit in exact arithmetic may come out a few bits above it


@kernel
def draw(hashes, constant, linear, square, root, places):  # type: ignore[no-untyped-def]
    """Write into `places` when each document of one line is read; documents are given from the easiest on.

    At position t the documents m with ((m + 1) / n)^root <= constant + linear t/n + square (t/n)^2 are in the pool, and
    at least t + 1; the one of the lowest hash (of equal ones the easiest) leaves it.
    """
    n = len(hashes)
    heap = np.empty(n, np.int64)
    held, entered = 0, 0
    for t in range(n):
        tau = t / n
        limit = (constant + tau * (linear + tau * square)) * SLACK
        while entered < n:
            share = (entered + 1) / n
            power = share
            for _ in range(root - 1):
                power *= share
            if entered > t and power > limit:
                break
            held = _push(heap, held, hashes, entered)
            entered += 1
        places[heap[0]] = t
        held = _pop(heap, held, hashes)


@kernel
def _before(hashes, a, b):  # type: ignore[no-untyped-def]
    return hashes[a] < hashes[b] or (hashes[a] == hashes[b] and a < b)


@kernel
def _push(heap, held, hashes, item):  # type: ignore[no-untyped-def]
    at = held
    while at > 0 and _before(hashes, item, heap[(at - 1) // 2]):
        heap[at] = heap[(at - 1) // 2]
        at = (at - 1) // 2
    heap[at] = item
    return held + 1


@kernel
def _pop(heap, held, hashes):  # type: ignore[no-untyped-def]
    held -= 1
    item, at = heap[held], 0
    while 2 * at + 1 < held:
        child = 2 * at + 1
        if child + 1 < held and _before(hashes, heap[child + 1], heap[child]):
            child += 1
        if _before(hashes, item, heap[child]):
            break
        heap[at] = heap[child]
        at = child
    heap[at] = item
    return held
