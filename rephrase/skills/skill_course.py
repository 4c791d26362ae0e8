"""The course of the style `skill_synthesis`: new questions like the seeds, with solutions, kept where these agree.

A document is one pair of a failed question and a missing skill, written by `skill_pairs.py`. Round one asks for new
questions, round two for solutions of each. A question is kept when enough of its solutions come to one final answer,
and only those solutions are kept with it (arXiv 2510.10023: 3 seeds, 2 questions, 3 solutions, 2 of them agreeing).
Both the questions and the solutions pass the style's gates first; what fails one does not vote.
"""

import collections.abc
import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rephrase.attempts import Attempt
from rephrase.course import Ask, Bench, Course, Made, Source
from rephrase.fidelity import words
from rephrase.gates.judging import Passage, Verdict, judge
from rephrase.generator import Answer, Generation
from rephrase.retrying import TRIES, again, longer
from rephrase.skills.final_answers import agreeing
from rephrase.skills.settings import SkillSteps
from rephrase.skills.skill_pairs import SEEDS, SKILL
from rephrase.style import Style
from rephrase.whole_document import RENDERED, dropped, lost, unfit, whole_chunk

_TAG = re.compile(r"\A[#*\s]*(?:new\s+)?(?:question|problem|exercise|example)\s*\d*\s*[:.]\**\s*", re.IGNORECASE)
_SOLVED = re.compile(r"\n\s*[#*]*\s*(?:solution|answer|explanation|example|question|problem)\s*\d*\s*:", re.IGNORECASE)
_Asked = collections.abc.Generator[list[Ask], list[Answer], list[Attempt]]


@dataclass(frozen=True, slots=True)
class _Kept:
    question: str
    solutions: tuple[str, ...]
    n_solutions: int


def skill_course(source: Source, style: Style, bench: Bench) -> Course:
    """Questions, then solutions, then those that agree as one text. Raises ConfigError as `chunk_document` does.

    A pair without seed questions is dropped with the reason `no_seed_question`; one of whose questions nothing is left
    is rejected with the gate they all failed, else with `agreement`.
    """
    steps = SkillSteps.model_validate(style.steps)
    if source.meta.get(SEEDS, "0") == "0":
        return dropped(source, "no_seed_question")
    if (gone := unfit(source, style, bench)) is not None:
        return gone
    asked = yield from _questions(source, style, steps, bench)
    questions = _distinct(asked)
    solved: list[Attempt] = []
    if questions and not any(lost(attempt.answer) for attempt in asked):
        solved = yield from _solutions(source, questions, style, steps, bench)
    attempts = (*asked, *solved)
    missing = next((attempt.answer for attempt in attempts if lost(attempt.answer)), None)
    if missing is not None:
        verdict = Verdict("", {}, getattr(missing, "reason", None))
        return Made((*attempts, Attempt(whole_chunk(source), 0, missing, verdict)))
    kept, best = _agreed(questions, solved, steps)
    final = _final(source, kept, best, asked, style, bench)
    return Made((*attempts, final), (), _meta(source, kept))


def _questions(source: Source, style: Style, steps: SkillSteps, bench: Bench) -> _Asked:
    """Every try at every new question, a question's tries one after the other."""
    request = style.request(source.text, bench.generator.count_tokens(source.text))
    tries: list[list[Attempt]] = [[] for _ in range(steps.n_new)]
    waiting = list(range(steps.n_new))
    while waiting:
        answers = yield [
            Ask(
                longer(request, tries[place], bench.generator),
                (bench.rollout * steps.n_new + place) * TRIES + len(tries[place]),
            )
            for place in waiting
        ]
        for place, answer in zip(waiting, answers, strict=True):
            verdict = _as_question(_judged(answer, source.text, source, style, bench), source, steps)
            attempt = Attempt(whole_chunk(source), place, answer, verdict, len(tries[place]), "question")
            tries[place].append(attempt)
        waiting = [place for place in waiting if again(tries[place], style)]
    return [attempt for tried in tries for attempt in tried]


