"""The gates an output passes before it becomes a document, in order, each with its measured value.

Order goes from cheap and certain to fuzzy. Every gate measures; a style says which values it accepts; the
first value outside its limits is the recorded reason. So thresholds are data, and a stored output can be
judged again without generating it again. Cleaning comes first and is small: one agreed or chatty opening
line, a code fence around everything, quotation marks around everything.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from pydantic import Field, model_validator

from corpus.config import Config
from rephrase import fidelity
from rephrase.generator import Generation


class Limit(Config):
    """The values a gate accepts; a null value (nothing to measure) is accepted as well."""

    low: float | None = Field(None, description="smallest accepted value")
    high: float | None = Field(None, description="largest accepted value")

    @model_validator(mode="after")
    def _one_side_at_least(self) -> "Limit":
        if self.low is None and self.high is None:
            raise ValueError("a limit needs low, high, or both")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        return self

    def accepts(self, value: float | None) -> bool:
        """Whether a measured value lies within the limit."""
        return value is None or not (
            (self.low is not None and value < self.low) or (self.high is not None and value > self.high)
        )


def _at_most(high: float) -> Limit:
    return Limit(low=None, high=high)


def _at_least(low: float) -> Limit:
    return Limit(low=low, high=None)


class Limits(Config):
    """Limits by gate, in the order the gates are tried. Null switches a gate off; its value is still measured."""

    finished: Limit | None = Field(_at_least(1), description="1 when the model ended by itself, 0 when it was cut")
    text: Limit | None = Field(_at_most(0.001), description="share of control and replacement characters; 1 if empty")
    refusal: Limit | None = Field(_at_most(0), description="apologies and self-references in the first 200 characters")
    lead_in: Limit | None = Field(_at_most(0), description="chatter left at the start, or an agreed lead-in missing")
    leak: Limit | None = Field(_at_most(0), description="role markers, placeholders and instruction fragments")
    parse: Limit | None = Field(_at_least(1), description="parts the style's parser finds")
    residue: Limit | None = Field(_at_most(0), description="code fences, headings and bold marks the source lacks")
    length: Limit | None = Field(Limit(low=0.5, high=1.5), description="output tokens over source tokens")
    tokens: Limit | None = Field(_at_least(50), description="output tokens")
    loops: Limit | None = Field(_at_most(0.2), description="share of repeated 4-grams inside the output")
    copy_8: Limit | None = Field(_at_most(0.7), description="share of the output's 8-grams found in the source")
    drift: Limit | None = Field(_at_least(0.3), description="share of the output's content words found in the source")
    facts: Limit | None = Field(_at_least(0.9), description="share of its numbers and names found in the source")
    recall: Limit | None = Field(_at_least(0.6), description="share of the source's numbers and names it has")
    contacts: Limit | None = Field(_at_most(0), description="e-mail addresses and links the source lacks")


@dataclass(frozen=True, slots=True)
class Task:
    """What an output is judged against: its source chunk, the style's own words, and what the style demands."""

    source: str
    instruction: str
    lead_in: str
    parser: str
    count_tokens: Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The cleaned text, each gate's value (null: nothing to measure), and the first failing gate or null."""

    text: str
    values: dict[str, float | None]
    reason: str | None


def judge(generation: Generation, task: Task, limits: Limits) -> Verdict:
    """Clean an output, measure every gate, and name the first one whose limit it breaks."""
    text, chatter = _without_lead_in(generation.text.strip(), task.lead_in)
    text = _unwrapped(text)
    n_source, n_output = task.count_tokens(task.source), task.count_tokens(text)
    values: dict[str, float | None] = {
        "finished": float(generation.finish_reason == "stop"),
        "text": _bad_share(text),
        "refusal": float(refusals(text)),
        "lead_in": float(chatter),
        "leak": float(_leaks(text, task)),
        "parse": float(len(pairs(text)) if task.parser == "pairs" else bool(text)),
        "residue": float(_residue(text, task.source)),
        "length": n_output / n_source if n_source else None,
        "tokens": float(n_output),
        "loops": fidelity.repeated_grams(text),
        "copy_8": fidelity.copied_share(text, task.source),
        "drift": fidelity.shared_content(text, task.source),
        "facts": fidelity.fact_precision(text, task.source),
        "recall": fidelity.fact_recall(text, task.source),
        "contacts": float(len(set(_CONTACT.findall(text)) - set(_CONTACT.findall(task.source)))),
    }
    assert list(values) == list(Limits.model_fields)
    checks = ((gate, getattr(limits, gate)) for gate in values)
    reason = next((gate for gate, limit in checks if limit is not None and not limit.accepts(values[gate])), None)
    return Verdict(text, values, reason)


