"""Documents in, rephrased documents out, and a record of every attempt.

What was settled before is taken as it stands. Every other document runs its style's course: its questions are answered
from the cache or by the generator, gates decide, and what came of it is settled. Then all rows, old and new alike,
become documents, attempts and outcomes in the order of the input.

How it is used:

    bench = Bench(generator, NO_INSTRUMENTS, seed=0)
    cache, settled = open_cache(folder, generator), open_settled(folder, style, bench)
    made = rephrase_documents(batch, style, bench, cache, settled)
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from corpus.errors import InputError
from rephrase.answering import Progress
from rephrase.asking import run_courses
from rephrase.assembling import Rephrased, assemble
from rephrase.attempts import attempt_rows
from rephrase.cache import GenerationCache
from rephrase.course import Bench, Made, Source
from rephrase.courses import course_of
from rephrase.gates.across import judge_duplicates, judge_meaning
from rephrase.generator import Generator, Unanswered
from rephrase.settled import SETTLED_SCHEMA, Settled
from rephrase.style import Style


def open_cache(folder: Path, generator: Generator) -> GenerationCache:
    """The answers of one generator, below a folder that is made when the first one is stored."""
    return GenerationCache(folder / "answers", generator=generator.identity)


def open_settled(folder: Path, style: Style, bench: Bench) -> Settled:
    """The settled documents of one style on one bench, below a folder that is made when the first one is kept."""
    return Settled(folder / "settled", style, bench)


def rephrase_documents(
    batch: pa.RecordBatch | pa.Table,
    style: Style,
    bench: Bench,
    cache: GenerationCache,
    settled: Settled,
    *,
    batch_size: int = 4096,
    progress: Callable[[Progress], None] | None = None,
) -> Rephrased:
    """Rephrase every document of a batch with one style.

    Args:
        batch: documents (DOCUMENT_SCHEMA) with ids that differ.
        cache, settled: opened for this generator, and this style and bench; see `open_cache`, `open_settled`.
        batch_size: questions handed to the generator together, >= 1. It may change sampled texts that are not stored
            yet.

    Every input is one row of `outcomes`, kept or with a reason; every character of it lies in one attempt. A document
    with a chunk that nobody answered is not settled: the next run asks for that chunk again.
    """
    ids, texts, langs = (batch.column(name).to_pylist() for name in ("id", "text", "lang"))
    _check_ids(ids)
    keys = settled.keys(ids, texts, langs)
    known = settled.find(keys)
    place = {key: row for row, key in enumerate(known.column("key").to_pylist())}
    fresh = [row for row, key in enumerate(keys) if key not in place]
    if fresh:
        sources = [_source(row) for row in batch.take(pa.array(fresh, pa.int64())).to_pylist()]
        courses = {source.id: course_of(style)(source, style, bench) for source in sources}
        made = run_courses(courses, bench, cache, batch_size=batch_size, progress=progress)
        made = _judged_dearly(made, {source.id: source.text for source in sources}, style, bench)
        rows = [_settled_row(keys[row], made[ids[row]]) for row in fresh]
        settled.keep([rows[i] for i, row in enumerate(fresh) if _is_answered(made[ids[row]])])
        place |= {row["key"]: known.num_rows + i for i, row in enumerate(rows)}
        known = pa.concat_tables([known, pa.Table.from_pylist(rows, schema=SETTLED_SCHEMA)])
    return assemble(batch, known.take(pa.array([place[key] for key in keys], pa.int64())), style, bench)


def _check_ids(ids: Sequence[str]) -> None:
    if len(set(ids)) < len(ids):
        twice = next(name for name, times in Counter(ids).items() if times > 1)
        raise InputError("two documents of a batch have one id", expected="ids that differ", found=twice)


def _source(row: Mapping[str, Any]) -> Source:
    return Source(row["id"], row["text"], row["lang"], {item["key"]: item["value"] for item in row["meta"] or ()})


def _judged_dearly(made: Mapping[str, Made], texts: Mapping[str, str], style: Style, bench: Bench) -> dict[str, Made]:
    """The same with the meaning of each output that no other gate failed, and its likeness to its own source."""
    places = [
        (name, i)
        for name, one in made.items()
        for i, attempt in enumerate(one.attempts)
        if attempt.verdict.reason is None and not attempt.step
    ]
    attempts = [made[name].attempts[i] for name, i in places]
    sources = [
        texts[name][one.chunk.start : one.chunk.end].strip() for (name, _), one in zip(places, attempts, strict=True)
    ]
    pairs = list(zip(sources, (attempt.verdict for attempt in attempts), strict=True))
    verdicts = judge_meaning(pairs, style, bench.instruments)
    verdicts = [judge_duplicates([pair], style)[0] for pair in zip(sources, verdicts, strict=True)]
    judged = {name: list(one.attempts) for name, one in made.items()}
    for (name, i), verdict in zip(places, verdicts, strict=True):
        judged[name][i] = dataclasses.replace(judged[name][i], verdict=verdict)
    return {name: dataclasses.replace(one, attempts=tuple(judged[name])) for name, one in made.items()}


def _is_answered(made: Made) -> bool:
    """Whether no chunk is left without an answer; what kills the engine each time counts as answered."""
    last = {(attempt.index, attempt.step): attempt.answer for attempt in made.attempts}
    return not any(isinstance(answer, Unanswered) and answer.reason != "poison" for answer in last.values())


def _settled_row(key: str, made: Made) -> dict[str, Any]:
    meta = [{"key": name, "value": value} for name, value in sorted(made.meta.items())]
    return {"key": key, "attempts": attempt_rows(made.attempts, made.drops), "meta": meta or None}
