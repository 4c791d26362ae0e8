"""Best-fit packing inside windows of visits, compiled; `curriculum.packing` is where to call it from.

The bins of a window are kept by the room they have left: for each room a queue of bins, and over the rooms a
binary tree that says where a queue is not empty. Finding the tightest bin costs the logarithm of the sequence
length, whatever the window. All functions stand in one file, so numba's cache on disk is never stale.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

kernel: Callable[..., Any] = numba.njit(cache=True, nogil=True)


@kernel
def _tightest(tree, leaves, tokens):  # type: ignore[no-untyped-def]
    """The smallest room of at least `tokens` that an open bin has; 0 where none has."""
    node = leaves + tokens
    if tree[node]:
        return tokens
    while node > 1:
        if node % 2 == 0 and tree[node + 1]:
            node += 1
            while node < leaves:
                node = 2 * node if tree[2 * node] else 2 * node + 1
            return node - leaves
        node //= 2
    return 0


@kernel
def _mark(tree, leaves, room):  # type: ignore[no-untyped-def]
    node = leaves + room
    while node >= 1 and not tree[node]:
        tree[node] = True
        node //= 2


@kernel
def _unmark(tree, leaves, room):  # type: ignore[no-untyped-def]
    node = leaves + room
    tree[node] = False
    while node > 1 and not tree[node ^ 1]:
        node //= 2
        tree[node] = False


@kernel
def _fit(heads, capacity, leaves, tree, oldest, newest, after, room, bin_of):  # type: ignore[no-untyped-def]
    """Put each head that is not empty into a bin, longest first; returns how many bins that took.

    Writes `bin_of`, and leaves the queues and the tree empty for the next window.
    """
    bins = 0
    for item in np.argsort(-heads, kind="mergesort"):
        tokens = heads[item]
        if tokens == 0:
            break
        space = _tightest(tree, leaves, tokens)
        if space:
            chosen = oldest[space]
            oldest[space] = after[chosen]
            if oldest[space] < 0:
                _unmark(tree, leaves, space)
        else:
            chosen, space = bins, capacity
            bins += 1
        bin_of[item] = chosen
        left = space - tokens
        room[chosen], after[chosen] = left, -1
        if left and oldest[left] >= 0:
            after[newest[left]] = chosen
        elif left:
            oldest[left] = chosen
            _mark(tree, leaves, left)
        newest[left] = chosen
    for each in range(bins):
        if oldest[room[each]] >= 0:
            oldest[room[each]] = -1
            _unmark(tree, leaves, room[each])
    return bins


@kernel
def pack_windows(lengths, capacity, window, first, visit, offset, length):  # type: ignore[no-untyped-def]
    """Pack visits of these lengths, writing one row a piece and `first`, where each sequence's pieces begin.

    `first` has room for one entry a piece and one more. Returns the number of sequences.
    """
    leaves = 1
    while leaves <= capacity:
        leaves *= 2
    tree = np.zeros(2 * leaves, np.bool_)
    oldest, newest = np.full(capacity + 1, -1, np.int64), np.full(capacity + 1, -1, np.int64)
    widest = min(window, len(lengths))
    after, room, bin_of = np.empty(widest, np.int64), np.empty(widest, np.int64), np.empty(widest, np.int64)
    sequences, pieces = 0, 0
    for begin in range(0, len(lengths), window):
        part = lengths[begin : begin + window]
        heads = part % capacity
        bins = _fit(heads, capacity, leaves, tree, oldest, newest, after, room, bin_of)
        counts, place = np.zeros(bins, np.int64), np.full(bins, -1, np.int64)
        for item in range(len(part)):
            if heads[item]:
                counts[bin_of[item]] += 1
        for item in range(len(part)):  # in reading order, so a bin comes where its first visit stood
            if heads[item]:
                chosen = bin_of[item]
                if place[chosen] < 0:
                    place[chosen], first[sequences] = pieces, pieces
                    sequences, pieces = sequences + 1, pieces + counts[chosen]
                at = place[chosen]
                visit[at], offset[at], length[at] = begin + item, 0, heads[item]
                place[chosen] += 1
            for start in range(heads[item], part[item], capacity):
                first[sequences] = pieces
                visit[pieces], offset[pieces], length[pieces] = begin + item, start, capacity
                sequences, pieces = sequences + 1, pieces + 1
    first[sequences] = pieces
    return sequences
