"""Questions and their answers: read them tolerantly, choose among them, write them in one way.

A text of pairs is either tagged (`Question: ... Answer: ...`, `Q1.`, bullets, numbers, bold, eleven languages) or has
its questions as lines of their own that end in a question mark, as an FAQ has. As in Nemotron-CC (arXiv 2412.02595) the
first line must open a question, or nothing is a pair; a title above an FAQ is allowed. A question without an answer is
no pair.

How it is used:  pairs = read_pairs(text); a kept answer becomes a document's text by
finished_text(style, write_pairs(pairs), n_source_tokens=300, key=f"{document_id}/{chunk_index}")
"""

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from corpus.keyed_random import keyed_hashes
from rephrase.cleaning import without_markdown

if TYPE_CHECKING:
    from rephrase.style import Style

Pair = tuple[str, str]

PAIRS_PER_TOKENS = (10, 150)
"""Nemotron-CC's cap: at most 10 pairs for each 150 tokens of input, and at least one."""


def read_pairs(text: str) -> list[Pair]:
    """The (question, answer) pairs of a text in order; none when its first line does not open a question."""
    lines = _without_title(text)
    if not lines:
        return []
    marks = _tagged(lines) if _QUESTION_TAG.match(lines[0]) else _asked(lines)
    found = []
    for number, (kind, question) in enumerate(marks):
        following = marks[number + 1] if number + 1 < len(marks) else None
        if kind == "q" and following and following[0] == "a":
            pair = (_joined(question), _body(following[1]))
            found += [pair] if all(pair) else []
    return found


def write_pairs(pairs: Sequence[Pair]) -> str:
    """Pairs as blocks of `Question: ...` and `Answer: ...`, a blank line between them; `read_pairs` reads them back."""
    return "\n\n".join(f"Question: {question}\nAnswer: {answer}" for question, answer in pairs)


def choose_pairs(pairs: Sequence[Pair], n_tokens: int, key: str) -> list[Pair]:
    """Some of the pairs in a new order, as Nemotron-CC takes them; a pure function of pairs, `n_tokens` and `key`.

    They are shuffled, and the first randint(1, `pairs_cap(n_tokens)`) are kept. The draws there are unseeded; here
    they are keyed, so name the document and the chunk in `key`. Source: arXiv 2412.02595 and its code in NeMo Curator.
    """
    if not pairs:
        return []
    ranks = keyed_hashes(0, (f"{key}/{place}" for place in range(len(pairs))))
    kept = 1 + int(keyed_hashes(1, [key])[0]) % pairs_cap(n_tokens)
    return [pairs[place] for place in np.argsort(ranks, kind="stable")[:kept]]


