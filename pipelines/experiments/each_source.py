"""A mixture key for each source, whatever sources there are: `sources: {each: {}}`.

A study is written before anybody knows what its documents' sources are called, and `"*"` is one component of them all.
`each` stands for every source by itself, so that `weighing: uniform` gives each of them the same share.

    each_source(config, ["web", "books"])         # sources: {web: {}, books: {}}
"""

from collections.abc import Iterable, Mapping

from mixtures.available import owned_sources
from mixtures.config import MixtureConfig, SourceConfig

EACH = "each"


def each_source(mixture: MixtureConfig, sources: Iterable[str]) -> MixtureConfig:
    """The mixture with `each` replaced by the sources that no other key beside it stands for, sorted."""
    names = sorted(sources)

    def spread(asks: Mapping[str, SourceConfig]) -> dict[str, SourceConfig]:
        others = {key: ask for key, ask in asks.items() if key != EACH}
        owned = owned_sources(dict.fromkeys(names), list(others), empty_allowed=True)
        taken = {name for held in owned.values() for name in held}
        return {**others, **{name: asks[EACH] for name in names if EACH in asks and name not in taken}}

    phases = tuple(
        phase if phase.sources is None else phase.model_copy(update={"sources": spread(phase.sources)})
        for phase in mixture.phases
    )
    return mixture.model_copy(update={"sources": spread(mixture.sources), "phases": phases})
