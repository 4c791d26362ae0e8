"""Ask a generator many questions through the cache: each question once, and a resumed run asks only what is missing.

Rephrasing and judging both ask this way. Batches are cut from the whole list, stored questions included, so they do not
shift when some answers are there already. Answers are stored as they arrive, or a whole batch at a time where a score
must not depend on which requests ran beside each other before and after a kill.

A request that was in flight when a process died is a suspect: it is asked again with fewer others (the square root of
the group it was in), and after another death alone. One that was alone when a process died, and not for the first time,
gets the answer `poison` and is not sent: three deaths find it.

How it is used: `answers({key: request, ...}, generator, cache, seed=0, batch_size=64)`
"""

import math
import signal
import threading
import time
from collections import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, NoReturn

import xxhash

from corpus.errors import ConfigError
from rephrase.cache import GenerationCache
from rephrase.generator import Answer, Generation, GenerationRequest, Generator, Unanswered
from rephrase.sent_requests import Deaths

Keep = Literal["each", "batch"]
_TELL_S = 1.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a call has come: questions done of all, how many of them were stored already, output tokens made, and
    the seconds since it began."""

    done: int
    total: int
    from_cache: int
    n_out: int
    seconds: float


def answers(
    asked: Mapping[str, GenerationRequest],
    generator: Generator,
    cache: GenerationCache,
    *,
    seed: int,
    batch_size: int,
    keep: Keep = "each",
    progress: Callable[[Progress], None] | None = None,
) -> dict[str, Answer]:
    """Every answer by key, in the order of the questions: from the cache, or generated in batches of `batch_size`.

    With `keep="each"` an answer is stored before the next one is awaited: a kill loses the one that was being handed
    over, at most. With "batch" it loses the batch. The longest prompts of a batch go first, and the engine is seeded
    with `seed` and the keys that are missing. What comes back Unanswered is not stored.

    Raises ConfigError for a batch_size below 1, EnvironmentProblem when the disk is full, and as `Generator.generate`.
    """
    if batch_size < 1:
        raise ConfigError("batch_size is below 1", found=str(batch_size))
    keys = list(asked)
    given: dict[str, Answer] = dict(cache.find(keys))
    missing = [key for key in keys if key not in given]
    deaths = cache.deaths(missing) if missing else {}
    poison = {key: _poison(one) for key, one in deaths.items() if one.least == 1 and one.times > 1}
    teller = _Teller(progress, len(keys), len(given))
    given.update(poison)
    teller.done += len(poison)
    with _sigterm_in_order():
        for first in range(0, len(keys), batch_size):
            batch = [key for key in keys[first : first + batch_size] if key not in given]
            for group in _groups(batch, deaths, keep):
                with closing(_generated(group, asked, generator, cache, seed, keep)) as made:
                    for key, answer in made:
                        given[key] = answer
                        teller.answered(answer)
            teller.tell()
    return {key: given[key] for key in keys}


def _generated(
    group: Sequence[str],
    asked: Mapping[str, GenerationRequest],
    generator: Generator,
    cache: GenerationCache,
    seed: int,
    keep: Keep,
) -> abc.Generator[tuple[str, Answer], None, None]:
    """The answers of one group as they finish, stored."""
    group_seed = xxhash.xxh3_64_intdigest("\n".join(group).encode(), seed % 2**64)
    order = sorted(group, key=lambda key: (-_length(asked[key]), key))
    made: dict[str, Generation] = {}
    unfinished = set(order)
    cache.mark_sent(order)
    try:
        for place, raw in generator.generate([asked[key] for key in order], seed=group_seed):
            key, answer = order[place], _readable(raw)
            unfinished.remove(key)
            if isinstance(answer, Generation):
                if keep == "each":
                    cache.store({key: answer})
                else:
                    made[key] = answer
            yield key, answer
        assert not unfinished, f"{len(unfinished)} requests were not answered"
        if made:
            cache.store({key: made[key] for key in group if key in made})
    finally:
        cache.mark_sent(())


def _groups(batch: Sequence[str], deaths: Mapping[str, Deaths], keep: Keep) -> Iterator[list[str]]:
    """The missing requests of a batch: those without suspicion together, then suspects in small groups.

    Where a batch must stay whole, one death does not divide it: most of them have nothing to do with a request.
    """
    shared = {key for key, one in deaths.items() if keep == "each" or one.times > 1}
    fresh = [key for key in batch if key not in shared]
    if fresh:
        yield fresh
    suspects = sorted((key for key in batch if key in shared), key=lambda key: -_together(deaths[key]))
    for size, same in groupby(suspects, key=lambda key: _together(deaths[key])):
        together = list(same)
        yield from (together[i : i + size] for i in range(0, len(together), size))


def _together(deaths: Deaths) -> int:
    """How many suspects are asked beside each other: fewer than before, and one once that was tried."""
    return 1 if deaths.least < deaths.most else math.isqrt(deaths.least)


def _length(request: GenerationRequest) -> int:
    """About how long a prompt is, in characters: counting tokens here would cost as much as it saves."""
    return len(request.opening) + sum(len(message.content) for message in request.messages)


def _readable(answer: Answer) -> Answer:
    """The answer; Unanswered where its text is not Unicode that can be written."""
    if isinstance(answer, Generation) and not answer.text.isascii():
        try:
            answer.text.encode("utf-8")
        except UnicodeEncodeError as error:
            return Unanswered("bad_answer", str(error))
    return answer


def _poison(deaths: Deaths) -> Unanswered:
    return Unanswered("poison", f"{deaths.times} processes died while it was in flight, one with no other request")


class _Teller:
    """Hands progress on: after each batch, and once a second between."""

    def __init__(self, progress: Callable[[Progress], None] | None, total: int, from_cache: int) -> None:
        self._progress, self._total, self._from_cache = progress, total, from_cache
        self.done, self._n_out = from_cache, 0
        self._begun = self._told = time.monotonic()

    def answered(self, answer: Answer) -> None:
        self.done += 1
        self._n_out += answer.n_out if isinstance(answer, Generation) else 0
        if time.monotonic() - self._told >= _TELL_S:
            self.tell()

    def tell(self) -> None:
        self._told = time.monotonic()
        if self._progress:
            self._progress(Progress(self.done, self._total, self._from_cache, self._n_out, self._told - self._begun))


@contextmanager
def _sigterm_in_order() -> Iterator[None]:
    """SIGTERM, where nothing else handles it, ends the process as sys.exit does: in order, so that it is no death."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _exit(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)
