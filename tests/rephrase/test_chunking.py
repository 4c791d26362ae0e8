"""Cutting loses nothing, respects the budget, and prefers sentence ends."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.errors import ConfigError
from rephrase.chunking import sentences, split


def words(text: str) -> int:
    return len(text.split())


def characters(text: str) -> int:
    return len(text)


alphabet = st.text(
    st.sampled_from('ab Z1.!?\n\r\t\u00a0\u3002\u05d0\u0627\u061f"\u201d\u4e2d\U0001f600,-'), max_size=300
)


@settings(deadline=None)
@given(alphabet | st.text(max_size=200), st.integers(8, 40), st.integers(0, 30), st.sampled_from([words, characters]))
def test_chunks_and_drops_put_together_are_the_text(text, budget, minimum, count):
    chunks, drops = split(text, budget_tokens=budget, min_tokens=minimum, count=count)
    pieces = sorted([*chunks, *drops], key=lambda piece: piece.start)
    assert "".join(text[piece.start : piece.end] for piece in pieces) == text
    assert all(piece.start < piece.end for piece in pieces)


@settings(deadline=None)
@given(alphabet, st.integers(8, 40), st.integers(0, 7), st.sampled_from([words, characters]))
def test_chunks_fit_the_budget_and_only_long_sentences_are_cut(text, budget, minimum, count):
    chunks, _ = split(text, budget_tokens=budget, min_tokens=minimum, count=count)
    ends = {0, *sentences(text)}
    for chunk in chunks:
        assert minimum <= count(text[chunk.start : chunk.end].strip()) <= budget
        assert chunk.hard_split or {chunk.start, chunk.end} <= ends


def test_sentences_end_at_marks_lines_and_other_scripts():
    text = 'One. "Two!" Three?\nFour \u4e2d\u3002\u6587 \u0645\u0627\u061f end'
    ends = sentences(text)
    parts = [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    assert parts == ["One. ", '"Two!" ', "Three?\n", "Four \u4e2d\u3002", "\u6587 \u0645\u0627\u061f ", "end"]


def test_abbreviations_and_initials_do_not_end_a_sentence():
    text = "Dr. A. Smith used tools, e.g. a saw. He left."
    assert [text[:end] for end in sentences(text)] == ["Dr. A. Smith used tools, e.g. a saw. ", text]


def test_a_short_tail_joins_if_it_fits_and_is_a_named_drop_if_not():
    text = "a a a a a a. b b b b. c c."
    chunks, drops = split(text, budget_tokens=12, min_tokens=3, count=words)
    assert ([(c.start, c.end) for c in chunks], drops) == ([(0, len(text))], [])
    chunks, drops = split(text, budget_tokens=10, min_tokens=3, count=words)
    assert [text[c.start : c.end] for c in chunks] == ["a a a a a a. b b b b. "]
    assert [(text[d.start : d.end], d.reason) for d in drops] == [("c c.", "short_segment")]


def test_blank_text_is_a_drop_and_empty_text_is_nothing():
    assert split(" \n ", budget_tokens=10, min_tokens=0, count=words)[1][0].reason == "blank"
    assert split("", budget_tokens=10, min_tokens=0, count=words) == ([], [])


def test_no_room_for_text_is_an_error():
    with pytest.raises(ConfigError, match="no room"):
        split("a", budget_tokens=3, min_tokens=1, count=words)