def refusals(text: str) -> int:
    """Apologies and self-references in the first 200 characters of an answer."""
    return len(_REFUSAL.findall(text[:200]))


def pairs(text: str) -> list[tuple[str, str]]:
    """Question and answer pairs of a text whose turns open with `Question:`/`Q:` and `Answer:`/`A:`.

    Tolerant of bullets, numbers and bold marks before the tag; a question without an answer is no pair.
    """
    turns = [(m[1][0].lower(), m[2].strip()) for m in _TURN.finditer(text)]
    return [
        (first[1], second[1])
        for first, second in pairwise(turns)
        if first[0] == "q" and second[0] == "a" and first[1] and second[1]
    ]


_TURN = re.compile(
    r"^[ \t]*(?:[-*\u2022]|\d+[.)])?[ \t]*\**(question|q|answer|a)\s*\d*\**\s*[:.]\**[ \t]*"
    r"(.*?)(?=^[ \t]*(?:[-*\u2022]|\d+[.)])?[ \t]*\**(?:question|q|answer|a)\s*\d*\**\s*[:.]|\Z)",
    re.IGNORECASE | re.MULTILINE | re.DOTALL,
)
_REFUSAL = re.compile(
    r"\bI(?:'m|\u2019m| am) (?:sorry|unable|not able)\b"
    r"|\bI apologi[sz]e\b|\bI (?:can't|can\u2019t|cannot|can not|won't)\b"
    r"|\bas an? (?:AI|artificial intelligence|language model|assistant)\b"
    r"|\bI(?:'m|\u2019m| am) an? (?:AI|assistant|language model)\b",
    re.IGNORECASE,
)
_CHATTER = re.compile(
    r"(?:sure|certainly|of course|absolutely|okay|ok)\b[^\n]{0,160}?(?:[!:]\s+|\n+)"
    r"|(?:here(?:'s|\u2019s| is| are)|below (?:is|are)|the following (?:is|are)|this is)\b[^\n.]{0,160}?:\s+"
    r"|\**(?:re-?written|re-?phrased|paraphrased|revised|simplified)(?: (?:text|version|passage))?\**\s*:\**\s+",
    re.IGNORECASE,
)
_ROLE_MARKER = re.compile(
    r"<\|[a-z_]{2,20}\|>|\[/?INST\]|^(?:system|user|assistant|human)\s*:|^###\s*(?:instruction|response)|\{document\}",
    re.IGNORECASE | re.MULTILINE,
)
_MARKDOWN = {
    "fence": re.compile(r"```"),
    "heading": re.compile(r"^#{1,6} ", re.MULTILINE),
    "bold": re.compile(r"\*\*\w"),
}
_CONTACT = re.compile(r"https?://[^\s<>\"')\]]*[^\s<>\"')\].,;:]|[\w.+-]+@[\w-]+\.[\w.-]*\w")
_FENCED = re.compile(r"\A```[^\n`]*\n(.*?)\n?```\Z", re.DOTALL)
_QUOTES = {'"': '"', "\u201c": "\u201d", "\u00ab": "\u00bb"}
_UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd\ud800-\udfff]")


def _without_lead_in(text: str, agreed: str) -> tuple[str, int]:
    """Cut the agreed lead-in, or else one chatty opening; return the rest and what is still wrong with its start."""
    missing = 0
    if agreed:
        missing = int(not text.lower().startswith(agreed.lower()))
        text = text if missing else text[len(agreed) :].lstrip()
    elif opening := _CHATTER.match(text):
        text = text[opening.end() :].lstrip()
    return text, missing + int(_CHATTER.match(text) is not None)


def _unwrapped(text: str) -> str:
    if fenced := _FENCED.match(text):
        text = fenced[1].strip()
    closing = _QUOTES.get(text[:1])
    if closing and len(text) > 2 and text.endswith(closing) and not set(text[1:-1]) & {text[0], closing}:
        text = text[1:-1].strip()
    return text


def _bad_share(text: str) -> float:
    return len(_UNSEEN.findall(text)) / len(text) if text else 1.0


def _leaks(text: str, task: Task) -> int:
    """Role markers, plus runs of six words of the style's own instruction that the source does not hold."""
    own, allowed = _six_grams(task.instruction), _six_grams(task.source)
    markers = sum(marker not in task.source for marker in _ROLE_MARKER.findall(text))
    return markers + len((own & _six_grams(text)) - allowed)


def _six_grams(text: str) -> set[tuple[str, ...]]:
    found = fidelity.words(text)
    return set(zip(*(found[i:] for i in range(6)), strict=False))


def _residue(text: str, source: str) -> int:
    return sum(len(mark.findall(text)) for mark in _MARKDOWN.values() if not mark.search(source))
