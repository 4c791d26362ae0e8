"""Run one course by hand with a scripted generator: what `run_courses` does for many, without a cache."""

from rephrase.course import Ask, Bench, Course, Made
from rephrase.gates.instruments import NO_INSTRUMENTS, Instruments


def a_bench(generator, *, instruments: Instruments = NO_INSTRUMENTS, seed: int = 0, rollout: int = 0) -> Bench:
    """A bench with this generator."""
    return Bench(generator, instruments, seed, rollout)


def drive(course: Course, generator) -> tuple[Made, list[list[Ask]]]:
    """What came of the course, and the questions of each of its rounds."""
    rounds: list[list[Ask]] = []
    answers = None
    while True:
        try:
            asks = next(course) if answers is None else course.send(answers)
        except StopIteration as end:
            return end.value, rounds
        assert asks, "a round without a question"
        rounds.append(asks)
        different = list(dict.fromkeys(asks))  # one question asked twice has one answer, as it has in the cache
        found = dict(generator.generate([ask.request for ask in different], seed=0))
        answers = [found[different.index(ask)] for ask in asks]
