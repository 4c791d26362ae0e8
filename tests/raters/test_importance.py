"""DSIR importance: the compiled buckets and scores equal their definition on any text, published values, the fit."""

import gzip
import hashlib
import json
import os
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from corpus.artifacts import Artifact
from corpus.config import validated
from corpus.documents import documents
from corpus.errors import ArtifactError, ConfigError, InputError, SchemaError
from corpus.shards import read_table, write_table
from pipelines.build import Workshop
from pipelines.inputs import InputChecksums
from pipelines.rating import Rating
from pipelines.runtime import LocalRuntime
from raters import importance_reference as reference
from raters.base import sidecar_rows
from raters.fasttext_evaluation import auc
from raters.importance import Importance, ImportanceSettings
from raters.importance_table import FACTS, TABLE, fit, log_ratios, sampled_counts
from raters.text import sha256
from raters.text.ngram_buckets import add_feature_counts, weigh_features

DEMO = Path(__file__).parents[2] / "pipelines" / "demo" / "pages.jsonl"
DATA = Path(os.environ.get("GRADATIM_DATA") or Path(__file__).parents[3] / "shared" / "data") / "corpus"
GOLDEN = {"the": 8288, "cat": 2366, "sat": 8505, ".": 3960, "the cat": 143, "cat sat": 8294, "sat .": 9081}
TARGET, RAW = ["the theorem holds for all n"], ["buy cheap shoes now", "the theorem holds", "click here to buy"]
# What lower case, `\w` and whitespace hang on, and lengths of UTF-8 that lower case changes.
DELICATE = "aAZ09_ .,!?-'\"\n\t\x00\x1c\x85\xa0\u2028\u3000"
DELICATE += "ΣσςʰİıẞßȺȾKÅé№½Ⅷ²中文\u0301\u0345\u00ad\u200b\u0307\U00010400\U0001f600"
anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
delicate = st.text(st.sampled_from(DELICATE), max_size=60)
long_words = st.lists(st.text(st.sampled_from("ab1中"), min_size=40, max_size=140), max_size=4).map(" ".join)
words = st.lists(st.sampled_from(["the", "cat", "Sat.", "é!", "n", "3"]), max_size=50).map(" ".join)


def counts_of(texts: list[str | None], buckets: int = 10_000) -> np.ndarray:
    """One row of counts a text."""
    counts = np.zeros((len(texts), buckets), np.int64)
    add_feature_counts(pa.array(texts, pa.string()), np.arange(len(texts)), counts)
    return counts


def expected(texts: list[str | None], buckets: int = 10_000) -> np.ndarray:
    return np.array([reference.counts([text or ""], buckets) for text in texts]).reshape(len(texts), buckets)


def in_batches(texts: Sequence[str | None], size: int = 7) -> Iterator[pa.StringArray]:
    for start in range(0, len(texts), size):
        yield pa.array(texts[start : start + size], pa.string())


def rated(rater: Importance, texts: Sequence[str | None]) -> dict[str, list[float | None]]:
    return rater.rate(pa.record_batch({"text": pa.array(texts, pa.string())})).to_pydict()


def toy(folder: Path, *, pseudo_count: float = 0.0, **settings: Any) -> Importance:
    settings = {"buckets": 16, "min_features": 1, **settings}
    fit({"maths": in_batches(TARGET)}, in_batches(RAW), folder, **settings)
    return Importance.from_folder(folder, "dsir", pseudo_count)


def test_published_buckets() -> None:
    assert {feature: reference.bucket(feature, 10_000) for feature in GOLDEN} == GOLDEN
    assert list(reference.features("The cat SAT.")) == ["the", "cat", "the cat", "sat", "cat sat", ".", "sat ."]
    assert np.flatnonzero(counts_of(["The cat SAT."])[0]).tolist() == sorted(GOLDEN.values())


def test_toy_sums(tmp_path: Path) -> None:
    found = rated(toy(tmp_path), ["the theorem holds", "Buy cheap shoes now"])
    assert list(found) == ["dsir_maths", "dsir_maths_sum"]
    assert found["dsir_maths_sum"] == pytest.approx([2.3273, -63.4434], abs=5e-5)
    assert found["dsir_maths"] == pytest.approx([0.4655, -9.0633], abs=5e-5)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.none(), anything, delicate, long_words, words), max_size=6), st.integers(1, 2**18))
