"""Packing reads every token exactly once, keeps visits in their window, and equals its definition."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from curriculum.packing import PackConfig, PackingError, pack, sequence_scores
from curriculum.packing_report import packing_report
from tests.curriculum.making import properties

GOLDEN = np.array([5, 3, 8, 2, 6, 4, 1, 7])
lengths_of = st.lists(st.integers(1, 40), min_size=1, max_size=60).map(lambda x: np.array(x, np.int32))
sizes = st.integers(1, 20)


def visits_in(packed):
    return [packed.visit[packed.pieces(i)].tolist() for i in range(packed.n_sequences)]


def windowed(lengths, T, W):
    return pack(lengths, PackConfig(packer="windowed", sequence_tokens=T, window=W))


def concat(lengths, T):
    return pack(lengths, PackConfig(packer="concat", sequence_tokens=T))


def test_golden_vectors():
    assert visits_in(windowed(GOLDEN, 10, 4)) == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert visits_in(windowed(GOLDEN, 10, 8)) == [[0, 6], [1, 7], [2, 3], [4, 5]]
    none = pa.nulls(8, pa.float32())
    assert packing_report(windowed(GOLDEN, 10, 4), GOLDEN, none)["fill"] == 0.9
    assert packing_report(windowed(GOLDEN, 10, 8), GOLDEN, none)["fill"] == 0.9
    cut = concat(GOLDEN, 10)
    assert [int(cut.length[cut.pieces(i)].sum()) for i in range(cut.n_sequences)] == [10, 10, 10, 6]


def test_a_visit_longer_than_a_sequence_is_split_in_order():
    packed = windowed(np.array([4, 25, 5]), 10, 3)
    pieces = zip(packed.visit.tolist(), packed.offset.tolist(), packed.length.tolist(), strict=True)
    assert packed.first.tolist() == [0, 1, 3, 4, 5]
    assert list(pieces) == [(0, 0, 4), (1, 0, 5), (2, 0, 5), (1, 5, 10), (1, 15, 10)]


def best_fit(heads, T):
    """The definition, item by item: longest first, into the tightest bin; of equals the one longest at that room."""
    bins = []  # [room, items], in the order in which they came to their room
    for item in sorted((i for i in range(len(heads)) if heads[i]), key=lambda i: -heads[i]):
        fitting = [b for b in bins if b[0] >= heads[item]]
        chosen = min(fitting, key=lambda b: b[0]) if fitting else [T, []]
        if fitting:
            bins.remove(chosen)
        bins.append([chosen[0] - heads[item], [*chosen[1], item]])
    return sorted(sorted(items) for _, items in bins)


@properties
@given(lengths_of, sizes, st.integers(1, 70))
def test_windowed_equals_its_definition(lengths, T, W):
    want = []
    for begin in range(0, len(lengths), W):
        part = lengths[begin : begin + W].tolist()
        shared = [[(begin + i, 0, part[i] % T) for i in items] for items in best_fit([n % T for n in part], T)]
        whole = [[(begin + i, at, T)] for i, n in enumerate(part) for at in range(n % T, n, T)]
        want += sorted(shared + whole, key=lambda pieces: pieces[0])
    packed = windowed(lengths, T, W)
    columns = (packed.visit, packed.offset, packed.length)
    got = [list(zip(*(c[packed.pieces(i)].tolist() for c in columns), strict=True)) for i in range(packed.n_sequences)]
    assert got == want


@properties
@given(lengths_of, sizes, st.integers(1, 70), st.sampled_from(["concat", "windowed"]))
def test_every_token_is_read_exactly_once_and_no_sequence_is_too_long(lengths, T, W, packer):
    packed = pack(lengths, PackConfig(packer=packer, sequence_tokens=T, window=W))
    read = [(v, o + k) for v, o, n in zip(packed.visit, packed.offset, packed.length, strict=True) for k in range(n)]
    assert sorted(read) == [(v, k) for v, n in enumerate(lengths) for k in range(n)]
    totals = np.add.reduceat(packed.length, packed.first[:-1])
    assert totals.min() >= 1
    assert totals.max() <= T
    assert packed.first[0] == 0
    assert packed.first[-1] == len(packed.visit)
    for visit in range(len(lengths)):  # the pieces of a visit come in its own order
        assert (np.diff(packed.offset[packed.visit == visit]) > 0).all()
    if packer == "concat":
        assert read == sorted(read)
        assert (totals[:-1] == T).all()


@properties
@given(lengths_of, sizes, st.integers(1, 70))
def test_no_visit_leaves_its_window(lengths, T, W):
    packed = windowed(lengths, T, W)
    windows = packed.visit // W
    assert (np.diff(windows) >= 0).all()
    report = packing_report(packed, lengths, pa.nulls(len(lengths), pa.float32()))
    assert report["displacement"]["visits"]["max"] < W
    leaders = packed.visit[packed.first[:-1]]
    assert (np.diff(leaders) >= 0).all()  # sequences come by the earliest visit in them
    if (lengths <= T).all():
        assert report["documents_cut"] == 0
    assert report["documents_cut"] == report["documents_longer"] == (lengths > T).sum()
    assert report["cropped_tokens"] == 0


@properties
@given(lengths_of, sizes, st.integers(1, 70))
def test_the_same_input_gives_the_same_arrays(lengths, T, W):
    a, b = windowed(lengths, T, W), windowed(lengths.astype(np.int64).copy(), T, W)
    for name in ("first", "visit", "offset", "length"):
        assert getattr(a, name).tobytes() == getattr(b, name).tobytes()
        assert getattr(a, name).dtype == getattr(b, name).dtype
    before = len(lengths) // W * W  # a window knows nothing of what comes after it
    if before:
        ended = windowed(lengths[:before], T, W)
        np.testing.assert_array_equal(ended.first, a.first[: ended.n_sequences + 1])
        np.testing.assert_array_equal(ended.visit, a.visit[: len(ended.visit)])


def test_boundaries_and_position_ids():
    packed = windowed(GOLDEN, 10, 8)
    assert packed.boundaries(0).tolist() == [0, 5, 6, 10]  # 4 tokens of padding are a segment of their own
    assert packed.position_ids(0).tolist() == [0, 1, 2, 3, 4, 0, 0, 1, 2, 3]
    assert packed.boundaries(1).tolist() == [0, 3, 10]
    assert packed.boundaries(1).dtype == packed.position_ids(1).dtype == np.int32
    for outside in (-1, 4):
        with pytest.raises(PackingError, match="no sequence"):
            packed.boundaries(outside)


def test_scores_of_sequences_weigh_tokens_and_leave_nulls_out():
    packed = windowed(GOLDEN, 10, 4)
    scores = pa.array([1.0, 3.0, None, 2.0, None, None, 4.0, 4.0], pa.float32())
    means = sequence_scores(packed, scores).to_pylist()
    assert means == [(5 * 1 + 3 * 3) / 8, 2.0, None, 4.0]
    assert sequence_scores(packed, pa.chunked_array([scores.slice(0, 3), scores.slice(3)])).to_pylist() == means


def test_blur_is_0_for_pure_sequences_and_1_where_no_order_is_left():
    lengths = np.full(8, 5)
    pure = pa.array([0, 0, 1, 1, 2, 2, 3, 3], pa.float32())
    report = packing_report(windowed(lengths, 10, 8), lengths, pure)
    assert (report["blur"], report["spearman"]) == (0.0, 1.0)
    mixed = pa.array([0, 1] * 4, pa.float32())
    report = packing_report(windowed(lengths, 10, 8), lengths, mixed)
    assert (report["blur"], report["spearman"]) == (1.0, None)
    for column in (pa.nulls(8, pa.float32()), pa.array([2.0] * 8, pa.float32())):
        report = packing_report(windowed(lengths, 10, 8), lengths, column)
        assert (report["blur"], report["spearman"], report["blur_concat"]) == (None, None, None)


def test_a_wider_window_blurs_a_sorted_order_more():
    rng = np.random.default_rng(3)
    lengths = rng.integers(1, 900, 4_000)
    scores = pa.array(np.sort(rng.random(4_000)), pa.float32())
    reports = [packing_report(windowed(lengths, 1024, W), lengths, scores) for W in (10, 200, 4_000)]
    assert reports[0]["blur"] < reports[1]["blur"] < reports[2]["blur"]
    assert reports[0]["fill"] < reports[1]["fill"] < 1.0
    assert reports[0]["spearman"] > reports[2]["spearman"]
    plain = packing_report(concat(lengths, 1024), lengths, scores)
    assert plain["blur"] == plain["blur_concat"] == reports[0]["blur_concat"] < reports[0]["blur"]
    assert plain["displacement"]["tokens"] == {"mean": 0.0, "p95": 0.0, "max": 0}
    assert plain["cuts"] > 0


@properties
@given(lengths_of, sizes, st.integers(0, 9))
def test_taking_sequences_in_another_order(lengths, T, seed):
    packed = windowed(lengths, T, 8)
    rows = np.random.default_rng(seed).permutation(packed.n_sequences)
    taken = packed.take(rows)
    assert visits_in(taken) == [visits_in(packed)[row] for row in rows]
    assert taken.take(np.argsort(rows)).offset.tolist() == packed.offset.tolist()
    assert taken.n_tokens == packed.n_tokens


def test_orders_of_sequences_that_are_none():
    packed = windowed(GOLDEN, 10, 4)
    for wrong in ([0, 1, 2], [0, 1, 2, 2], [1, 2, 3, 4], [0, 1, 2, 3, 3]):
        with pytest.raises(PackingError, match="not the sequences"):
            packed.take(wrong)


def test_what_cannot_be_packed():
    for wrong in ({"sequence_tokens": 0}, {"sequence_tokens": 8, "window": 0}, {"sequence_tokens": 2**31}):
        with pytest.raises(ValidationError):
            PackConfig(**wrong)
    for lengths in ([], [3, 0, 2], [4, -1]):
        with pytest.raises(PackingError, match="cannot be packed"):
            pack(np.array(lengths, np.int32), PackConfig(sequence_tokens=8))


def test_a_long_window_and_a_long_sequence():
    """The tree over rooms, beyond the sizes that hypothesis draws."""
    lengths = np.random.default_rng(5).integers(1, 5_000, 3_000)
    packed = windowed(lengths, 4_097, 3_000)
    want = best_fit((lengths % 4_097).tolist(), 4_097)
    shared = [items for items in visits_in(packed) if len(items) > 1]
    assert len(shared) > 1_000
    assert shared == [items for items in want if len(items) > 1]
