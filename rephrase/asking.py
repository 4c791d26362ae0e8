"""Run many courses side by side: their questions of one round go to the generator together, through the cache.

The rounds of a course follow each other; the courses of thousands of documents go in step, so that an engine always
has enough to do. Which questions are asked depends on the documents and on the answers alone.

How it is used:  made = run_courses({document_id: course, ...}, bench, cache, batch_size=4096)
"""

from collections.abc import Callable, Mapping

from rephrase.answering import Progress, answers
from rephrase.cache import GenerationCache, cache_key
from rephrase.course import Ask, Bench, Course, Made
from rephrase.generator import Answer


def run_courses(
    courses: Mapping[str, Course],
    bench: Bench,
    cache: GenerationCache,
    *,
    batch_size: int,
    progress: Callable[[Progress], None] | None = None,
) -> dict[str, Made]:
    """What came of each course, by its document's id, in the order of `courses`.

    Raises as `answers` does; what was answered by then is in the cache.
    """
    made: dict[str, Made] = {}
    rounds: dict[str, list[Ask]] = {}
    for name, course in courses.items():
        _advance(name, course, None, rounds, made)
    while rounds:
        keys = {name: [_key(name, ask, bench) for ask in asks] for name, asks in rounds.items()}
        asked = {key: ask.request for name, asks in rounds.items() for key, ask in zip(keys[name], asks, strict=True)}
        found = answers(asked, bench.generator, cache, seed=bench.seed, batch_size=batch_size, progress=progress)
        rounds = {}
        for name, its_keys in keys.items():
            _advance(name, courses[name], [found[key] for key in its_keys], rounds, made)
    return {name: made[name] for name in courses}


def _advance(
    name: str, course: Course, found: list[Answer] | None, rounds: dict[str, list[Ask]], made: dict[str, Made]
) -> None:
    """Hand a course its answers; what it asks next goes into `rounds`, what it returns into `made`."""
    try:
        rounds[name] = next(course) if found is None else course.send(found)
    except StopIteration as end:
        made[name] = end.value


def _key(name: str, ask: Ask, bench: Bench) -> str:
    return cache_key(generator=bench.generator.identity, request=ask.request, document_id=name, rollout=ask.rollout)
