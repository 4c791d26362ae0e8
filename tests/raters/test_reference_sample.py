"""Reference samples: the same for any order, cut and merge; exact below k; within the stated error above it."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.errors import ConfigError
from corpus.keyed_random import keyed_hashes
from raters.normalise import fit
from raters.reference_sample import ReferenceSample, quantile_error


def rows(numbers: list[int]) -> pa.Table:
    ids = pa.array([f"{n:032x}" for n in numbers], pa.string())
    return pa.table({"id": ids, "score": pa.array(numbers, pa.float32())})


@given(st.integers(1, 30), st.integers(1, 80), st.integers(1, 20), st.randoms(use_true_random=False))
def test_order_cut_and_merging_change_nothing(k, n, cut, random):
    numbers = list(range(n))
    whole = ReferenceSample(k, seed=4)
    whole.add(rows(numbers))
    shuffled = random.sample(numbers, n)
    parts = [ReferenceSample(k, seed=4) for _ in range(3)]
    for i, start in enumerate(range(0, n, cut)):
        parts[i % 3].add(rows(shuffled[start : start + cut]))
    parts[1].merge(parts[2])
    parts[0].merge(parts[1])
    sample = parts[0].sample()
    assert sample.table.equals(whole.sample().table)
    assert (sample.n_corpus, sample.table.num_rows) == (n, min(k, n))
    hashes = keyed_hashes(4, [f"{i:032x}" for i in range(n)])
    assert set(sample.columns["score"]) == set(np.argsort(hashes)[:k])


def test_a_small_corpus_is_its_own_sample_and_a_large_one_keeps_to_the_error():
    values = np.random.default_rng(3).lognormal(size=60_000)
    collected = ReferenceSample(4_000)
    for part in np.array_split(np.arange(60_000), 7):
        ids = [f"{i:032x}" for i in part]
        collected.add(pa.table({"id": ids, "score": pa.array(values[part], pa.float32())}))
    sample = collected.sample()
    assert sample.quantile_error == quantile_error(4_000) == pytest.approx(0.02573, abs=1e-5)
    exact = fit(values, "quantile").apply(values)
    assert np.abs(fit(sample.columns["score"], "quantile").apply(values) - exact).max() < sample.quantile_error + 1e-3
    whole = ReferenceSample(10)
    whole.add(rows([1, 2, 3]))
    assert whole.sample().quantile_error == 0


def test_an_empty_sample_is_refused():
    with pytest.raises(ConfigError, match="no document"):
        ReferenceSample(5).sample()
    with pytest.raises(ConfigError, match="at least one"):
        ReferenceSample(0)
