"""The course of most styles: cut a document, ask once for each chunk, and ask again where a second try may help.

Which failures are worth another try is said in rephrase/retrying.py. Each try is recorded.
"""

import dataclasses
from dataclasses import dataclass

from corpus.errors import ConfigError
from rephrase.attempts import Attempt
from rephrase.chunking import Chunk, Drop, split
from rephrase.course import Ask, Bench, Course, Made, Source
from rephrase.gates.judging import Passage, Verdict, judge
from rephrase.generator import Answer, Generator
from rephrase.parsers.pairs import finished_text
from rephrase.retrying import TRIES, again, longer
from rephrase.style import Style

SPARE_TOKENS = 2  # a prompt of joined parts can be a token or two longer than the sum of its parts


@dataclass(frozen=True, slots=True)
class _Piece:
    """A chunk with its text and its length in tokens, which is counted once."""

    chunk: Chunk
    body: str
    n_tokens: int


def plain_course(source: Source, style: Style, bench: Bench) -> Course:
    """One question a chunk, and retries as the style says. Raises ConfigError as `chunk_document` does."""
    chunks, drops = chunk_document(source.text, style, bench.generator)
    bodies = [source.text[chunk.start : chunk.end].strip() for chunk in chunks]
    pieces = [_Piece(*piece) for piece in zip(chunks, bodies, bench.generator.count_many(bodies), strict=True)]
    tries: list[list[Attempt]] = [[] for _ in chunks]
    open_chunks = list(range(len(chunks)))
    while open_chunks:
        answers = yield [_ask(pieces[i], tries[i], style, bench) for i in open_chunks]
        for i, answer in zip(open_chunks, answers, strict=True):
            verdict = _judged(source, pieces[i], answer, style, bench)
            tries[i].append(Attempt(chunks[i], i, answer, verdict, len(tries[i])))
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
    if drop := _unwanted(text, style, generator):
        return [], [drop]
    return split(
        text, budget_tokens=limits.chunk, min_tokens=limits.min_segment,
        count=generator.count_tokens, count_many=generator.count_many,
    )  # fmt: skip


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


def _ask(piece: _Piece, tried: list[Attempt], style: Style, bench: Bench) -> Ask:
    request = longer(style.request(piece.body, piece.n_tokens), tried, bench.generator)
    return Ask(request, bench.rollout * TRIES + len(tried))


def _judged(source: Source, piece: _Piece, answer: Answer, style: Style, bench: Bench) -> Verdict:
    def count(text: str) -> int:
        return piece.n_tokens if text is piece.body else bench.generator.count_tokens(text)

    verdict = judge(answer, Passage(piece.body, source.lang, count), style, bench.instruments)
    if verdict.reason is not None:
        return verdict
    key = f"{bench.seed}/{source.id}/{piece.chunk.start}/{bench.rollout}"
    return dataclasses.replace(verdict, text=finished_text(style, verdict.text, piece.n_tokens, key))
