"""The compiled signals equal their plain-Python definition on any text, and the golden values of the definition."""

import json
import sys
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from corpus.errors import SchemaError
from raters.signals import SIGNALS, rate, rounded
from raters.text import reference, unicode_tables
from raters.text.signal_kernel import round_share

DEMO = Path(__file__).parents[2] / "pipelines" / "demo" / "pages.jsonl"
GOLDEN_ORDER = (5, 7, 3, 9, 0, 1, 4, 6, 10, 2, 8)
"""Columns of the golden rows: words, sentences, mean length, unique, entropy, no-alpha, top 2, top 3, terminal,
uppercase, numeric."""
GOLDEN = [
    (
        "The cat sat. The cat ran!\nIt saw 3 BIG dogs\n\nDone?",
        (12, 3, 2.91666667, 0.83333333, 2.25385759, 0.26666667, 0.34285714, 0, 0.5, 0.124786325, 0.0147058825),
    ),
    ("a a a a", (4, 1, 1, 0.25, 0, 0, 1.5, 1.5, 0, 0, 0)),
    ("Café “naïve” №5.", (3, 1, 5.0, 1, 1.09861229, 0.71428571, 0, 0, 1, 0.0625, 0.05882353)),
    ("", (0, 0, None, None, None, None, 0, 0, None, None, None)),
]
# Characters chosen because a rule hangs on them: sigma and its context, expanding lower case, marks that reorder,
# unusual whitespace, NUL, numerics that are not digits, terminal marks, astral planes.
DELICATE = "aAbZ09 .,!?”'\"_-\n\t\r\x00\x0b\x0c\x1c\x1f\x85\xa0\u2028\u2029\u3000"
DELICATE += "ΣσςİıßẞéÅ№½Ⅷ²十中文\u0300\u0316\u0327\u0345\u05b0"
DELICATE += "\u00ad\u02b0\u037a\u180e\u200b\u200d\ufeff\u0390\u1f82\uac01\u1100\u1161\U0001f600\U0001d15e\U000e0001"
anything = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
delicate = st.text(st.sampled_from(DELICATE), max_size=60)
repetitive = st.lists(st.sampled_from(["the", "cat", "The", "sat.", "é", "\n", " ", "3"]), max_size=60).map(" ".join)


def expected(texts: list[str | None]) -> pa.RecordBatch:
    rows = [(None,) * len(SIGNALS) if text is None else reference.signals(text) for text in texts]
    return pa.record_batch(
        [pa.array([row[i] for row in rows], pa.float32()) for i in range(len(SIGNALS))],
        names=[score.name for score in SIGNALS],
    )


@pytest.mark.parametrize(("text", "values"), GOLDEN)
def test_golden_values_to_eight_digits(text: str, values: tuple[float | None, ...]) -> None:
    defined = reference.signals(text)
    rated = rate(pa.array([text]))
    for column, value in zip(GOLDEN_ORDER, values, strict=True):
        assert defined[column] == (value if value is None else pytest.approx(value, abs=1e-12))
        assert rated.column(column)[0].as_py() == (value if value is None else np.float32(defined[column]))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.none(), anything, delicate, repetitive), max_size=8))
@example(["ΑΣ ΑΣ. Σ ΑΣ.Α ΑΣ'Α Α\u00adΣ\u00ad 1Σ ʰΣ", "\x85", "\u2028a", " \n ", "\x00", "İİ i̇i̇"])
@example(["a" + "\u0301\u0316" * 40 + " a" + "\u0316\u0301" * 40])
def test_compiled_equals_definition(texts: list[str | None]) -> None:
    array = pa.array(texts, pa.string())
    assert rate(array).equals(expected(texts))


@given(st.lists(st.one_of(st.none(), delicate), min_size=1, max_size=8), st.data())
@settings(max_examples=50, deadline=None)
def test_slices_chunks_and_wide_offsets_change_nothing(texts: list[str | None], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(texts)))
    array = pa.array(texts, pa.string())
    whole = rate(array)
    assert rate(array.slice(cut)).equals(whole.slice(cut))
    assert rate(pa.chunked_array([array.slice(0, cut), array.slice(cut)])).equals(whole)
    assert rate(array.cast(pa.large_string())).equals(whole)
    assert rate(array.dictionary_encode()).equals(whole)


