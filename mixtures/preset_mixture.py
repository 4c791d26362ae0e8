"""Published phases and replay recipes as configurations, once it is said which source plays which role.

How it is used: `preset_mixture(preset("minicpm"), {"pretraining": "web", "quality": "edu", "instruction": "chat"},
shares={"decay": {"pretraining": 0.6, "quality": 0.3, "instruction": 0.1}}, tokens=10**10)`.
"""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from corpus.config import nearest, validated
from mixtures.config import MixtureConfig
from mixtures.presets import Preset, PresetPhase
from mixtures.replay import STABILITY_GAP_EPOCHS, STABILITY_GAP_SUBSET, stability_gap
from mixtures.shares import MixtureError, Number, finite, normalised

REPLAYED = "old"
"""The role whose documents keep the sequence in which they lie (arXiv 2403.08763)."""


def preset_mixture(
    preset: Preset,
    roles: Mapping[str, str],
    *,
    shares: Mapping[str, Mapping[str, Number]] | None = None,
    score: str | None = None,
    tokens: int | None = None,
    max_visits: float = 4,
) -> MixtureConfig:
    """The configuration of a preset.

    Args:
        roles: the source (or pattern of sources) for each role; one source may play several roles, whose shares add up.
        shares: by phase, the shares of its roles, where none are published, or others are wanted.
        score: what quality is, for presets that read the best part of a source.
        tokens: of the run; None: as many as the cap on visits allows.

    Raises: MixtureError for a role without a source, a source for a role that the preset does not have, a phase whose
    shares are neither published nor given, or a missing score.
    """
    known = list(dict.fromkeys(role for phase in preset.phases for role in phase.roles))
    _check_roles(preset, roles, known)
    _all_known(preset, "phase", shares or {}, [phase.name for phase in preset.phases])
    phases = [
        {
            "name": phase.name,
            "tokens": {"share": float(phase.length)},
            "ramp": {"share": float(phase.ramp)},
            "sources": _phase_sources(preset, phase, roles, (shares or {}).get(phase.name), score),
        }
        for phase in preset.phases
    ]
    run: dict[str, Any] = {source: {"weight": 1.0} for source in dict.fromkeys(roles[role] for role in known)}
    if REPLAYED in known:
        run[roles[REPLAYED]]["sequence"] = "original"
    data = {"sources": run, "tokens": tokens, "max_visits": max_visits, "phases": phases}
    if len(phases) == 1:  # a run of one phase needs no border
        only = phases[0]["sources"]
        assert isinstance(only, dict)
        data |= {"sources": {source: {**run[source], **ask} for source, ask in only.items()}, "phases": []}
    return validated(MixtureConfig, data, f"preset {preset.name}")


def stability_gap_mixture(
    domain: str,
    domain_tokens: int,
    pretraining: Mapping[str, Number],
    *,
    score: str,
    replaced: str = "web",
    subset: Number = STABILITY_GAP_SUBSET,
    epochs: Number = STABILITY_GAP_EPOCHS,
) -> MixtureConfig:
    """The stability-gap recipe: the best part of a domain, several epochs, where web text was in the old mixture.

    Args:
        domain, domain_tokens, pretraining, replaced, subset, epochs: as in `mixtures.replay.stability_gap`.
        score: what the best part is by, such as -perplexity under a reference model of the domain.

    Raises: MixtureError as `stability_gap`.

    Source: arXiv 2406.14833.
    """
    recipe = stability_gap(domain, domain_tokens, pretraining, replaced=replaced, subset=subset, epochs=epochs)
    sources: dict[str, Any] = {name: {"weight": float(share)} for name, share in recipe.shares.items()}
    kept = float(finite(subset, "subset"))
    # one more visit than meant: documents are whole, so what is kept may be a little less than the subset
    sources[domain] |= {"keep": {"by": score, "top": kept}, "max_visits": float(finite(epochs, "epochs")) + 1}
    return validated(MixtureConfig, {"sources": sources, "tokens": recipe.tokens}, "the stability-gap recipe")


def _check_roles(preset: Preset, roles: Mapping[str, str], known: Sequence[str]) -> None:
    for role in known:
        if role not in roles:
            raise MixtureError(
                f"the preset {preset.name!r} needs a source for the role {role!r}",
                expected=f"a source for each of {', '.join(known)}",
                found=", ".join(f"{name}={source}" for name, source in roles.items()) or "none",
                fix=f"--role {role}=NAME",
            )
    _all_known(preset, "role", roles, known)


def _phase_sources(
    preset: Preset,
    phase: PresetPhase,
    roles: Mapping[str, str],
    given: Mapping[str, Number] | None,
    score: str | None,
) -> dict[str, dict[str, Any]]:
    """What a phase asks for, by source."""
    shares = given if given is not None else phase.shares
    if shares is None:
        raise MixtureError(
            f"the shares of the phase {phase.name!r} of {preset.name!r} are not published",
            expected=f"shares for {', '.join(phase.roles)}",
            found="none",
            fix=f"give them: --share {phase.name}.{phase.roles[0]}=50% ...",
        )
    _all_known(preset, f"role of {phase.name}", shares, phase.roles)
    exact, _ = normalised(list(shares.values()), list(shares), f"shares.{phase.name}")
    added: dict[str, Fraction] = {}
    for role, share in zip(shares, exact, strict=True):
        added[roles[role]] = added.get(roles[role], Fraction(0)) + share
    asks: dict[str, dict[str, Any]] = {source: {"weight": float(share)} for source, share in added.items()}
    if phase.keep < 1:
        if score is None:
            raise MixtureError(
                f"the preset {preset.name!r} reads the best {float(phase.keep):.4g} of a source",
                expected="the score that says which that is",
                fix="--score NAME",
            )
        for ask in asks.values():
            ask["keep"] = {"by": score, "top": float(phase.keep)}
    return asks


def _all_known(preset: Preset, what: str, names: Iterable[str], known: Iterable[str]) -> None:
    wrong = [name for name in names if name not in set(known)]
    if wrong:
        raise MixtureError(f"the preset {preset.name!r} has no {what} {wrong[0]!r}{nearest(wrong[0], known)}")