@example(["ΑΣ ΑΣ. Σ ΑΣ'Α Α\u00adΣ\u00ad 1Σ ʰΣ", "\x85", "İİ i̇İa_İ", "a\x00b"], 10_000)
@example(["a" * n + " b" for n in (53, 54, 55, 56, 63, 64, 118, 119, 120, 183)], 10_000)
def test_buckets_equal_the_definition(texts: list[str | None], buckets: int) -> None:
    assert np.array_equal(counts_of(texts, buckets), expected(texts, buckets))


def test_every_code_point() -> None:
    points = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    texts = [f"a{'b '.join(points[start : start + 4096])}" for start in range(0, 0x33000, 4096)]
    assert np.array_equal(counts_of(texts), expected(texts))


@pytest.mark.parametrize(
    "text", ["x" * 50_000, "." * 9_000 + " a", "İ" * 9_000, "中" * 9_000, "a " * 9_000, "Σ'" * 9_000, "\n" * 9_000]
)
def test_extreme_documents(text: str) -> None:
    assert np.array_equal(counts_of([text, "a b"]), expected([text, "a b"]))


def test_the_most_buckets() -> None:
    weights = np.zeros((sha256.MAX_BUCKETS, 1))
    for feature in ("cat", "sat", "cat sat"):
        weights[int(hashlib.sha256(feature.encode()).hexdigest(), 16) % sha256.MAX_BUCKETS] += len(feature)
    assert weigh_features(pa.array(["Cat sat"]), weights)[0].tolist() == [[13.0]]
    allowed = {"targets": {"a": {"sources": ["a"]}}, "buckets": sha256.MAX_BUCKETS}
    assert ImportanceSettings.model_validate(allowed).buckets == sha256.MAX_BUCKETS


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), anything, delicate, words), max_size=6), st.data())
def test_scores_equal_the_definition(texts: list[str | None], data: st.DataObject) -> None:
    table = data.draw(st.lists(st.lists(st.integers(0, 50), min_size=32, max_size=32), min_size=3, max_size=3))
    counts = np.array(table) + np.eye(3, 32, dtype=np.int64)
    weights = log_ratios(counts, 1.0)
    sums, sizes = weigh_features(pa.array(texts, pa.string()), weights)
    for row, text in enumerate(texts):
        for target in (0, 1):
            ratios = reference.log_ratios(counts[1 + target], counts[0], 1.0)
            total, size = reference.log_importance(text or "", ratios)
            assert np.array_equal(weights[:, target], ratios)
            assert sizes[row] == size
            assert sums[row, target] == pytest.approx(total, rel=1e-12, abs=1e-9)


@given(st.lists(st.one_of(st.none(), delicate), min_size=1, max_size=8), st.data())
@settings(max_examples=30, deadline=None)
def test_slices_chunks_and_wide_offsets_change_nothing(texts: list[str | None], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(texts)))
    array, weights = pa.array(texts, pa.string()), log_ratios(expected(["a b .", "b _ é"], 64) + 1, 1.0)
    chunked = pa.chunked_array([array.slice(0, cut), array.slice(cut)])
    whole = weigh_features(array, weights)[0]
    assert np.array_equal(weigh_features(array.slice(cut), weights)[0], whole[cut:])
    for same in (chunked, array.cast(pa.large_string()), array.dictionary_encode()):
        assert np.array_equal(weigh_features(same, weights)[0], whole)
        counts = np.zeros((len(texts), 64), np.int64)
        add_feature_counts(same, np.arange(len(texts)), counts)
        assert np.array_equal(counts, expected(texts, 64))


@given(words.filter(bool), st.integers(2, 4))
@settings(max_examples=40, deadline=None)
def test_mean_of_a_repeated_document_moves_by_its_seams_alone(text: str, times: int) -> None:
    weights = log_ratios(expected(["the cat sat . n", "3 é ! the cat"], 64) + 1, 1.0)
    (once, many), (size, sizes) = weigh_features(pa.array([text, " ".join([text] * times)]), weights)
    tokens = [feature for feature in reference.features(text) if " " not in feature]
    seam = weights[reference.bucket(f"{tokens[-1]} {tokens[0]}", 64)]
    assert sizes == times * size + times - 1
    np.testing.assert_allclose(many, times * once + (times - 1) * seam, atol=1e-9)


def test_target_equal_to_raw_text_scores_nothing(tmp_path: Path) -> None:
    fit({"same": in_batches(RAW)}, in_batches(RAW), tmp_path, buckets=16, min_features=1)
    found = rated(Importance.from_folder(tmp_path, "dsir", 0.0), [*RAW, "anything else"])
    assert found["dsir_same_sum"] == [0.0] * 4


