"""Everything that stands in the way of a mixture, at once: what each source lacks, and what would help.

`allocate` stops at the first source that cannot fill its share. Here the caps are lifted first, so that every source is
known that would be read more often than it may be, and by how much.

How it is used: `checked(available, settings).problems`; none means that `allocate` gives an allocation.
"""

from dataclasses import dataclass

from mixtures.allocate import allocate
from mixtures.allocation import Allocation, Component, amount
from mixtures.available import Available, keys_of, owned_sources
from mixtures.config import MixtureConfig, SourceConfig
from mixtures.phases import run_limit
from mixtures.shares import MixtureError

_NO_CAP = 1e12


@dataclass(frozen=True)
class Check:
    """What a mixture comes to.

    Args:
        allocation: as it can be had, else as it is asked for, caps aside; None where it cannot be shared out at all.
        problems: what makes it impossible, one text each; none where it can be had.
        ways_out: what would help, where a source falls short.
    """

    allocation: Allocation | None
    problems: tuple[str, ...] = ()
    ways_out: tuple[str, ...] = ()


def checked(available: Available, config: MixtureConfig) -> Check:
    """Allocate, or find everything that is in the way, each with its numbers."""
    if missing := _keys_without_sources(available, config):
        return Check(None, tuple(missing))
    try:
        return Check(allocate(available, config))
    except MixtureError as error:
        asked = _uncapped(available, config)
        short = [one for one in asked.components if _visits(one, config) > one.max_visits] if asked else []
        if not short:
            return Check(asked, (error.render(),))
        return Check(asked, tuple(_shortage(one, config) for one in short), _ways_out(available, config))


def _uncapped(available: Available, config: MixtureConfig) -> Allocation | None:
    """What the shares ask for, beside the caps that they pass; None where they cannot be shared out at all."""
    try:
        asked = allocate(available, _without_caps(config))
    except MixtureError:
        return None
    components = []
    for one in asked.components:
        cap = _cap(config, one)
        bound = f"{one.bound}, past its cap" if _visits(one, config) > cap else one.bound
        components.append(one.model_copy(update={"max_visits": cap, "bound": bound}))
    return asked.model_copy(update={"components": tuple(components)})


def _keys_without_sources(available: Available, config: MixtureConfig) -> list[str]:
    found = []
    for key, sources in owned_sources(available.sources, keys_of(config), empty_allowed=True).items():
        if not sources and config.when_short == "error":
            try:
                owned_sources(available.sources, [key])
            except MixtureError as error:
                found.append(error.render())
        elif sources and not sum(available.sources[source][1] for source in sources):
            found.append(f"{key} holds no tokens\n  where    mixture.sources.{key}")
    return found


def _shortage(one: Component, config: MixtureConfig) -> str:
    held = sum(band.available_tokens for band in one.bands) if _curved(one, config) else one.available_tokens
    if not held:
        return f"{one.name} needs {amount(one.tokens)} tokens, and holds none"
    needs = f"{one.name} needs {amount(one.tokens)} tokens, {amount(held)} exist"
    return f"{needs}: {_visits(one, config):.2f} visits, cap {one.max_visits:g}"


def _visits(one: Component, config: MixtureConfig) -> float:
    """The visits that a cap is held against: of the most read band, or along an upsampling curve of all there is."""
    if _curved(one, config):
        return one.tokens / max(sum(band.available_tokens for band in one.bands), 1)
    return max(one.epochs, *(band.epochs for band in one.bands))


def _curved(one: Component, config: MixtureConfig) -> bool:
    asks = [config.sources.get(one.name), *((phase.sources or {}).get(one.name) for phase in config.phases)]
    return any(ask is not None and ask.upsample is not None for ask in asks)


def _cap(config: MixtureConfig, one: Component) -> float:
    own = run_limit(config, one.name, "max_visits")
    return float(own) if isinstance(own, int | float) else config.max_visits


def _ways_out(available: Available, config: MixtureConfig) -> tuple[str, ...]:
    ways = ("raise max_visits of what is short, or lower its share", "set when_short: spread: others take the rest")
    try:
        largest = allocate(available, config.model_copy(update={"tokens": None})).tokens
    except MixtureError:
        return ways
    return (f"set tokens: {largest}, the most that all caps allow", *ways)


def _without_caps(config: MixtureConfig) -> MixtureConfig:
    def free(sources: dict[str, SourceConfig]) -> dict[str, SourceConfig]:
        return {key: ask.model_copy(update={"max_visits": _NO_CAP}) for key, ask in sources.items()}

    phases = tuple(
        phase.model_copy(update={"sources": None if phase.sources is None else free(phase.sources)})
        for phase in config.phases
    )
    changes = {"max_visits": _NO_CAP, "allow_many_visits": True, "sources": free(config.sources), "phases": phases}
    return config.model_copy(update={**changes, "when_short": "error"})
