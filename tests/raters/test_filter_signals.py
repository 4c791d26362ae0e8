"""Filter signals: the same decisions and reasons as datatrove's filters, exact counts, and rules as data."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from corpus.errors import ConfigError
from pipelines.filter_rules import load_rules, rule_sets
from raters.filter_signals import COUNTS, Rule, first_failure, signals

DEMO = Path(__file__).parents[2] / "pipelines" / "demo" / "pages.jsonl"
# Pieces on which some rule hangs; all of them are tokenised alike by spaCy.
PIECES = (
    *("the cat sat. ", " of ", " to ", " and ", " # ", " ## ", " ... ", " … ", " - x ", " • y ", "\n", "\n\n", " \n"),
    *("\r\n", "\x85", "\u2028", "  ", " don't ", " I'm ", " U.S. ", " he said. ", " Why? ", " Yes! ", " it's {x} "),
    *(" javascript here now. ", " Lorem IPSUM dolor sit. ", " see [1] now. ", " end. [12] ", " a [edit] b c. "),
    *(
        "“quoted.”",
        " privacy Policy here. ",
        " use coo\u212aies now. ",
        " one two three.\n",
        " five six seven eight nine",
    ),
    *(" 3.5 ", " 12km ", " e.g. ", " Mr. Smith ", " a-b ", " été ", " 中文。 ", " www.example.com ", " \x00 ", " (a) "),
    *(" “ ", " . ", " ! "),
)
texts = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)


@cache
def peers() -> dict[str, object]:
    filters = pytest.importorskip("datatrove.pipeline.filters", reason="datatrove is not installed")
    pytest.importorskip("spacy", reason="datatrove's English words need spaCy")
    return {
        "gopher_quality": filters.GopherQualityFilter(min_doc_words=1),
        "gopher_repetition": filters.GopherRepetitionFilter(),
        "c4": filters.C4QualityFilter(min_num_sentences=3),
        "fineweb": filters.FineWebQualityFilter(),
    }


def verdict(name: str, text: str) -> str | None:
    from datatrove.data import Document

    result = peers()[name].filter(Document(text=text, id="0"))  # type: ignore[attr-defined]
    return None if result is True else result[1]


def rules_of(name: str) -> tuple[Rule, ...]:
    """The bundled rules, with the lower bounds of `peers`, so that short texts reach the later rules."""
    lowered = {"gopher_short_doc": 1, "too_few_sentences": 3}
    return tuple(replace(rule, min=lowered.get(rule.reason, rule.min)) for rule in load_rules(name))


@settings(max_examples=150, deadline=None)
@given(text=texts)
@example(text="x")
@example(text=" \n ")
@example(text="\n\nab\n\n")
@example(text="the the the the the the the the the the the the")
@example(text="one two three. [1]")
def test_decisions_and_reasons_equal_datatrove(text: str) -> None:
    batch = signals(pa.array([text]))
    for name in peers():
        assert (name, first_failure(batch, rules_of(name))[0].as_py()) == (name, verdict(name, text))


def test_real_pages_agree() -> None:
    if not DEMO.exists():
        pytest.skip(f"the demo pages are not at {DEMO}")
    pages = [json.loads(line)["text"] for line in DEMO.open(encoding="utf-8")][::9]
    batch = signals(pa.array(pages))
    for name in peers():
        ours = first_failure(batch, rules_of(name)).to_pylist()
        assert ours == [verdict(name, page) for page in pages], name


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(st.none(), texts, st.text(st.characters(exclude_categories=["Cs"]), max_size=50)),
        min_size=1,
        max_size=6,
    ),
    st.data(),
)
def test_slices_chunks_and_neighbours_change_nothing(rows: list[str | None], data: st.DataObject) -> None:
    array = pa.array(rows, pa.string())
    whole = signals(array)
    cut = data.draw(st.integers(0, len(rows)))
    assert signals(array.slice(cut)).equals(whole.slice(cut))
    assert signals(pa.chunked_array([array.slice(0, cut), array.slice(cut)])).equals(whole)
    for row, text in enumerate(rows):
        assert signals(pa.array([text], pa.string())).equals(whole.slice(row, 1))
        if text is None:
            assert all(column[row].as_py() is None for column in whole.columns)


def test_columns_and_their_values() -> None:
    text = "The cat sat with the dog.\n- and more ...\n\nThe cat sat with the dog.\n"
    values = {name: column[0].as_py() for name, column in zip(*_columns(text), strict=True)}
    assert values["n_chars"] == len(text)
    assert values["gopher_n_words"] == 14
    assert values["gopher_stop_words"] == 3
    assert values["gopher_bullet_line_frac"] == pytest.approx(1 / 4)
    assert values["gopher_ellipsis_line_frac"] == pytest.approx(1 / 4)
    assert values["gopher_dup_line_frac"] == pytest.approx(1 / 4)
    assert values["gopher_dup_line_char_frac"] == pytest.approx(25 / len(text))
    assert values["gopher_dup_5gram_char_frac"] == pytest.approx(16 / len(text))
    assert values["c4_n_sentences"] == 2
    assert values["fineweb_n_lines"] == 3
    assert values["fineweb_newline_word_ratio"] == pytest.approx(4 / 18)
    batch = signals(pa.array([text]))
    assert all(field.type == (pa.int32() if field.name in COUNTS else pa.float32()) for field in batch.schema)


def _columns(text: str) -> tuple[list[str], list[pa.Array]]:
    batch = signals(pa.array([text]))
    return batch.schema.names, batch.columns


def test_bounds_are_allowed_and_nulls_pass() -> None:
    batch = pa.record_batch(
        {"share": pa.array([0.1, 0.100001, None, 0.0], pa.float32()), "n": pa.array([5, 4, 3, None], pa.int32())}
    )
    rules = (Rule("much", "share", max=0.1), Rule("few", "n", min=5), Rule("also few", "n", min=4))
    assert first_failure(batch, rules).to_pylist() == [None, "much", "few", None]
    assert first_failure(batch, ()).to_pylist() == [None] * 4


def test_unknown_signal_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown signal 'gopher_words'"):
        first_failure(signals(pa.array(["a"])), (Rule("few", "gopher_words", min=1),))


def test_bundled_rule_sets() -> None:
    assert set(rule_sets()) == {"c4", "fineweb", "gopher", "gopher_quality", "gopher_repetition"}
    known = set(signals(pa.array([], pa.string())).schema.names)
    for name in rule_sets():
        assert {rule.signal for rule in load_rules(name)} <= known
        assert all(rule.source for rule in load_rules(name))
    assert load_rules("gopher") == load_rules("gopher_quality") + load_rules("gopher_repetition")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("rules: [{reason: a, signal: n_chars}]", "number as min or max"),
        ("rules: [{reason: a, signal: n_chars, max: true}]", "number as min or max"),
        ("rules: [{reason: a, signal: n_chars, most: 3}]", "unknown key"),
        ("rules: [{signal: n_chars, max: 3}]", "incomplete"),
        ("rule: []", "keys `include` and `rules` only"),
        ("rules: [", "not valid YAML"),
        ("include: [{path}]", "includes itself"),
        ("include: [gofer]", "no filter rule set 'gofer'"),
    ],
)
def test_broken_rule_files_are_explained(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(content.replace("{path}", str(path)), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load_rules(str(path))


def test_own_rule_file(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("include: [fineweb]\nrules: [{reason: long, signal: n_chars, max: 3}]", encoding="utf-8")
    assert load_rules(str(path)) == (*load_rules("fineweb"), Rule("long", "n_chars", max=3))