def pairs_cap(n_tokens: int) -> int:
    """The most pairs kept for an input of `n_tokens` tokens: max(1, floor(10 n / 150))."""
    most, per = PAIRS_PER_TOKENS
    return max(1, most * n_tokens // per)


def finished_text(style: "Style", form_text: str, n_source_tokens: int, key: str) -> str:
    """The text of a kept answer as it enters a document: some of its pairs in a new order, where the style says so.

    Args:
        form_text: a written form, `Form.text`.
        n_source_tokens: tokens of the chunk it was made from, >= 0.
        key: names document and chunk; equal keys draw alike.
    """
    if style.parser == "pairs" and style.choose_pairs:
        return write_pairs(choose_pairs(read_pairs(form_text), n_source_tokens, key))
    return form_text


_ASK = r"questions?|q|frage|pregunta|domanda|pergunta|vraag|pytanie|вопрос|问题?|質問"
_REPLY = r"answer|a|ans|antwort|r\u00e9ponse|respuesta|risposta|resposta|antwoord|odpowied\u017a|ответ|答案?|回答"
_LIST_MARK = r"(?:[-*+\u2022\u00b7][ \t]+|\(?\d{1,3}[.):][ \t]*)"
_LEAD = rf"[ \t]*+(?:\#{{1,6}}[ \t]*)?{_LIST_MARK}?[*_\"]*"
_TAG_END = r"[ \t]*(?:\#?\d{1,3})?[*_]*[ \t]*[:.\uff1a][*_]*[ \t]*"
_QUESTION_TAG = re.compile(rf"{_LEAD}(?:{_ASK}){_TAG_END}", re.IGNORECASE)
_TAG = re.compile(rf"^{_LEAD}(?:(?P<q>{_ASK})|(?:{_REPLY})){_TAG_END}", re.IGNORECASE | re.MULTILINE)
_REPLY_INSIDE = re.compile(rf"[ \t]+[*_]*(?:{_REPLY})[*_]*[ \t]*[:\uff1a][*_]*[ \t]*", re.IGNORECASE)
_ASKED = re.compile(
    rf"^[ \t]*+(?P<mark>\#{{1,6}}[ \t]*)?(?P<number>{_LIST_MARK})?[*_\"]*(?P<question>\S[^\n]{{2,400}}?[?\uff1f\u061f])"
    r"[*_\"]*[ \t]*$",
    re.MULTILINE,
)
_TITLE = re.compile(
    r"[#*_ \t]*(?:[^\n?.!]{0,80}\bFAQs?\b|frequently asked|questions? (?:and|&)|q ?& ?a|h\u00e4ufig)", re.IGNORECASE
)


def _without_title(text: str) -> list[str]:
    """The lines of a text from its first question on, if at most a title stands before it."""
    lines = text.strip().splitlines()
    if lines and not _QUESTION_TAG.match(lines[0]) and (_TITLE.match(lines[0]) or lines[0].startswith("#")):
        body = "\n".join(lines[1:]).strip()
        if not lines[0].rstrip("*_ ").endswith("?"):
            return body.splitlines()
    return lines


def _tagged(lines: list[str]) -> list[tuple[str, str]]:
    """Turns of a tagged text: ("q" or "a", what follows the tag)."""
    text = "\n".join(lines)
    tags = list(_TAG.finditer(text))
    turns = []
    for place, tag in enumerate(tags):
        body = text[tag.end() : tags[place + 1].start() if place + 1 < len(tags) else len(text)]
        if tag["q"] and (reply := _REPLY_INSIDE.search(body)):
            turns += [("q", body[: reply.start()]), ("a", body[reply.end() :])]
        else:
            turns.append(("q" if tag["q"] else "a", body))
    return turns


def _asked(lines: list[str]) -> list[tuple[str, str]]:
    """Turns of a text whose questions are lines that end in a question mark; none if its first line is no question."""
    text = "\n".join(lines)
    found = list(_ASKED.finditer(text))
    if not found or found[0].start():
        return []
    alike = [match for match in found if _look(match) == _look(found[0])]  # a question inside an answer looks otherwise
    return list(_turns(text, alike))


def _look(match: re.Match[str]) -> tuple[bool, bool]:
    return bool(match["mark"]), bool(match["number"])


def _turns(text: str, questions: list[re.Match[str]]) -> Iterator[tuple[str, str]]:
    for place, match in enumerate(questions):
        end = questions[place + 1].start() if place + 1 < len(questions) else len(text)
        yield "q", match["question"]
        yield "a", _REPLY_FIRST.sub("", text[match.end() : end], count=1)


_REPLY_FIRST = re.compile(rf"\A\s*{_LEAD}(?:{_REPLY}){_TAG_END}", re.IGNORECASE)


def _joined(text: str) -> str:
    return " ".join(without_markdown(text).split()).strip('*_" ')


def _body(text: str) -> str:
    """An answer without Markdown, blank lines and blanks at line ends, so that a blank line ends a pair."""
    lines = (line.rstrip() for line in without_markdown(text).strip("*_ \n").splitlines())
    return "\n".join(line for line in lines if line.strip())