def test_no_features_is_null_and_never_zero(tmp_path: Path) -> None:
    for column in rated(toy(tmp_path), [None, "", " \n\u3000", "."]).values():
        assert [value is None for value in column] == [True, True, True, False]
    assert rated(toy(tmp_path), []) == {"dsir_maths": [], "dsir_maths_sum": []}
    with pytest.raises(SchemaError, match="string"):
        toy(tmp_path).rate(pa.record_batch({"text": pa.array([1])}))


def test_pseudo_count_tames_unseen_words(tmp_path: Path) -> None:
    rater = toy(tmp_path, buckets=4096)
    harsh, mild = (
        rated(Importance.from_folder(tmp_path, "dsir", pseudo), ["shoes"])["dsir_maths"][0] for pseudo in (0, 1)
    )
    assert harsh == pytest.approx(np.log(1e-8) - np.log(1 / 19 + 1e-8), abs=1e-5)
    assert mild == pytest.approx(np.log(1 / (11 + 4096)) - np.log(1 / 19), abs=1e-3)
    assert rater.identity() != Importance.from_folder(tmp_path, "dsir", 1.0).identity()


def numbered(n: int) -> list[str]:
    return [f"page {i} says {i * i % 97} things, {'again ' * (i % 5)}" for i in range(n)]


def test_table_is_the_same_for_any_order_and_batches(tmp_path: Path) -> None:
    texts = numbered(400)
    made = []
    for i, (order, size) in enumerate([(1, 7), (-1, 100), (1, 400)]):
        folder = tmp_path / str(i)
        folder.mkdir()
        facts = fit(
            {"t": in_batches(texts[:90][::order], size)}, in_batches(texts[::order], size), folder,
            buckets=64, raw_features=1_500, min_features=100,
        )  # fmt: skip
        assert facts["raw_one_document_in"] > 1
        made.append((folder / TABLE).read_bytes())
    assert len(set(made)) == 1


def test_raw_text_above_its_limit_is_a_sample_of_whole_documents() -> None:
    texts = numbered(2_000)
    everything, one_in = sampled_counts(in_batches(texts), 64)
    assert one_in == 1
    assert np.array_equal(everything, expected(texts, 64).sum(axis=0))
    limit = everything.sum()
    same, one_in = sampled_counts(in_batches(texts), 64, limit)
    assert np.array_equal(same, everything)
    assert one_in == 1
    half, one_in = sampled_counts(in_batches(texts), 64, limit - 1)
    assert one_in == 2
    assert 0.4 * limit < half.sum() < 0.6 * limit
    np.testing.assert_allclose(half / half.sum(), everything / limit, atol=0.02)
    nothing, _ = sampled_counts(in_batches(texts[:9]), 64, 0)
    assert nothing.sum() == 0


@pytest.mark.parametrize(("target", "raw", "named"), [(1, 9, "target 'few'"), (9, 1, "raw text")])
def test_too_small_corpora_are_refused(tmp_path: Path, target: int, raw: int, named: str) -> None:
    with pytest.raises(InputError, match=f"{named} is too small") as caught:
        fit({"few": in_batches(TARGET * target)}, in_batches(TARGET * raw), tmp_path, buckets=5)
    assert ("at least 50" in caught.value.expected, caught.value.found) == (True, "11")
    assert not (tmp_path / TABLE).exists()
    with pytest.raises(ConfigError, match="cannot be named 'raw'"):
        fit({"raw": in_batches(RAW)}, in_batches(RAW), tmp_path)


def test_raters_cross_processes_and_refuse_another_table(tmp_path: Path) -> None:
    rater = pickle.loads(pickle.dumps(toy(tmp_path)))
    batch = pa.record_batch({"id": pa.array(["a"]), "text": pa.array(["the cat"])})
    assert sidecar_rows(rater, batch).schema.names == ["id", "dsir_maths", "dsir_maths_sum"]
    other = tmp_path / "other"
    other.mkdir()
    assert toy(other, buckets=8).identity() != rater.identity()
    (tmp_path / TABLE).write_bytes((other / TABLE).read_bytes())
    for use in (rater, Importance(str(tmp_path / "gone.npy"), "0", "dsir", ("maths",), (11,))):
        with pytest.raises(ArtifactError, match="changed or removed"):
            rate_afresh(use)
    (tmp_path / FACTS).unlink()
    with pytest.raises(ArtifactError, match="no importance weights"):
        Importance.from_folder(tmp_path, "dsir")