def test_real_pages() -> None:
    if not DEMO.exists():
        pytest.skip(f"the demo pages are not at {DEMO}")
    texts = [json.loads(line)["text"] for line in DEMO.open(encoding="utf-8")]
    assert rate(pa.array(texts)).equals(expected(texts))


def test_no_rows_and_only_nulls() -> None:
    assert rate(pa.array([], pa.string())).num_rows == 0
    assert rate(pa.chunked_array([], pa.string())).num_rows == 0
    nulls = rate(pa.array([None, None], pa.string()))
    assert all(column.null_count == 2 for column in nulls.columns)


def test_broken_arrays_are_refused() -> None:
    with pytest.raises(SchemaError, match="string"):
        rate(pa.array([1, 2]))
    bad_utf8 = pa.Array.from_buffers(pa.binary(), 1, pa.array([b"a\xff"]).buffers()).view(pa.string())
    with pytest.raises(SchemaError, match="UTF-8"):
        rate(bad_utf8)
    falling = pa.py_buffer(np.array([0, 1_000_000, 1, 3], np.int32).tobytes())
    with pytest.raises(SchemaError, match="offset"):
        rate(pa.Array.from_buffers(pa.string(), 3, [None, falling, pa.py_buffer(b"abc")]))


def test_tables_agree_with_python_on_every_code_point() -> None:
    tables = unicode_tables.tables()
    skipped = {*range(0xD800, 0xE000)}
    points = [point for point in range(sys.maxunicode + 1) if point not in skipped]
    characters = [chr(point) for point in points]
    for bit, test in (
        (unicode_tables.SPACE, str.isspace),
        (unicode_tables.ALPHA, str.isalpha),
        (unicode_tables.UPPER, str.isupper),
        (unicode_tables.NUMERIC, str.isnumeric),
    ):
        assert (tables.flags[points] & bit > 0).tolist() == list(map(test, characters))
    assert tables.combining[points].tolist() == list(map(unicodedata.combining, characters))
    folded = [unicodedata.normalize("NFD", character.lower()) for character in characters]
    lengths = list(map(len, folded))
    assert (1 + (tables.flags[points] >> unicode_tables.LENGTH_SHIFT)).tolist() == lengths
    assert [sum(map(str.isnumeric, form)) for form in folded] == [int(c.isnumeric()) for c in characters]
    sizes = np.array([len(character.encode()) for character in characters])
    assert np.max(np.array(lengths) / sizes) <= 1.5


@given(st.integers(1, 10**6), st.data())
def test_share_rounding_is_pythons(whole: int, data: st.DataObject) -> None:
    part = data.draw(st.integers(0, whole))
    assert round_share(part, whole) == round(part / whole, 8)


def test_share_rounding_at_ties() -> None:
    for power in range(9, 26):
        whole = 2**power
        for part in (1, 3, 5, 7, 127, whole - 1, whole // 2 + 1):
            if part <= whole:
                assert round_share(part, whole) == round(part / whole, 8)
    for whole in (5**8 * 512, 5**8 * 256 * 3, 5**4 * 2**9, 200_000_000 // 3 * 3 // 10):
        for part in range(1, whole, whole // 997):
            assert round_share(part, whole) == round(part / whole, 8)


@given(st.lists(st.floats(0, 1e7)))
def test_column_rounding_is_pythons(values: list[float]) -> None:
    ties = [n / 2**9 / 10**5 for n in range(20)] + [0.5, 1.5e-8, 2.5e-8, 1.0000000050000001]
    assert rounded(np.array(values + ties)).tolist() == [round(value, 8) for value in values + ties]


@pytest.mark.parametrize(
    "text",
    [
        "." * 30_000,
        "a" + "\u0301\u0316" * 3_000,
        "Σ'" * 20_000,
        "a " * 20_000,
        "\n" * 20_000,
        "x" * 50_000,
        "\U0001f600" * 9_000,
    ],
    ids=["dots", "marks", "sigmas", "one word", "newlines", "no blank", "pictographs"],
)
def test_extreme_documents(text: str) -> None:
    assert rate(pa.array([text])).equals(expected([text]))


def test_threads_share_the_tables_and_agree() -> None:
    array = pa.array([f"The cat no. {n} sat.\nΣΑΣ é {n}" for n in range(200)])
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(rate, [array.slice(start, 50) for start in range(0, 200, 50)]))
    assert pa.Table.from_batches(parts).combine_chunks().equals(pa.Table.from_batches([rate(array)]))
