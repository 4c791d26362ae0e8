"""Vocabulary rarity: golden value, equality with plain Python, exact and bounded counting, a kept table."""

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.artifacts import Artifact
from corpus.documents import documents
from corpus.errors import ArtifactError, ConfigError
from corpus.fingerprints import file_checksum
from corpus.shards import read_table, write_table
from pipelines.build import Workshop
from pipelines.inputs import InputChecksums
from pipelines.rating import Rating
from pipelines.runtime import LocalRuntime
from raters import vocabulary
from raters.base import checked_rate, counts_of
from raters.rarity import TABLE, Rarity, RaritySettings, rarity
from raters.text import measures_reference
from raters.text.arrow import chunks_of, longest
from raters.text.reference import normalised_words
from raters.text.unicode_tables import tables
from raters.text.vocabulary_kernel import rarity_of
from raters.vocabulary import WordCounts, load, surprisals, word_table

DEMO = Path(__file__).parents[2] / "pipelines" / "demo" / "pages.jsonl"
anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
wordy = st.lists(st.sampled_from(["the", "Cat", "sat.", "é", "ΑΣ", "\n", "中", "\U0001f600"]), max_size=30).map(
    " ".join
)
some_texts = st.lists(st.one_of(st.none(), anything, wordy), max_size=10)


def saved(folder: Path, texts: list[str | None], n_words: int = 1000) -> Rarity:
    counts = WordCounts(n_words)
    counts.add(pa.array(texts, pa.string()))
    counts.save(folder / TABLE)
    return Rarity(str(folder / TABLE), file_checksum(folder / TABLE), "rarity")


def defined(text: str, counts: Counter[str]) -> float | None:
    total = sum(counts.values()) + len(counts) + 1
    return measures_reference.rarity(normalised_words(text), lambda word: -math.log((counts[word] + 1) / total))


def test_golden_value() -> None:
    words = word_table(["a", "b"], [-math.log(0.8), -math.log(0.2)], math.inf)
    (chunk,) = chunks_of(pa.array(["a b b", "A, b B!", "", None, "a c"]))
    values = rarity_of(*chunk, longest(chunk), tables(), words)
    assert values[0] == pytest.approx(1.14734, abs=5e-6)
    assert values[1] == values[0]
    assert np.isnan(values[2:4]).all()
    assert values[4] == math.inf
    p = {"a": 0.8, "b": 0.2}
    assert measures_reference.rarity(["a", "b", "b"], lambda word: -math.log(p[word])) == values[0]


@given(some_texts)
@settings(max_examples=200)
def test_words_are_counted_exactly(texts: list[str | None]) -> None:
    counts = WordCounts(1000)
    counts.add(pa.array(texts, pa.string()))
    plain = Counter(word for text in texts for word in normalised_words(text or ""))
    assert counts.counts == dict(plain)
    assert counts.total == plain.total()


def test_slices_of_bounded_size_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    array = pa.array([f"word{n % 7} and {n % 3} more" * (n % 5) for n in range(50)] + [None, ""])
    whole, sliced = WordCounts(1000), WordCounts(1000)
    whole.add(array)
    monkeypatch.setattr(vocabulary, "_BATCH_BYTES", 40)
    sliced.add(array)
    sliced.add(array.slice(3, 0))
    assert list(sliced.counts.items()) == list(whole.counts.items())


def test_memory_is_bounded_and_frequent_words_stay_exact() -> None:
    texts = [" ".join(f"rare{n}x{k}" for k in range(40)) + " often seen" for n in range(100)]
    counts = WordCounts(50, held=200)
    sizes = []
    for text in texts:
        counts.add(pa.array([text]))
        sizes.append(len(counts.counts))
    assert max(sizes) <= 200
    assert (counts.counts["often"], counts.counts["seen"], counts.total) == (100, 100, 4200)


def test_the_table_is_sorted_and_limited(tmp_path: Path) -> None:
    counts = WordCounts(3)
    counts.add(pa.array(["d c b b a a a", "é"]))
    assert counts.save(tmp_path / "t") == {"words": 8, "distinct words kept": 3, "words in the table": 6}
    assert (tmp_path / "t").read_bytes() == b"a\t3\nb\t2\nc\t1\n"


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=50))
def test_smoothed_probabilities_sum_to_one(counts: list[int]) -> None:
    known, unknown = surprisals(counts)
    assert math.fsum(math.exp(-value) for value in (*known, unknown)) == pytest.approx(1.0)
    assert unknown > max(known)