def rate_afresh(rater: Importance) -> None:
    from raters.importance_table import load_weights

    load_weights.cache_clear()
    rated(rater, ["the cat"])


def test_it_is_fitted_once_on_documents_and_examples(tmp_path: Path) -> None:
    sources = {"maths": TARGET, "web": RAW}
    rows = [
        {"id": f"{s}{i}", "text": text, "source": s} for s, texts in sources.items() for i, text in enumerate(texts)
    ]
    (tmp_path / "maths.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TARGET))
    shop = Workshop(tmp_path / "w", LocalRuntime(1))

    def make(folder: Path) -> dict[str, Any]:
        write_table(folder / "a.parquet", documents(rows))
        return {}

    given = shop.build_here("documents", "documents", config={}, inputs=[], make=make)
    rating = Rating(shop, tmp_path, InputChecksums(tmp_path / "checksums.json"))
    asked = {
        "targets": {"web": {"sources": ["web"]}, "maths": {"files": ["maths.jsonl"]}}, "raw": {"sources": ["web"]},
        "buckets": 16, "min_features": 1, "pseudo_count": 0,
    }  # fmt: skip
    (made,) = rating.scores(given, {"dsir": ImportanceSettings.model_validate(asked)})
    table = read_table(made.files()[0])
    assert table.column_names == ["id", "dsir_maths", "dsir_maths_sum", "dsir_web", "dsir_web_sum"]
    found = dict(zip(table.column("id").to_pylist(), table.column("dsir_maths_sum").to_pylist(), strict=True))
    assert [found["web1"], found["web0"]] == pytest.approx([2.3273, -63.4434], abs=5e-5)
    assert set(table.column("dsir_web_sum").to_pylist()) == {0.0}
    kept = Artifact(tmp_path / "w" / "raters" / "dsir")
    assert kept.manifest.totals["features"] == {"raw": 19, "maths": 11, "web": 19}
    stamp = (kept.folder / TABLE).stat().st_mtime_ns
    asked["targets"] = dict(reversed(asked["targets"].items()))
    (again,) = rating.scores(given, {"dsir": ImportanceSettings.model_validate(asked)})
    (smooth,) = rating.scores(given, {"dsir": ImportanceSettings.model_validate({**asked, "pseudo_count": 1})})
    assert again.ref == made.ref != smooth.ref
    assert (kept.folder / TABLE).stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"targets": {}}, "targets"),
        ({"targets": {"a_sum": {"sources": ["a"]}}}, "cannot name a target"),
        ({"targets": {"a b": {"sources": ["a"]}}}, "cannot name a target"),
        ({"targets": {"raw": {"sources": ["a"]}}}, "cannot name a target"),
        ({"buckets": 0}, "buckets"),
        ({"buckets": 2 * sha256.MAX_BUCKETS}, "buckets"),
        ({"pseudo_count": -1}, "pseudo_count"),
        ({"min_features": 0}, "min_features"),
    ],
)
def test_settings_that_cannot_work(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validated(ImportanceSettings, {"targets": {"a": {"sources": ["a"]}}, **setting}, "rate.raters.dsir")


def test_real_pages() -> None:
    if not DEMO.exists():
        pytest.skip(f"the demo pages are not at {DEMO}")
    texts = [json.loads(line)["text"] for line in DEMO.open(encoding="utf-8")][:100]
    assert np.array_equal(counts_of(texts, 997), expected(texts, 997))


def test_held_out_encyclopedia_pages_score_above_web_pages(tmp_path: Path) -> None:
    pages = {}
    for name in ("enwiki", "web_en"):
        if not (DATA / f"{name}.jsonl.gz").exists():
            pytest.skip("the shared data are absent; set GRADATIM_DATA to their folder")
        with gzip.open(DATA / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            pages[name] = [json.loads(line)["text"] for line, _ in zip(lines, range(500), strict=False)]
    fit({"wiki": in_batches(pages["enwiki"][:250])}, in_batches(pages["web_en"][:250]), tmp_path)
    held_out = pages["enwiki"][250:] + pages["web_en"][250:]
    values = np.array(rated(Importance.from_folder(tmp_path, "dsir"), held_out)["dsir_wiki"], float)
    assert auc(values[:250], values[250:]) > 0.9
