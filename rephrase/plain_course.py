"""The course of most styles: cut a document, ask once for each chunk, and ask again where a second try may help.

Which failures are worth another try is said in rephrase/retrying.py. Each try is recorded.
"""

import dataclasses

from corpus.errors import ConfigError
from rephrase.attempts import Attempt
from rephrase.chunking import Chunk, Drop, split
from rephrase.course import Ask, Bench, Course, Made, Source
from rephrase.gates.judging import Passage, judge
from rephrase.generator import Answer, Generator
from rephrase.parsers.pairs import finished_text
from rephrase.retrying import TRIES, again, longer
from rephrase.style import Style

SPARE_TOKENS = 2  # a prompt of joined parts can be a token or two longer than the sum of its parts


def plain_course(source: Source, style: Style, bench: Bench) -> Course:
    """One question a chunk, and retries as the style says. Raises ConfigError as `chunk_document` does."""
    chunks, drops = chunk_document(source.text, style, bench.generator)
    tries: list[list[Attempt]] = [[] for _ in chunks]
    open_chunks = list(range(len(chunks)))
    while open_chunks:
        answers = yield [_ask(source, chunks[i], tries[i], style, bench) for i in open_chunks]
        for i, answer in zip(open_chunks, answers, strict=True):
            tries[i].append(_judged(source, chunks[i], i, len(tries[i]), answer, style, bench))
        open_chunks = [i for i in open_chunks if again(tries[i], style)]
    return Made(tuple(attempt for tried in tries for attempt in tried), tuple(drops))


def chunk_document(text: str, style: Style, generator: Generator) -> tuple[list[Chunk], list[Drop]]:
    """Cut a text as the style says: chunks of at most `limits.chunk` tokens, and the pieces that are not sent.

    Raises ConfigError when prompt, chunk and output do not fit the generator's context together.
    """
    limits = style.limits
    frame = generator.count_prompt(style.messages("")) + SPARE_TOKENS
    if frame + limits.chunk + limits.max_out > generator.max_context:
        raise ConfigError(
            f"style {style.name!r} does not fit the generator's context",
            expected=f"at most {generator.max_context:,} tokens",
            found=f"{frame:,} of instruction + {limits.chunk:,} of text + {limits.max_out:,} of output",
            fix="lower limits.chunk or limits.max_out of the style, or take a model with a longer context",
        )
    count = generator.count_tokens
    if drop := _unwanted(text, style, generator):
        return [], [drop]
    return split(text, budget_tokens=limits.chunk, min_tokens=limits.min_segment, count=count)


def _unwanted(text: str, style: Style, generator: Generator) -> Drop | None:
    """The whole text as a drop when it is too short or too long for the style; characters decide where they can."""
    shortest, longest = style.limits.min_document, style.limits.max_document
    if not text.strip():
        return Drop(0, len(text), "blank")
    if longest is None and len(text) > 8 * shortest * 4:
        return None
    n_tokens = generator.count_tokens(text)
    if n_tokens < shortest:
        return Drop(0, len(text), "short_document")
    return Drop(0, len(text), "long_document") if longest is not None and n_tokens > longest else None


def _ask(source: Source, chunk: Chunk, tried: list[Attempt], style: Style, bench: Bench) -> Ask:
    body = source.text[chunk.start : chunk.end].strip()
    request = style.request(body, bench.generator.count_tokens(body))
    return Ask(longer(request, tried, bench.generator), bench.rollout * TRIES + len(tried))


def _judged(
    source: Source, chunk: Chunk, index: int, number: int, answer: Answer, style: Style, bench: Bench
) -> Attempt:
    body = source.text[chunk.start : chunk.end].strip()
    count = bench.generator.count_tokens
    verdict = judge(answer, Passage(body, source.lang, count), style, bench.instruments)
    if verdict.reason is None:
        text = finished_text(
            style, verdict.text, count(body), f"{bench.seed}/{source.id}/{chunk.start}/{bench.rollout}"
        )
        verdict = dataclasses.replace(verdict, text=text)
    return Attempt(chunk, index, answer, verdict, number)
