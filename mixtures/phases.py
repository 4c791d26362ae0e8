"""The phases of a mixture on the token axis: how long each is, its ramp, and what each source asks for in it.

Phases follow each other without a gap and fill the run. A length may be a share of the run or tokens; shares become
whole tokens by largest remainder. A ramp lies at the beginning of its phase, as a part of it: shares move there in a
straight line from those of the phase before.

What a phase does not say of a source is as in the mixture (its limits, its filter), but for what it asks: a phase
with sources of its own reads those and no others.

How it is used: `lay_out(config, tokens)`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from mixtures.bands import QUALITY
from mixtures.config import Extent, MixtureConfig, PhaseConfig, SourceConfig
from mixtures.shares import MixtureError, exactly, largest_remainder

ASKS = ("share", "tokens", "weight")


@dataclass(frozen=True)
class Phase:
    """A phase as laid out.

    Args:
        name: empty for a mixture without phases.
        tokens: its length; ramp: the first of them, over which shares move.
        asks: by component; where: the setting they come from, for errors.
        of: the tokens that asks in tokens are of: those of the run where the phase asks as the mixture does.
    """

    name: str
    tokens: int
    ramp: int
    asks: Mapping[str, SourceConfig]
    where: str
    of: int


def lay_out(config: MixtureConfig, tokens: int) -> tuple[Phase, ...]:
    """The phases of a run of `tokens` tokens.

    Raises: MixtureError for lengths that do not add up to the run, a phase without tokens, a ramp longer than its phase
    or without a phase before it, or, where the mixture is read in turns, lengths that are not whole turns.
    """
    turn = (config.turns or 1) * (config.batch or 1)
    _check_whole(tokens, turn, "mixture.tokens")
    if not config.phases:
        return (Phase("", tokens, 0, config.sources, "mixture.sources", tokens),)
    made = []
    for i, (phase, length) in enumerate(zip(config.phases, _lengths(config, tokens, turn), strict=True)):
        where = f"mixture.phases.{phase.name}"
        ramp = _ramp(phase, tokens, turn)
        if not length:
            raise MixtureError(f"the phase {phase.name!r} holds no tokens", found=f"a run of {tokens:,}", where=where)
        if ramp > length or (ramp and i == 0):
            raise MixtureError(
                f"the ramp of the phase {phase.name!r} " + ("is longer than the phase" if i else "comes from nowhere"),
                expected=f"at most {length:,} tokens" if i else "no ramp in the first phase",
                found=f"{ramp:,} tokens",
                where=f"{where}.ramp",
            )
        own = phase.sources is not None
        asked_in = f"{where}.sources" if own else "mixture.sources"
        made.append(Phase(phase.name, length, ramp, asks_in(config, phase), asked_in, length if own else tokens))
    return tuple(made)


def asks_in(config: MixtureConfig, phase: PhaseConfig) -> Mapping[str, SourceConfig]:
    """What each source asks for in a phase, the mixture's settings filled in."""
    if phase.sources is None:
        return config.sources
    return {key: _merged(config.sources.get(key), ask) for key, ask in phase.sources.items()}


def run_limit(config: MixtureConfig, key: str, name: str) -> object:
    """A setting of a component that holds for the whole run (`max_visits`, `sequence`); None where nothing sets it.

    Raises: MixtureError where two places set it differently.
    """
    every = [config.sources, *(phase.sources or {} for phase in config.phases)]
    found = [getattr(ask[key], name) for ask in every if key in ask and name in ask[key].model_fields_set]
    if any(value != found[0] for value in found):
        raise MixtureError(
            f"{key} has more than one {name}",
            expected="one for the whole run: its documents are counted through all phases",
            found=" and ".join(str(value) for value in found),
            where=f"mixture.sources.{key}.{name}",
        )
    return found[0] if found else None


def fixed_tokens(config: MixtureConfig) -> int | None:
    """The run's tokens where the phases alone decide them: all have lengths in tokens."""
    lengths = [phase.tokens.tokens for phase in config.phases]
    whole = [length for length in lengths if length is not None]
    return sum(whole) if whole and len(whole) == len(lengths) else None


def _lengths(config: MixtureConfig, tokens: int, turn: int) -> list[int]:
    """Tokens of each phase."""
    exact = [_part(phase.tokens, tokens) for phase in config.phases]
    # shares such as 5930/6080 are written with 16 digits, so their sum may miss one by less than anybody means
    if abs(sum(exact, Fraction(0)) - tokens) > tokens * Fraction(1, 10**9):
        shown = ", ".join(f"{phase.name} {_shown(phase.tokens)}" for phase in config.phases)
        raise MixtureError(
            "the phases do not add up to the run",
            expected=f"{tokens:,} tokens",
            found=f"{float(sum(exact)):,.10g} tokens: {shown}",
            where="mixture.phases",
            fix="let shares sum to 100%, or tokens to mixture.tokens",
        )
    for phase in config.phases:
        _check_whole(phase.tokens.tokens or 0, turn, f"mixture.phases.{phase.name}.tokens")
    shared = [i for i, phase in enumerate(config.phases) if phase.tokens.tokens is None]
    rest = (tokens - sum(phase.tokens.tokens or 0 for phase in config.phases)) // turn
    counts = largest_remainder([exact[i] for i in shared], rest) if rest else [0] * len(shared)
    given = dict(zip(shared, counts, strict=True))
    return [given[i] * turn if i in given else phase.tokens.tokens or 0 for i, phase in enumerate(config.phases)]


def _ramp(phase: PhaseConfig, tokens: int, turn: int) -> int:
    if phase.ramp.tokens is not None:
        _check_whole(phase.ramp.tokens, turn, f"mixture.phases.{phase.name}.ramp")
        return phase.ramp.tokens
    return int(_part(phase.ramp, tokens) / turn) * turn


def _part(extent: Extent, tokens: int) -> Fraction:
    if extent.tokens is not None:
        return Fraction(extent.tokens)
    return (exactly(extent.share or 0) or Fraction(0)) * tokens


def _shown(extent: Extent) -> str:
    return f"{extent.tokens:,}" if extent.tokens is not None else f"{100 * (extent.share or 0):.6g}%"


def _check_whole(tokens: int, turn: int, where: str) -> None:
    if tokens % turn:
        low = tokens // turn * turn
        raise MixtureError(
            f"{tokens:,} tokens are not whole turns",
            expected=f"a multiple of {turn:,}: mixture.turns, times mixture.batch where there is one",
            where=where,
            fix=f"set it to {low} or {low + turn}",
        )


def _merged(base: SourceConfig | None, own: SourceConfig) -> SourceConfig:
    if base is None:
        return own
    said = own.model_fields_set
    replaced = {*ASKS, *(QUALITY if said & set(QUALITY) else ())}
    kept = {name: getattr(base, name) for name in base.model_fields_set - said - replaced}
    return own.model_copy(update=kept)
