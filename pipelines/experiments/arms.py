"""The arms of a study at a size: what each trains on, which arm is its control, and whether they may be compared.

An arm is called by its levels, joined by dots: `ascending.constant`. A run is an arm with a seed, which decides the
initial parameters, the draw of documents, ties and shuffles; runs of one seed differ in nothing but their arms.

Checked before anything is trained: an arm in any order but a shuffled one has its control, the same documents under
the same plan, shuffled; the averages of both are the same; arms spend the same tokens (and FLOPs, where the study says
so) unless one says why not. There is no setting that leaves a control out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import product
from typing import Any

from corpus.config import nearest, validated
from corpus.errors import ConfigError
from pipelines.experiments.study import RAW, ArmSettings, SizeSettings, Study, Teachers, laid_over
from trainer_hooks.model_size import flops_per_token
from trainer_hooks.resolution import resolve

MEMBER_SEEDS = 1_000
"""Member k of an ensemble or of teachers, for the seed s, is a run of the seed s + k x this: never one of a study's."""


@dataclass(frozen=True)
class Arm:
    """One arm.

    Attributes:
        levels: the level of each factor; empty for an extra arm.
        control: the arm it is compared with where nothing else is said; None for a control itself.
        seeds: of its runs, rising.
        tokens: whole steps of training tokens; flops: of one run, forward and backward.
    """

    name: str
    settings: ArmSettings
    levels: Mapping[str, str] = field(default_factory=dict)
    control: str | None = None
    seeds: tuple[int, ...] = ()
    tokens: int = 0
    flops: float = 0.0

    @property
    def shuffled(self) -> bool:
        """Whether documents come in no order at all, in each phase."""
        order = self.settings.order
        policies = order.values() if isinstance(order, Mapping) else (order,)
        return all(policy.kind in ("shuffled", "mixed") for policy in policies)

    @property
    def averages(self) -> tuple[str, ...]:
        """The averages that a run of this arm follows."""
        return tuple(self.settings.plan.average)


@dataclass(frozen=True)
class Run:
    """An arm with a seed."""

    arm: Arm
    seed: int

    @property
    def id(self) -> str:
        """Its name, which is a file name."""
        return f"{self.arm.name}.s{self.seed}"


def arms_of(study: Study, size_name: str) -> dict[str, Arm]:
    """The arms that are trained at a size, by name, controls first.

    Raises ConfigError for settings that cannot be used, a pattern without an arm, a control that is not there, arms
    that spend differently without a reason, or contrasts and ensembles of arms that are not trained.
    """
    size = study.size(size_name)
    found = _named(study, size)
    _check_patterns(size, found, study)
    kept = {name: arm for name, arm in found.items() if any(fnmatchcase(name, one) for one in size.arms)}
    kept |= {name: found[name] for name in list(_asked_for(study, kept)) if name in found}
    kept |= {control: found[control] for control in _controls(kept, found)}
    _check_controls(kept, study)
    _check_spending(list(kept.values()), study)
    _check_contrasts(study, kept)
    return dict(sorted(kept.items(), key=lambda item: (item[1].control is not None, list(found).index(item[0]))))


def runs_of(study: Study, arms: Mapping[str, Arm]) -> list[Run]:
    """All runs, teachers and members of ensembles among them; those that others learn from come first."""
    seeds: dict[str, set[int]] = {name: set(arm.seeds) for name, arm in arms.items()}
    for teachers, own in _teachings(study, arms):
        for k in range(teachers.members):
            seeds[teachers.arm] |= {member_seed(seed, k) for seed in own}
    runs = [Run(arm, seed) for name, arm in arms.items() for seed in sorted(seeds[name])]
    return sorted(runs, key=lambda run: run.arm.settings.teachers is not None)


def member_seed(seed: int, member: int) -> int:
    """The seed of an ensemble's member for a seed of the study; the first member is the study's own run."""
    return seed + member * MEMBER_SEEDS


def _teachings(study: Study, arms: Mapping[str, Arm]) -> Iterator[tuple[Teachers, Sequence[int]]]:
    for arm in arms.values():
        if arm.settings.teachers is not None:
            yield arm.settings.teachers, arm.seeds
    for ensemble in study.ensembles.values():
        if ensemble.arm in arms:
            yield ensemble, arms[ensemble.arm].seeds


# ---- making arms


def _named(study: Study, size: SizeSettings) -> dict[str, Arm]:
    base = laid_over(study.base, {"model": size.model, "plan": size.plan})
    made: dict[str, Arm] = {}
    written: dict[str, dict[str, Any]] = {}
    for levels in product(*(factor.items() for factor in study.factors.values())):
        settings = base
        for _, level in levels:
            settings = laid_over(settings, level)
        chosen = dict(zip(study.factors, (name for name, _ in levels), strict=True))
        name = ".".join(chosen.values())
        control = ".".join({**chosen, **study.control}.values())
        written[name] = settings
        made[name] = _arm(name, settings, size, chosen, None if control == name else control)
    for name, given in study.extra.items():
        rest, like = dict(given), str(given.get("like", next(iter(written))))
        rest.pop("like", None)
        against = str(rest.pop("control", like))
        for other in (like, against):
            if other not in written:
                raise ConfigError(f"extra.{name}: there is no arm {other!r}{nearest(other, written)}")
        made[name] = _arm(name, laid_over(written[like], rest), size, {}, against)
    return made


