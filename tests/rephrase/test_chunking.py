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


def pieces(text: str, **options) -> list[str]:
    chunks, _ = split(text, **{"budget_tokens": 10, "min_tokens": 0, "count": words} | options)
    return [text[chunk.start : chunk.end] for chunk in chunks]


def test_a_chunk_ends_at_a_paragraph_if_it_is_half_full_by_then():
    text = "Aa aa aa aa aa aa.\n\nBb bb. Cc cc. Dd dd dd dd dd dd."
    assert pieces(text) == ["Aa aa aa aa aa aa.\n\n", "Bb bb. Cc cc. Dd dd dd dd dd dd."]
    text = "Aa aa aa.\n\nBb bb. Cc cc. Dd dd dd dd dd dd. Ee."
    assert pieces(text) == ["Aa aa aa.\n\nBb bb. Cc cc. ", "Dd dd dd dd dd dd. Ee."]


def test_an_empty_line_is_a_better_border_than_the_end_of_a_line():
    text = "Aa aa aa aa aa aa.\n\nBb bb.\nCc cc. Dd dd dd dd dd."
    assert pieces(text) == ["Aa aa aa aa aa aa.\n\n", "Bb bb.\nCc cc. Dd dd dd dd dd."]
    text = "Aa aa aa aa aa aa.\nBb bb. Cc cc dd dd. Dd dd dd dd."
    assert pieces(text) == ["Aa aa aa aa aa aa.\n", "Bb bb. Cc cc dd dd. Dd dd dd dd."]


def test_lines_wrapped_to_a_width_are_no_sentences():
    text = "The long road, \nwinding through\r\nthe hills, ends\nhere.\nNext: one\n\nlast"
    parts = [text[a:b] for a, b in zip([0, *sentences(text)], sentences(text), strict=False)]
    assert parts == ["The long road, \nwinding through\r\nthe hills, ends\nhere.\n", "Next: one\n\n", "last"]


@settings(deadline=None)
@given(alphabet, st.integers(8, 40), st.integers(0, 30))
def test_counting_many_at_once_changes_nothing(text, budget, minimum):
    alone = split(text, budget_tokens=budget, min_tokens=minimum, count=characters)
    many = split(
        text, budget_tokens=budget, min_tokens=minimum, count=characters, count_many=lambda t: [len(x) for x in t]
    )
    assert alone == many


TWO_MB = 2_000_000


@pytest.mark.parametrize(
    ("piece", "count"),
    [
        ("A sentence of some words. And one more, a longer one, to go on with!\n\n", words),
        ("word ", words),
        ("x", characters),
        ("\u4e2d\u6587", characters),
        ("\u05d0\u05d1 \u05d2. ", characters),
        ("a\n\nb\n", characters),
        (".", characters),
        (" ", characters),
        ("\n", characters),
        (". ", characters),
    ],
    ids=["prose", "one sentence", "one word", "chinese", "hebrew", "short lines", "dots", "blanks", "lines", "marks"],
)
def test_two_megabytes_are_counted_a_few_times_over_and_no_more(piece, count):
    text = (piece * (TWO_MB // len(piece) + 1))[:TWO_MB]
    counted = 0

    def counting(part: str) -> int:
        nonlocal counted
        counted += len(part)
        return count(part)

    chunks, drops = split(text, budget_tokens=500, min_tokens=30, count=counting)
    cut = sorted([*chunks, *drops], key=lambda part: part.start)
    assert [part.start for part in cut[1:]] + [len(text)] == [part.end for part in cut]
    assert counted < 40 * len(text)
