"""The gates an output passes before it becomes a document, in order, each with its measured value.

Order goes from cheap and certain to fuzzy. Every gate measures; a style says which values it accepts; the first value
outside its limits is the recorded reason. So thresholds are data, and a stored output can be judged again without
generating it again. What is measured is the cleaned output in its own form; gates over many outputs at once, or with
models worth a batch, are in `across.py`.

How it is used:  verdict = judge(answer, Passage(chunk, "en", generator.count_tokens), style, instruments)
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from rephrase.cleaning import Cleaned, clean
from rephrase.fidelity import Profile, copied_share, repeated_share, shared_content
from rephrase.gates.contacts import new_contacts
from rephrase.gates.facts import fact_precision, fact_recall
from rephrase.gates.instruments import Instruments
from rephrase.gates.languages import language_probability, plain_code
from rephrase.gates.leaks import leaks
from rephrase.gates.limits import Limit, Limits
from rephrase.gates.obedience import left_out
from rephrase.gates.refusals import refusals
from rephrase.gates.residue import residue
from rephrase.generator import Answer, Unanswered
from rephrase.parsers.forms import read_form

if TYPE_CHECKING:
    from rephrase.style import Style

__all__ = ["Limit", "Limits", "Passage", "Verdict", "failing", "judge"]

Values = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Passage:
    """What an output is judged against: the chunk, its language (an ISO 639 code or null), and a count of tokens."""

    source: str
    lang: str | None
    count_tokens: Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The cleaned text, each gate's value in the order of `Limits` (null: not measured), and the reason or null.

    The reason is the first gate that failed; of a request without an answer it is why there was none, and no gate
    has a value.
    """

    text: str
    values: Values
    reason: str | None


def judge(answer: Answer, passage: Passage, style: "Style", instruments: Instruments) -> Verdict:
    """Clean an output, read its form, measure it by every gate but the last two, and name the first that fails.

    `meaning` and `duplicate` are left null here: see `rephrase.gates.across.judge_across`.
    """
    if isinstance(answer, Unanswered):
        return Verdict("", {}, answer.reason)
    cleaned = clean(answer.text, style)
    form = read_form(style, cleaned.text)
    text = form.text if form.n_parts else cleaned.text
    source = source_profile(passage.source, plain_code(passage.lang))
    output = Profile(text, plain_code(style.language) or source.lang)
    values: Values = dict.fromkeys(Limits.model_fields)
    values |= _form(answer.finish_reason == "stop", cleaned, output, source, style) | {"parse": float(form.n_parts)}
    values |= _size(text, passage)
    values |= _content(output, source)
    values["language"] = language_probability(text, output.lang, instruments.language)
    values["contamination"] = instruments.contamination(text) if instruments.contamination else None
    return Verdict(text, values, failing(values, style.gates))


def failing(values: Values, limits: Limits) -> str | None:
    """The first gate whose value lies outside its limit, or null."""
    for gate, value in values.items():
        limit: Limit | None = getattr(limits, gate)
        if limit is not None and not limit.accepts(value):
            return gate
    return None


@lru_cache(maxsize=256)
def source_profile(text: str, lang: str | None) -> Profile:
    """The profile of a source, which several outputs are held against: other tries, other styles."""
    return Profile(text, lang)


def _form(finished: bool, cleaned: Cleaned, output: Profile, source: Profile, style: "Style") -> Values:
    text = output.text
    return {
        "finished": float(finished),
        "text": len(_UNSEEN.findall(text)) / len(text) if text.strip() else 1.0,
        "refusal": float(refusals(text, source.text)),
        "lead_in": float(cleaned.chatter + cleaned.lead_in_missing),
        "leak": float(leaks(output, source, f"{style.system}\n\n{style.template}")),
        "residue": float(residue(text, source.text, style.parser)),
    }


def _size(text: str, passage: Passage) -> Values:
    n_source, n_output = passage.count_tokens(passage.source), passage.count_tokens(text)
    return {"length": n_output / n_source if n_source else None, "tokens": float(n_output)}


def _content(output: Profile, source: Profile) -> Values:
    return {
        "loops": repeated_share(output),
        "copy_8": copied_share(output, source),
        "drift": shared_content(output, source),
        "obeyed": left_out(output, source),
        "facts": fact_precision(output, source),
        "recall": fact_recall(output, source),
        "contacts": float(new_contacts(output.text, source.text)),
    }


_UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd\ufffe\uffff\ud800-\udfff]")