@given(some_texts, some_texts)
@settings(max_examples=60)
def test_rated_as_defined(tmp_path_factory: pytest.TempPathFactory, fitted: list, rated: list) -> None:
    plain = Counter(word for text in fitted for word in normalised_words(text or ""))
    if not plain:
        return
    rater = saved(tmp_path_factory.mktemp("words"), fitted)
    values = rarity(pa.array(rated, pa.string()), rater.path, rater.checksum)
    expected = [np.nan if text is None or (v := defined(text, plain)) is None else v for text in rated]
    np.testing.assert_array_equal(values, np.array(expected, float))


def test_real_pages(tmp_path: Path) -> None:
    if not DEMO.exists():
        pytest.skip(f"the demo pages are not at {DEMO}")
    texts = [json.loads(line)["text"] for line in DEMO.open(encoding="utf-8")]
    rater = saved(tmp_path, texts, n_words=1000)
    common = Counter(dict(sorted(
        Counter(word for text in texts for word in normalised_words(text)).items(), key=lambda item: (-item[1], item[0])
    )[:1000]))  # fmt: skip
    assert rarity(pa.array(texts), rater.path, rater.checksum).tolist() == [defined(text, common) for text in texts]


def test_null_without_words_and_without_blanks(tmp_path: Path) -> None:
    rater = saved(tmp_path, ["a b", "b"])
    batch = pa.record_batch(
        {"id": list("1234"), "text": ["a b", "...", "b 中文", "b"], "lang": ["en", "en", "zh", None]}
    )
    rated = checked_rate(rater, batch)
    assert rated.column("rarity").is_valid().to_pylist() == [True, False, False, True]
    assert counts_of(rated) == {"no blanks between words": 1}


def test_a_changed_or_missing_table_is_refused(tmp_path: Path) -> None:
    rater = saved(tmp_path, ["a b", "b"])
    other = saved(tmp_path, ["a b b b"])
    assert other.checksum != rater.checksum
    load.cache_clear()
    with pytest.raises(ArtifactError, match="word frequencies"):
        rarity(pa.array(["a"]), rater.path, rater.checksum)
    with pytest.raises(ArtifactError, match="no such file"):
        rarity(pa.array(["a"]), str(tmp_path / "gone"), rater.checksum)
    with pytest.raises(ConfigError, match="no words"):
        WordCounts(5).save(tmp_path / "empty")


def test_it_is_fitted_once_on_the_documents_or_on_examples(tmp_path: Path) -> None:
    rows = [
        {"id": f"{i:04d}", "text": text, "source": source}
        for i, (text, source) in enumerate([("the cat sat", "plain")] * 20 + [("the ontological predicate", "hard")])
    ]
    shop = Workshop(tmp_path / "w", LocalRuntime(1))

    def make(folder: Path) -> dict:
        write_table(folder / "a.parquet", documents(rows))
        return {}

    given = shop.build_here("documents", "documents", config={}, inputs=[], make=make)
    rating = Rating(shop, tmp_path, InputChecksums(tmp_path / "checksums.json"))
    plain = RaritySettings.model_validate({"examples": {"sources": ["plain"]}, "vocabulary_words": 100})
    own, other = rating.scores(given, {"own": RaritySettings(), "other": plain})
    values = read_table(own.files()[0]).column("own").to_pylist()
    assert values[-1] > values[0] > 0
    kept = Artifact(tmp_path / "w" / "raters" / "other")
    assert kept.manifest.totals == {"words": 60, "distinct words kept": 3, "words in the table": 60}
    assert (kept.folder / TABLE).read_text() == "cat\t20\nsat\t20\nthe\t20\n"
    stamp = (kept.folder / TABLE).stat().st_mtime_ns
    again = rating.scores(given, {"own": RaritySettings(), "other": plain})
    assert [artifact.ref for artifact in again] == [own.ref, other.ref]
    assert (kept.folder / TABLE).stat().st_mtime_ns == stamp
