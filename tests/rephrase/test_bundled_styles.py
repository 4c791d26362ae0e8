"""The styles that ship: their prompts word by word, and limits that agree with one another.

A changed prompt is a changed style: raise its version and write the new prompt into `style_prompts/`.
"""

from pathlib import Path

import pytest

from rephrase.fence import fenced
from rephrase.parsers.forms import read_form
from rephrase.style import Style, bundled_styles, load_style

PROMPTS = Path(__file__).parent / "style_prompts"
DOCUMENT = "The harbour at Porto opened in 1892.\n\nTwo walls of granite guard it."
PLAIN = [name for name in bundled_styles() if load_style(name).course == "plain"]

# chunk, max_out, min_document, min_segment. WRAP, Nemotron-CC, FinePhrase, REWIRE; a QA output has a floor of 100
# tokens and at most twice its source's, so sources below 50 tokens are not asked about.
LIMITS = {
    "easy": (300, 600, 30, 40),
    "medium": (300, 600, 30, 40),
    "hard": (300, 600, 30, 40),
    "qa": (300, 600, 30, 50),
    "diverse_qa": (1000, 600, 30, 50),
    "distill": (2000, 1600, 30, 10),
    "extract_knowledge": (1400, 1400, 30, 30),
    "knowledge_list": (1000, 600, 30, 30),
    "wikipedia": (512, 512, 5, 5),
    "faq": (2000, 2048, 50, 50),
    "math": (2000, 2048, 50, 50),
    "table": (2000, 2048, 50, 50),
    "tutorial": (2000, 2048, 50, 50),
    "guided_rewrite": (2000, 2048, 30, 30),
}
FORMS = {
    "text": "The harbour opened in 1892.",
    "pairs": "Question: When did it open?\nAnswer: In 1892.\n\nQuestion: Of what are its walls?\nAnswer: Granite.",
    "bullets": "- It opened in 1892.\n- Two walls guard it.",
    "table": "Walls.\n\n| wall | metres |\n| --- | --- |\n| north | 120 |\n| south | 80 |",
    "steps": "Mooring\n\n1. Slow down.\n2. Throw the rope.",
    "sections": "<diagnosis>\nPoor.\n</diagnosis>\n<rewrite>\nThe harbour opened in 1892.\n</rewrite>",
}


def prompt(style: Style) -> str:
    return "\n\n".join(f"[{message.role}]\n{message.content}" for message in style.messages(DOCUMENT)) + "\n"


def test_the_plain_styles_are_those_with_limits():
    assert set(PLAIN) == set(LIMITS)


@pytest.mark.parametrize("name", sorted(LIMITS))
def test_a_style_asks_word_by_word_as_written_down(name):
    assert prompt(load_style(name)) == (PROMPTS / f"{name}.txt").read_text(encoding="utf-8")


def test_every_written_prompt_has_its_style():
    assert {path.stem for path in PROMPTS.glob("*.txt")} == set(LIMITS)


@pytest.mark.parametrize("name", bundled_styles())
def test_a_style_sends_the_document_once_in_its_fence_and_says_what_it_is(name):
    style = load_style(name)
    first, *_, last = (message.content for message in style.messages(DOCUMENT))
    assert last.count(fenced(DOCUMENT)) == 1
    assert fenced(DOCUMENT) not in first  # the system turn is the same for all documents, so it is read once
    assert "passage" in f"{style.system} {style.template}".lower()
    assert style.about
    assert len(style.about) <= 120


@pytest.mark.parametrize("name", sorted(LIMITS))
def test_limits_are_those_of_the_papers_and_agree(name):
    style = load_style(name)
    limits, gates = style.limits, style.gates
    assert (limits.chunk, limits.max_out, limits.min_document, limits.min_segment) == LIMITS[name]
    assert style.decoding.temperature == 0.5
    length, tokens = gates.length, gates.tokens
    assert tokens.low == (100 if style.parser == "pairs" else 50)
    assert limits.max_ratio >= (length.high or 0) or limits.max_ratio * limits.chunk >= limits.max_out
    if style.parser == "pairs":
        assert limits.min_segment * length.high >= tokens.low


@pytest.mark.parametrize("name", sorted(LIMITS))
def test_the_form_a_style_asks_for_is_one_its_parser_reads(name):
    style = load_style(name)
    form = read_form(style, FORMS[style.parser])
    assert form.n_parts >= 1
    other = FORMS["text"] if style.parser != "text" else ""
    assert read_form(style, other).n_parts == 0


def test_the_styles_of_nemotron_draw_as_it_does():
    for name in ("diverse_qa", "distill", "extract_knowledge", "knowledge_list", "wikipedia"):
        assert load_style(name).decoding.top_p == 0.9
    for name in ("distill", "wikipedia"):
        style = load_style(name)
        assert style.lead_in
        assert style.lead_in in style.template
    diverse = load_style("diverse_qa")
    assert (diverse.choose_pairs, diverse.join) == (True, "append")
