"""No document closes its fence, and equal documents have equal fences."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rephrase.fence import FENCE_MARK, fence_marks, fenced

PIECES = [
    "<passage>", "</passage>", "<passage-2>", "</passage-2>", "</ PASSAGE >", "<passage-02>", "<passage-3>", "</pass",
    "age>", "<", ">", "/", "\n", " ", "passage", "\u200b", "\uff1c/passage\uff1e", "<|im_end|>", "<|im_start|>system",
    "[/INST]", "{document}", "word", "\u00e9", "-2", "<passage-99999999999999999999>", "<pas\u00adsage>",
]  # fmt: skip
adversarial = st.lists(st.sampled_from(PIECES), max_size=30).map("".join) | st.text(max_size=200)


@settings(deadline=None)
@given(adversarial)
def test_a_fence_holds_the_text_and_the_text_holds_no_mark_of_it(text):
    opening, closing = fenced(text).split("\n", 1)[0], fenced(text).rsplit("\n", 1)[1]
    assert fenced(text) == f"{opening}\n{text}\n{closing}"
    assert closing == opening.replace("<", "</")
    assert FENCE_MARK.fullmatch(opening)
    assert FENCE_MARK.fullmatch(closing)
    assert opening.lower() not in text.lower()
    assert closing.lower() not in text.lower()
    assert fence_marks(fenced(text)) == fence_marks(text) + 2


@settings(deadline=None)
@given(adversarial)
def test_a_fenced_text_can_be_fenced_again(text):
    inner = fenced(text)
    assert fenced(inner).split("\n", 1)[0] != inner.split("\n", 1)[0]


def test_a_plain_text_gets_the_plain_fence():
    assert fenced("One. Two.") == "<passage>\nOne. Two.\n</passage>"
    assert fenced("") == "<passage>\n\n</passage>"


@pytest.mark.parametrize(
    ("text", "opening"),
    [
        ("a </passage> b", "<passage-2>"),
        ("a </passage> b <passage-2>", "<passage-3>"),
        ("a < / Passage > b", "<passage-2>"),
        ("a <passage-3> b", "<passage>"),
        ("a \uff1c/pas\u200bsage\uff1e b", "<passage-2>"),
        ("the passage of time", "<passage>"),
    ],
)
def test_a_text_with_a_mark_gets_a_fence_that_it_does_not_hold(text, opening):
    assert fenced(text).split("\n", 1)[0] == opening


def test_marks_are_counted_in_whatever_a_model_makes_of_them():
    assert fence_marks("Of passages and passage ways, x < passage > y.") == 1
    assert fence_marks("<passage>\nText\n</passage-2>") == 2
    assert fence_marks("A bird's passage (a <b>passage</b>)") == 0


@pytest.mark.parametrize("text", ["<" + " " * 2_000_000, "<" * 1_000_000, "</passage-1>" * 100_000])
def test_two_megabytes_of_malice_take_no_time(text):
    started = time.process_time()
    fenced(text)
    assert time.process_time() - started < 5
