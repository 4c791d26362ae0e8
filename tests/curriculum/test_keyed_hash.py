"""The keyed hash of visits: SQL and numpy agree, no two documents share one, and it looks like chance."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from corpus.rank_correlation import spearman
from curriculum.duckdb_engine import DuckDBEngine
from curriculum.keyed_hash import hash_steps, visit_hashes
from tests.curriculum.making import properties

few = properties.__class__(parent=properties, max_examples=15)
EDGES = [-(2**63), -1, 0, 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1]
N = 20_000


def by_sql(seed, digests, visits):
    """The same hashes from DuckDB, by the steps of an arrangement."""
    inner = "SELECT * FROM visits"
    for step in hash_steps("h", seed):
        made = ", ".join(f"{expression} AS {name}" for name, expression in step.columns.items())
        inner = f"SELECT *, {made} FROM ({inner})"
    table = pa.table({"row": range(len(digests)), "digest": digests, "visit": pa.array(visits, pa.int32())})
    return DuckDBEngine(threads=1).query(f"SELECT h FROM ({inner}) ORDER BY row", table)["h"].to_numpy()


@few
@given(st.integers(-(2**63), 2**64), st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20), st.integers(0, 2**31 - 1))
@example(0, [], 0)
def test_sql_and_numpy_agree(seed, digests, visit):
    values = np.array([*EDGES, *digests], np.int64)
    visits = np.full(len(values), visit, np.int32)
    got = by_sql(seed, values, visits)
    assert np.array_equal(got, visit_hashes(seed, values, visits))
    assert got.dtype == np.int64
    assert (got >= 0).all()


@pytest.fixture(scope="module")
def digests():
    return np.random.default_rng(0).integers(-(2**63), 2**63, N)


def test_documents_do_not_share_a_hash(digests):
    """The rounds are bijections of 64 bits; the result leaves out one, so at most two of 2^64 digests share a hash."""
    near = np.arange(-N, N)  # as unlike random digests as can be
    for values in (digests, near, near << 32):
        hashes = visit_hashes(7, values, 0)
        assert len(np.unique(hashes)) == len(values)


@pytest.mark.parametrize("near", [False, True])
def test_hashes_are_uniform(digests, near):
    """Chi-square over 256 cells, of the high bits, of the low ones, and of neighbours: below the 1 in 10^6 point."""
    values = np.arange(N) if near else digests
    for seed in range(5):
        hashes = visit_hashes(seed, values, 0)
        for cells in (hashes >> 55, (hashes >> 20) & 255, ((hashes[:-1] >> 59) << 4) | (hashes[1:] >> 59)):
            counts = np.bincount(cells, minlength=256)
            expected = len(cells) / 256
            assert np.sum((counts - expected) ** 2 / expected) < 255 + 5.5 * np.sqrt(2 * 255)


def test_seeds_and_visits_give_unrelated_shuffles(digests):
    """Rank correlations of N pairs have a standard deviation of 1 / sqrt(N); all stay below 5 of them."""
    shuffles = [visit_hashes(seed, digests, 0) for seed in range(6)]
    shuffles += [visit_hashes(0, digests, visit) for visit in range(1, 6)]
    found = [abs(spearman(a, b)) for i, a in enumerate(shuffles) for b in shuffles[:i]]
    assert max(found) < 5 / np.sqrt(N)
    near = [np.arange(N), *(visit_hashes(3, np.arange(N), v) for v in range(6))]
    found = [abs(spearman(a, b)) for i, a in enumerate(near) for b in near[:i]]
    assert max(found) < 5 / np.sqrt(N)


def test_visits_of_a_document_are_spread(digests):
    """The distance of two visits of a document, as a share of all: 1/3 in the mean where they are independent."""
    hashes = np.array([visit_hashes(5, digests[:2000], visit) for visit in range(20)])
    apart = np.abs(np.diff(hashes / 2**63, axis=0))
    assert apart.mean() == pytest.approx(1 / 3, abs=0.01)
    assert apart.mean(axis=1) == pytest.approx(np.full(19, 1 / 3), abs=0.03)
