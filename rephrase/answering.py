"""Ask a generator many questions through the cache, in groups that do not shift when some answers are stored already.

Rephrasing and judging both ask this way. A group that is complete in the cache is not asked again; since a group is
stored as a whole, a run that was killed asks for exactly the groups that are missing, and gets the same answers.

How it is used: `answers({key: request, ...}, generator, cache, seed=0, batch_size=64)`
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import xxhash

from corpus.errors import ConfigError
from rephrase.cache import GenerationCache
from rephrase.generator import Generation, GenerationRequest, Generator


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a call has come: questions done of all, how many of them were stored already, and output tokens made."""

    done: int
    total: int
    from_cache: int
    n_out: int


def answers(
    asked: Mapping[str, GenerationRequest],
    generator: Generator,
    cache: GenerationCache,
    *,
    seed: int,
    batch_size: int,
    progress: Callable[[Progress], None] | None = None,
) -> dict[str, Generation]:
    """Every answer by key: from the cache, or generated in groups of `batch_size`, each stored as soon as it is there.

    Groups are cut from the whole list in its order, stored questions included, and the engine is seeded with `seed`
    and the keys of each group. Raises ConfigError for a batch_size below 1, and as `Generator.generate` does.
    """
    if batch_size < 1:
        raise ConfigError("batch_size is below 1", found=str(batch_size))
    keys = list(asked)
    outputs = cache.find(keys)
    from_cache, n_out = len(outputs), 0
    for first in range(0, len(keys), batch_size):
        missing = [key for key in keys[first : first + batch_size] if key not in outputs]
        if missing:
            group_seed = xxhash.xxh3_64_intdigest("\n".join(missing).encode(), seed % 2**64)
            requests = [asked[key] for key in missing]
            made = dict(zip(missing, generator.generate(requests, seed=group_seed), strict=True))
            cache.store(made)
            outputs.update(made)
            n_out += sum(generation.n_out for generation in made.values())
        if progress:
            progress(Progress(min(first + batch_size, len(keys)), len(keys), from_cache, n_out))
    return outputs
