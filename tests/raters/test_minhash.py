"""MinHash: the estimate is as good as its theory says, and keys depend on the words of a text alone."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.errors import ConfigError
from raters.text.minhash import band_keys, signatures
from raters.text.reference import normalised_words


def _pair(rng: np.random.Generator, changed: float, n_words: int = 150) -> tuple[str, str]:
    words = rng.integers(0, 5000, n_words)
    other = np.where(rng.random(n_words) < changed, rng.integers(5000, 10_000, n_words), words)
    return " ".join(f"w{w}" for w in words), " ".join(f"w{w}" for w in other)


def _jaccard(left: str, right: str, ngram: int = 5) -> float:
    sets = [
        {tuple(words[i : i + ngram]) for i in range(len(words) - ngram + 1)} for words in (left.split(), right.split())
    ]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_estimate_has_the_error_of_independent_hashes() -> None:
    """Error of one estimate: sqrt(s (1 - s) / 112). A weak family shows as a larger spread or as a bias."""
    rng = np.random.default_rng(7)
    pairs = [_pair(rng, changed) for changed in np.repeat([0.0, 0.02, 0.05, 0.1, 0.2, 1.0], 50)]
    truth = np.array([_jaccard(*pair) for pair in pairs])
    left, right = (signatures(pa.array(side)).values for side in zip(*pairs, strict=True))
    error = (left == right).mean(axis=1) - truth
    spread = np.sqrt(truth * (1 - truth) / left.shape[1])
    scaled = error[spread > 0] / spread[spread > 0]
    assert 0.85 < scaled.std() < 1.15
    assert abs(scaled.mean()) < 0.2
    assert np.all(error[spread == 0] == 0)


def test_unlike_texts_share_no_band_and_like_ones_do() -> None:
    rng = np.random.default_rng(3)
    keys = band_keys(pa.array([_pair(rng, 0)[0] for _ in range(500)])).values
    assert all(np.unique(column).size == column.size for column in keys.T)
    left, right = zip(*[_pair(rng, 0.01) for _ in range(50)], strict=True)
    assert (band_keys(pa.array(left)).values == band_keys(pa.array(right)).values).any(axis=1).mean() > 0.95


GOLDEN_KEYS = [12903550526401951096, 17748837933034212532]
text = st.text(st.sampled_from("abAB .,\n\u0301Σé"), max_size=40)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), text), min_size=1, max_size=8), st.data())
def test_keys_depend_on_the_words_alone(texts: list[str | None], data: st.DataObject) -> None:
    array = pa.array(texts, pa.string())
    keys, present = band_keys(array)
    assert present.tolist() == [bool(text and normalised_words(text)) for text in texts]
    cut = data.draw(st.integers(0, len(texts)))
    assert np.array_equal(band_keys(array.slice(cut)).values, keys[cut:])
    assert np.array_equal(band_keys(pa.chunked_array([array.slice(0, cut), array.slice(cut)])).values, keys)
    respelt = pa.array([None if text is None else f" {text.replace(' ', '  ')}. " for text in texts], pa.string())
    assert np.array_equal(band_keys(respelt).values, keys)


def test_short_texts_have_one_shingle_of_all_their_words() -> None:
    keys = band_keys(pa.array(["a b c", "A, b: c!", "a b", "a b c d e", "a b c d e f"])).values
    assert np.array_equal(keys[0], keys[1])
    assert not (keys[0] == keys[2]).any()
    assert len({tuple(row) for row in keys.tolist()}) == 4


def test_shape_seed_and_parameters() -> None:
    texts = pa.array(["one two three four five six seven", None, "", "!?"])
    keys, present = band_keys(texts, bands=3, rows=2, ngram=2, seed=5)
    assert (keys.shape, keys.dtype, present.tolist()) == ((4, 3), np.uint64, [True, False, False, False])
    assert not (keys[0] == band_keys(texts, bands=3, rows=2, ngram=2, seed=6).values[0]).any()
    for wrong in ({"bands": 0}, {"rows": 0}, {"ngram": 0}):
        with pytest.raises(ConfigError, match="at least one"):
            band_keys(texts, **wrong)


def test_keys_are_the_same_everywhere() -> None:
    """Stored keys are compared across runs and machines, so the family must never change by accident."""
    assert band_keys(pa.array(["the quick brown fox jumps over the lazy dog"])).values[0, :2].tolist() == GOLDEN_KEYS