def _arm(
    name: str, settings: dict[str, Any], size: SizeSettings, levels: Mapping[str, str], control: str | None
) -> Arm:
    model = settings.get("model", {})
    vocabulary = -(-size.vocabulary // 64) * 64  # whole tiles
    filled = {
        **settings,
        "model": {"vocabulary": vocabulary, **({"preset": model} if isinstance(model, str) else model)},
    }
    own = validated(ArmSettings, filled, f"arm {name}")
    resolved = resolve(own.plan)
    more = [n for pattern, n in size.more_seeds.items() if fnmatchcase(name, pattern)]
    flops = flops_per_token(own.model, own.plan.sequence_length) * resolved.tokens
    return Arm(name, own, levels, control, tuple(range(max([size.seeds, *more]))), resolved.tokens, flops)


def _asked_for(study: Study, kept: Mapping[str, Arm]) -> Iterator[str]:
    """Arms that others learn from, whether or not a size names them."""
    for arm in kept.values():
        if arm.settings.teachers is not None:
            yield arm.settings.teachers.arm


def _controls(kept: Mapping[str, Arm], found: Mapping[str, Arm]) -> Iterator[str]:
    for arm in kept.values():
        if arm.control is not None and arm.control in found:
            yield arm.control


# ---- what may not be


def _check_patterns(size: SizeSettings, found: Mapping[str, Arm], study: Study) -> None:
    for pattern in (*size.arms, *size.more_seeds):
        if not any(fnmatchcase(name, pattern) for name in found):
            raise ConfigError(
                f"no arm of the study {study.name} matches {pattern!r}{nearest(pattern, found)}",
                expected=", ".join(found),
            )


def _check_controls(kept: Mapping[str, Arm], study: Study) -> None:
    for arm in kept.values():
        if arm.control is not None and arm.control not in kept:
            raise _no_control(arm, study, f"no arm {arm.control}")
        if arm.shuffled:
            continue
        matching = [
            other for other in kept.values()
            if other.shuffled and other.settings.mixture == arm.settings.mixture
            and other.settings.plan == arm.settings.plan and other.settings.model == arm.settings.model
        ]  # fmt: skip
        if not matching:
            raise _no_control(arm, study, "no arm that reads the same documents shuffled, under the same plan")


def _no_control(arm: Arm, study: Study, found: str) -> ConfigError:
    return ConfigError(
        f"the arm {arm.name} has no control",
        expected="an arm that differs in nothing but the order, which is shuffled, or in the factors of `control`",
        found=found, where=f"study {study.name}",
        fix="add the level that is missing: without its control a difference says nothing, so none can be left out",
    )  # fmt: skip


def _check_spending(arms: Sequence[Arm], study: Study) -> None:
    """Raise ConfigError where arms read different numbers of tokens, or spend different FLOPs, and none says why."""
    plain = next(arm for arm in arms if not arm.settings.unmatched)
    for arm in arms:
        same = arm.tokens == plain.tokens if study.equal == "tokens" else abs(arm.flops / plain.flops - 1) < 0.02
        if same or arm.settings.unmatched:
            continue
        spent = (f"{arm.tokens:,} and {plain.tokens:,} tokens" if study.equal == "tokens"
                 else f"{arm.flops:.3g} and {plain.flops:.3g} FLOPs")  # fmt: skip
        raise ConfigError(
            f"the arms {arm.name} and {plain.name} spend differently, so their losses cannot be compared",
            expected=f"equal {study.equal} in all arms", found=spent, where=f"study {study.name}",
            fix="give them the same plan.tokens, or say in `unmatched` of the arm why it differs: the page repeats it",
        )  # fmt: skip


def _check_contrasts(study: Study, kept: Mapping[str, Arm]) -> None:
    main = next(iter(study.contrasts))
    for name, contrast in study.contrasts.items():
        for arm, weights in ((contrast.arm, contrast.weights), (contrast.against, contrast.against_weights)):
            where = f"contrasts.{name}"
            if arm not in kept and name == main:
                raise ConfigError(f"{where}: the arm {arm!r} is not trained at this size{nearest(arm, kept)}")
            if arm not in kept:
                continue
            known = {RAW, *kept[arm].averages, *(k for k, one in study.ensembles.items() if one.arm == arm)}
            if weights not in known and weights != "schedule_free":
                raise ConfigError(f"{where}: {arm} has no weights {weights!r}{nearest(weights, known)}")
    for name, ensemble in study.ensembles.items():
        if ensemble.arm not in kept:
            raise ConfigError(f"ensembles.{name}: the arm {ensemble.arm!r} is not trained{nearest(ensemble.arm, kept)}")
