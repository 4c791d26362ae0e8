"""Wrapping comes off, what is inside stays; what cannot be taken off is counted."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rephrase.cleaning import clean, without_markdown
from rephrase.style import Style

TEXT = "The harbour opened in 1892. Two walls of granite guard it."
BASE = {"name": "test", "version": 1, "about": "a test", "system": "", "template": "The passage: {document}"}


def style(**fields) -> Style:
    return Style.model_validate(BASE | fields)


def cleaned(text, **fields):
    found = clean(text, style(**fields))
    return found.text, found.chatter, found.lead_in_missing


@pytest.mark.parametrize(
    "opening",
    [
        "Sure! ",
        "Sure, here you go:\n",
        "Certainly! Here is the rewritten text:\n\n",
        "Sure, I can help with that! Here is a simplified version of the passage: ",
        "Of course.\n\n",
        "**Rewritten text:** ",
        "Here's the paraphrased passage:\n",
        "This is a simplified version of the text: ",
        "Hier ist der umgeschriebene Text: ",
        "Nat\u00fcrlich! Hier ist eine vereinfachte Fassung:\n",
        "Voici une version r\u00e9\u00e9crite : ",
        "\u00a1Claro! Aqu\u00ed tienes el texto reescrito:\n\n".removeprefix("\u00a1"),
        "Certo, ecco il testo riscritto: ",
        "Claro! Aqui est\u00e1 o texto reescrito:\n",
        "Natuurlijk! Hier is de herschreven tekst: ",
        "Oczywi\u015bcie! Oto przepisany tekst: ",
        "Конечно! Вот переписанный текст: ",
        "好的，以下是改写后的文本：",
        "はい、以下は書き直した文章です：",
    ],
)
def test_one_chatty_opening_comes_off_in_many_languages(opening):
    assert cleaned(opening + TEXT) == (TEXT, 0, False)


@pytest.mark.parametrize(
    "text",
    [
        "Of course, the museum is closed on Mondays.",
        "Great Britain built a harbour.",
        "Here are the ingredients: two eggs and flour.",
        "Certainly, it rained.",
        "OK, let us begin.",
        "This is how it works: one pours the water.",
        "Sure footing is needed on the wall.",
        "Klar ist nur eines: der Hafen bleibt.",
        "It opened.\nNote that this is old.",
    ],
)
def test_sentences_that_only_look_chatty_stay(text):
    assert cleaned(text) == (text, 0, False)


def test_a_second_opening_stays_and_is_counted():
    text, chatter, _ = cleaned(f"Sure! Here is the text: Here is the rewritten text: {TEXT}")
    assert (text, chatter) == (f"Here is the rewritten text: {TEXT}", 1)


@pytest.mark.parametrize("closing", ["Let me know if you need more!", "I hope this helps.", "Ich hoffe, das hilft!"])
def test_a_chatty_last_line_comes_off(closing):
    assert cleaned(f"{TEXT}\n\n{closing}") == (TEXT, 0, False)
    assert cleaned(closing) == (closing, 0, False)
    assert cleaned(f"{TEXT}\n{closing}\n{closing}")[1] == 1


@pytest.mark.parametrize(
    "wrapped",
    [
        f"```\n{TEXT}\n```",
        f"```text\n{TEXT}\n```",
        f'"{TEXT}"',
        f"\u201c{TEXT}\u201d",
        f"\u201e{TEXT}\u201c",
        f"\u00ab{TEXT}\u00bb",
        f"<passage>\n{TEXT}\n</passage>",
        f"<passage-2>\n{TEXT}\n</passage-2>",
        f"{TEXT}\n</passage>",
        f"<passage>\n{TEXT}",
        f"Here is the rewritten text:\n```\n{TEXT}\n```",
        f'Sure!\n\n"{TEXT}"\n',
    ],
)
def test_fences_and_quotes_around_everything_come_off(wrapped):
    assert cleaned(wrapped) == (TEXT, 0, False)


@pytest.mark.parametrize(
    "text",
    [
        f'"Two" walls. {TEXT} "End"',
        f"```\na\n```\n{TEXT}\n```\nb\n```",
        f"</passage> {TEXT}",
        f"{TEXT} <passage>",
        f"{TEXT} <passage> b",
    ],
)
def test_wrapping_that_is_not_around_everything_stays(text):
    assert cleaned(text)[0] == text


@pytest.mark.parametrize("opening", ["In short:", "in SHORT: ", "**In short:** ", "**In short**:\n", "In  short:\n\n"])
def test_an_agreed_lead_in_is_cut(opening):
    assert cleaned(f"{opening} {TEXT}", lead_in="In short:") == (TEXT, 0, False)


@pytest.mark.parametrize("opening", ["", "Sure! ", "In brief: ", "Well. In short: "])
def test_a_missing_lead_in_is_said(opening):
    assert cleaned(opening + TEXT, lead_in="In short:")[2]


def test_markdown_comes_off_prose_alone():
    marked = (
        "# Harbour\n\nIt **opened** in *1892*, see [the _list_](http://x.example/a) or `notes`.\n\n---\n> Two walls."
    )
    plain = "Harbour\n\nIt opened in 1892, see the list or notes.\n\nTwo walls."
    assert cleaned(marked)[0] == plain
    assert cleaned(marked, parser="steps")[0] == marked


@pytest.mark.parametrize(
    "text",
    ["2*3*4 = 24", "snake_case_name", "a * b * c", "5 > 3", "$a_1 + b_2$", "- one\n- two", "#1 of 3", "| a | b |"],
)
def test_what_is_no_markdown_stays(text):
    assert without_markdown(text) == text


@given(st.text(st.sampled_from('ab *_#`>-[]()\n"Sure!:'), max_size=80), st.sampled_from(["text", "pairs"]))
def test_cleaning_adds_nothing(text, parser):
    remaining = iter(text)
    assert all(character in remaining for character in cleaned(text, parser=parser)[0])


def test_cleaning_a_long_answer_takes_no_time():
    for piece in ("sure ", "*", "\n", "here is ", "**a", "[a", "```\n", "_a ", "<passage>", "\nlet me know if"):
        started = time.process_time()
        cleaned(piece * 20_000)
        assert time.process_time() - started < 3