def _as_question(verdict: Verdict, source: Source, steps: SkillSteps) -> Verdict:
    """The verdict on what of an answer is the question; one too short, or that the seeds hold already, is `parse`."""
    if verdict.reason is not None:
        return verdict
    text = _TAG.sub("", verdict.text)
    text = text[: found.start()].strip() if (found := _SOLVED.search(text)) else text.strip()
    own = words(text)
    known = f" {' '.join(words(source.text))} "
    fits = len(own) >= steps.min_words and f" {' '.join(own)} " not in known
    return Verdict(text, {**verdict.values, "parse": float(fits)}, None if fits else "parse")


def _distinct(asked: Sequence[Attempt]) -> list[str]:
    """The questions that passed, each once."""
    found: dict[tuple[str, ...], str] = {}
    for attempt in asked:
        if attempt.verdict.reason is None:
            found.setdefault(tuple(words(attempt.verdict.text)), attempt.verdict.text)
    return list(found.values())


def _solutions(source: Source, questions: Sequence[str], style: Style, steps: SkillSteps, bench: Bench) -> _Asked:
    """`n_solutions` draws for each question, in the order of the questions."""
    solving = style.model_copy(update={"template": steps.solution_template})
    count = bench.generator.count_tokens
    requests = [
        dataclasses.replace(solving.request(question, count(question)), max_tokens=style.limits.max_out)
        for question in questions
    ]
    draws = range(bench.rollout * steps.n_solutions, (bench.rollout + 1) * steps.n_solutions)
    answers = yield [Ask(request, draw) for request in requests for draw in draws]
    about = [question for question in questions for _ in draws]
    return [
        Attempt(whole_chunk(source), index, answer, _judged(answer, question, source, solving, bench), 0, "solution")
        for index, (question, answer) in enumerate(zip(about, answers, strict=True))
    ]


def _judged(answer: Answer, about: str, source: Source, style: Style, bench: Bench) -> Verdict:
    return judge(answer, Passage(about, source.lang, bench.generator.count_tokens), style, bench.instruments)


def _agreed(questions: Sequence[str], solved: Sequence[Attempt], steps: SkillSteps) -> tuple[list[_Kept], int]:
    """The questions that are kept, and the most solutions of any question that agree."""
    kept, best = [], 0
    for i, question in enumerate(questions):
        own = [attempt.verdict for attempt in solved[i * steps.n_solutions : (i + 1) * steps.n_solutions]]
        places = agreeing([verdict.text if verdict.reason is None else None for verdict in own])
        best = max(best, len(places))
        if len(places) >= steps.agree:
            kept.append(_Kept(question, tuple(own[place].text for place in places), steps.n_solutions))
    return kept, best


def _final(
    source: Source, kept: Sequence[_Kept], best: int, asked: Sequence[Attempt], style: Style, bench: Bench
) -> Attempt:
    """The attempt that becomes text. Its parts passed the gates; solutions of one question may repeat each other."""
    if kept:
        text = "\n\n".join(_text(one) for one in kept)
        alike = style.model_copy(update={"gates": style.gates.model_copy(update={"loops": None})})
        verdict = _judged(Generation(text, "stop", 0, 0), source.text, source, alike, bench)
        verdict = Verdict(text, {**verdict.values, "agreed": float(best)}, verdict.reason)
    else:
        failures = {attempt.verdict.reason for attempt in asked}
        shared = failures.pop() if len(failures) == 1 else None
        verdict = Verdict("", {"agreed": float(best)}, shared or "agreement")
    return Attempt(whole_chunk(source), 0, RENDERED, verdict)


def _text(one: _Kept) -> str:
    """A question with its solutions, each of them once."""
    different = list(dict.fromkeys(one.solutions))
    heads = ["Solution:", *["Another solution:"] * (len(different) - 1)]
    return "\n\n".join([f"Question: {one.question}", *(f"{h} {s}" for h, s in zip(heads, different, strict=True))])


def _meta(source: Source, kept: Sequence[_Kept]) -> dict[str, str]:
    return {
        SKILL: source.meta.get(SKILL, ""),
        "agreed": ",".join(f"{len(one.solutions)}/{one.n_solutions}" for one in kept),
    }
