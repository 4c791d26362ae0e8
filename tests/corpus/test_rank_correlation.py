"""Spearman's rank correlation equals SciPy's on any numbers with ties, and is undefined where it should be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.rank_correlation import spearman

pairs = st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=30)


@given(pairs)
def test_it_is_scipys(drawn):
    stats = pytest.importorskip("scipy.stats")
    a, b = (np.array(side, float) for side in zip(*drawn, strict=True))
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        assert spearman(a, b) is None
    else:
        assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)


def test_it_is_undefined_for_constants_and_for_fewer_than_two():
    assert spearman([], []) is None
    assert spearman([1.0], [2.0]) is None
    assert spearman([1.0, 1.0], [1.0, 2.0]) is None
