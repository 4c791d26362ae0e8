"""The shares that sources ask for: as given, by weight, in tokens, or by a rule for those that ask for nothing.

What is asked in tokens or as a share is met first; what is left goes to sources with weights, in proportion, or to
those that ask for nothing, by the mixture's `weighing`. Where nobody is there to take the rest, shares are divided by
their sum.

How it is used: `asked_shares(phase.asks, config, tokens held, ...)`, once for each phase.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from mixtures.config import MixtureConfig, SourceConfig
from mixtures.shares import MixtureError, exactly, normalised
from mixtures.static_shares import proportional_shares, temperature_shares, uniform_shares, unimax_tokens

Shares = dict[str, Fraction]


@dataclass(frozen=True)
class Asked:
    """Shares by component, summing to one; how each came about, for people; and a sentence on what was changed."""

    shares: Shares
    reasons: dict[str, str]
    said: str = ""


def asked_shares(
    asks: Mapping[str, SourceConfig],
    config: MixtureConfig,
    held: Mapping[str, int],
    *,
    of: int | None,
    unimax: tuple[int, Mapping[str, int]] | None,
    where: str,
) -> Asked:
    """What each component asks for.

    Args:
        asks: by component; held: the tokens that each holds.
        of: the tokens that asks in tokens are of; None: not known yet.
        unimax: the tokens that UniMax shares out, and what each may get of them; None: not known yet.
        where: the setting, for errors.

    Raises: MixtureError for asks that do not fit together, or that need a budget where there is none yet.
    """
    fixed = _fixed(asks, of, where)
    parts = {key: exactly(ask.share) or Fraction(0) for key, ask in asks.items() if ask.share is not None}
    weights = {key: ask.weight for key, ask in asks.items() if ask.weight is not None}
    silent = [key for key in asks if key not in fixed and key not in parts and key not in weights]
    reasons = {**dict.fromkeys(asks, "asked"), **dict.fromkeys(silent, _rule_name(config))}
    if not weights and not silent:
        return Asked(*_divided(fixed, parts, reasons, of, where))
    if silent and (weights or config.weighing == "given"):
        raise _mixed_up(silent[0], next(iter(weights), None), where)
    rest = 1 - sum(fixed.values(), Fraction(0)) - sum(parts.values(), Fraction(0))
    if rest <= 0 and (weights or any(held.get(key) for key in silent)):
        raise MixtureError(
            f"nothing is left for {next(iter(weights), '') or silent[0]}", expected="shares that leave a rest",
            found=f"{float(100 * (1 - rest)):.6g}% of the tokens asked for by others", where=where,
        )  # fmt: skip
    if weights:
        exact, _ = normalised(list(weights.values()), list(weights), where)
        by_rule = dict(zip(weights, exact, strict=True))
    else:
        by_rule = _by_rule(silent, config, held, rest, unimax, where)
    shares = {**fixed, **parts, **{key: share * rest for key, share in by_rule.items()}}
    return Asked({key: shares.get(key, Fraction(0)) for key in asks}, reasons)


def _fixed(asks: Mapping[str, SourceConfig], of: int | None, where: str) -> Shares:
    asked = {key: ask.tokens for key, ask in asks.items() if ask.tokens is not None}
    if not asked:
        return {}
    if of is None:
        raise MixtureError(
            f"{next(iter(asked))} asks for tokens of a run whose length is not known",
            where=where, fix="set mixture.tokens, or ask for shares",
        )  # fmt: skip
    if sum(asked.values()) > of:
        raise MixtureError(
            f"the sources ask for {sum(asked.values()):,} tokens", expected=f"at most {of:,}", where=where
        )
    return {key: Fraction(tokens, of) for key, tokens in asked.items()}


def _divided(
    fixed: Shares, parts: Shares, reasons: dict[str, str], of: int | None, where: str
) -> tuple[Shares, dict[str, str], str]:
    """Shares over their sum, in what the asks in tokens leave."""
    rest = 1 - sum(fixed.values(), Fraction(0))
    if not parts or (fixed and not any(parts.values())):
        if rest:
            raise MixtureError(
                "the sources ask for less than the run", expected=f"{of:,} tokens",
                found=f"{sum(fixed.values()) * (of or 0)} tokens", where=where,
                fix="raise what they ask for, lower mixture.tokens, or give one source a weight",
            )  # fmt: skip
        return {**dict.fromkeys(reasons, Fraction(0)), **fixed}, reasons, ""
    if not rest:
        raise MixtureError(f"nothing is left for {next(iter(parts))}", found="asks in tokens fill the run", where=where)
    exact, said = normalised(list(parts.values()), list(parts), where)
    if fixed:
        said = "" if sum(parts.values()) == rest else f"the shares were made to sum to {float(rest):.6g}"
    shares = {**fixed, **{key: share * rest for key, share in zip(parts, exact, strict=True)}}
    return {key: shares[key] for key in reasons}, reasons, said


def _by_rule(
    silent: list[str],
    config: MixtureConfig,
    held: Mapping[str, int],
    rest: Fraction,
    unimax: tuple[int, Mapping[str, int]] | None,
    where: str,
) -> Shares:
    """Shares of the rest, for the components that hold anything."""
    tokens = {key: held[key] for key in silent if held.get(key)}
    if config.weighing == "uniform":
        return uniform_shares(tokens)
    if config.weighing == "proportional":
        return temperature_shares(tokens, config.temperature) if config.temperature else proportional_shares(tokens)
    if unimax is None:
        raise MixtureError("UniMax shares out a budget, and there is none", where=where, fix="set mixture.tokens")
    budget, room = int(unimax[0] * rest), unimax[1]
    visits = {key: Fraction(room[key], tokens[key]) for key in tokens}
    return {key: Fraction(given, budget) for key, given in unimax_tokens(tokens, budget, visits).items()}


def _rule_name(config: MixtureConfig) -> str:
    if config.weighing == "unimax":
        return "UniMax"
    return f"temperature {config.temperature:g}" if config.temperature else config.weighing


def _mixed_up(key: str, weighted: str | None, where: str) -> MixtureError:
    return MixtureError(
        f"{key} asks for nothing" + (f", and others have weights ({weighted})" if weighted else ""),
        expected="a share, tokens or a weight",
        where=f"{where}.{key}",
        fix="give it one, or set mixture.weighing: proportional, uniform or unimax",
    )
