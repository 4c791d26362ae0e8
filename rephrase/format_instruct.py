"""The course of the style `format_instruct`: the model describes a target's layout, and the description asks for it.

The task in reverse (arXiv 2309.08963): the document is the answer, a table, HTML, LaTeX or a list; what is made is an
instruction that specifies its form, then the document itself. An instruction that gives the target away teaches
copying, so it holds less than a fifth of the target's 8-grams. A document that is not structured, or does not parse as
what it claims to be, is dropped before anything is asked.
"""

from rephrase.attempts import Attempt
from rephrase.course import Ask, Bench, Course, Made, Source
from rephrase.fidelity import Profile, copied_share
from rephrase.gates.judging import Passage, Verdict, judge
from rephrase.generator import Answer
from rephrase.retrying import TRIES, again, longer
from rephrase.style import Style
from rephrase.targets import target_of
from rephrase.whole_document import RENDERED, dropped, unfit, whole_chunk

MAX_REVEALED = 0.2


def format_instruct_course(source: Source, style: Style, bench: Bench) -> Course:
    """Ask for an instruction, again where the style allows it, and put it before the target.

    Drops: `not_structured`, `target_does_not_parse`, `short_document`, `long_document`, `blank`. Raises ConfigError as
    `chunk_document` does.
    """
    if (gone := unfit(source, style, bench)) is not None:
        return gone
    target = target_of(source.text)
    if target is None or not target.parses:
        return dropped(source, "target_does_not_parse" if target else "not_structured")
    body = source.text.strip()
    request = style.request(body, bench.generator.count_tokens(body))
    tries: list[Attempt] = []
    while not tries or again(tries, style):
        (answer,) = yield [Ask(longer(request, tries, bench.generator), bench.rollout * TRIES + len(tries))]
        verdict = _judged(answer, body, source, style, bench)
        tries.append(Attempt(whole_chunk(source), 0, answer, verdict, len(tries), "instruction"))
    return Made((*tries, _final(tries[-1], body)), (), {"target_kind": target.kind})


def _judged(answer: Answer, target: str, source: Source, style: Style, bench: Bench) -> Verdict:
    """The style's gates, and the share of the target's 8-grams that the instruction gives away, in [0, 1]."""
    count = bench.generator.count_tokens
    verdict = judge(answer, Passage(target, source.lang, count), style, bench.instruments)
    if not verdict.values:
        return verdict
    revealed = copied_share(Profile(target), Profile(verdict.text)) or 0.0  # null: a target below eight words
    reason = verdict.reason or ("revealed" if revealed >= MAX_REVEALED else None)
    return Verdict(verdict.text, {**verdict.values, "revealed": revealed}, reason)


def _final(last: Attempt, target: str) -> Attempt:
    """The instruction and the target as one text, or what kept it from becoming one."""
    verdict = last.verdict
    if verdict.reason is not None:
        return Attempt(last.chunk, 0, last.answer, Verdict("", verdict.values, verdict.reason))
    return Attempt(last.chunk, 0, RENDERED, Verdict(f"{verdict.text}\n\n{target}", verdict.values, None))
