"""The arms of a study at a size: what each trains on, which arm is its control, and whether they may be compared.

An arm is called by its levels, joined by dots: `ascending.constant`. A run is an arm with a seed, which decides the
initial parameters, the draw of documents, ties and shuffles; runs of one seed differ in nothing but their arms.

Checked before anything is trained: an arm in any order but a shuffled one has its control, the same documents under
the same plan (its averages among it), shuffled; where the order is by a quality score, a shuffled arm that keeps the
best by that score and repeats them is trained, too; controls are shuffled; arms spend the same tokens (or FLOPs, where
the study says so) unless one says why not. There is no setting that leaves a control out: what a size does not name is
added, and what is not there is refused.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import product
from typing import Any

from corpus.config import nearest, parse_count, validated
from corpus.errors import ConfigError
from curriculum.policies.base import OrderPolicy, ScorePolicy
from pipelines.experiments.study import RAW, ArmSettings, SizeSettings, Study, Teachers, laid_over
from pipelines.phase_orders import columns_read
from trainer_hooks.model_size import flops_per_token
from trainer_hooks.resolution import resolve

OWN_COLUMNS = ("random",)
"""Columns that every study has: a keyed hash of the document, another one in each seed."""
SCHEDULE_FREE = "schedule_free"
"""The weights that the optimizer of this name averages itself."""
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
        return all(policy.kind in ("shuffled", "mixed") for policy in self._policies())

    @property
    def sorted_by(self) -> set[str]:
        """The columns that documents are put in order by."""
        return {name for policy in self._policies() for name in _columns_of(policy)}

    @property
    def kept_by(self) -> set[str]:
        """The columns by which only the best documents are kept, and repeated."""
        mixture = self.settings.mixture
        every = (mixture.sources, *(phase.sources or {} for phase in mixture.phases))
        keeps = [ask.keep for sources in every for ask in sources.values() if ask.keep is not None]
        return {keep.by for keep in keeps}

    @property
    def weights(self) -> tuple[str, ...]:
        """The kinds of weights that a run of this arm ends with."""
        own = (SCHEDULE_FREE,) if self.settings.plan.optimizer.averages_itself else ()
        return (RAW, *self.averages, *own)

    @property
    def averages(self) -> tuple[str, ...]:
        """The averages that a run of this arm follows."""
        return tuple(self.settings.plan.average)

    def _policies(self) -> tuple[OrderPolicy, ...]:
        order = self.settings.order
        return tuple(order.values()) if isinstance(order, Mapping) else (order,)


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
    found, absent = _named(study, size)
    _check_patterns(size, [*found, *absent], study)
    kept = {name: arm for name, arm in found.items() if any(fnmatchcase(name, one) for one in size.arms)}
    while more := {name: found[name] for name in _needed(study, kept, found) if name not in kept and name in found}:
        kept |= more
    _check_controls(kept, study, absent)
    _check_spending(list(kept.values()), study)
    _check_contrasts(study, kept, absent)
    _check_ensembles(study, kept)
    return dict(sorted(kept.items(), key=lambda item: (item[1].control is not None, list(found).index(item[0]))))


def unbound_arms(study: Study, size_name: str) -> dict[str, str]:
    """The arms that a size names and that are not trained, by name, with what is to be bound for each."""
    size = study.size(size_name)
    _, absent = _named(study, size)
    return {name: why for name, why in absent.items() if any(fnmatchcase(name, one) for one in size.arms)}


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


def _named(study: Study, size: SizeSettings) -> tuple[dict[str, Arm], dict[str, str]]:
    """All arms of a study by name, and those that nothing is bound for, with what is to be bound."""
    base = laid_over(study.base, {"model": size.model, "plan": size.plan})
    made: dict[str, Arm] = {}
    absent: dict[str, str] = {}
    written: dict[str, dict[str, Any]] = {}

    def make(name: str, settings: dict[str, Any], levels: Mapping[str, str], control: str | None) -> None:
        arm = _arm(name, settings, study, size, levels, control)
        if isinstance(arm, str):
            absent[name] = arm
        else:
            made[name] = arm

    for levels in product(*(factor.items() for factor in study.factors.values())):
        settings = base
        for _, level in levels:
            settings = laid_over(settings, level)
        chosen = dict(zip(study.factors, (name for name, _ in levels), strict=True))
        name = ".".join(chosen.values())
        control = ".".join({**chosen, **study.control}.values())
        written[name] = settings
        make(name, settings, chosen, None if control == name else control)
    for name, given in study.extra.items():
        rest, like = dict(given), str(given.get("like", next(iter(written))))
        rest.pop("like", None)
        against = str(rest.pop("control", like))
        for other in (like, against):
            if other not in written:
                raise ConfigError(f"extra.{name}: there is no arm {other!r}{nearest(other, written)}")
        if name in written:
            raise ConfigError(f"extra.{name}: there is an arm of this name already", fix="give it a name of its own")
        make(name, laid_over(written[like], rest), {}, against)
    return made, absent


def _arm(
    name: str, settings: dict[str, Any], study: Study, size: SizeSettings, levels: Mapping[str, str],
    control: str | None,
) -> Arm | str:  # fmt: skip
    """An arm, or what is to be bound for it."""
    mixture = settings.get("mixture", {})
    if isinstance(shares := mixture.get("sources"), str):
        if shares not in study.learned:
            raise ConfigError(f"arm {name}: there are no learned shares {shares!r}{nearest(shares, study.learned)}")
        if study.learned[shares] is None:
            return f"learned.{shares}: shares of your sources; gradatim mix learn makes a shares.yaml"
        mixture = {**mixture, "sources": study.learned[shares]}
    own = validated(ArmSettings, _filled(settings, mixture, size), f"arm {name}")
    for column in sorted(columns_read(own.mixture, own.order) - set(OWN_COLUMNS)):
        if column not in study.columns:
            known = [*study.columns, *OWN_COLUMNS, "length"]
            raise ConfigError(
                f"the arm {name} reads the column {column!r}, which the study {study.name} does not have"
                f"{nearest(column, known)}", fix=f"name it under columns: {{{column}: a score of your workspace}}",
            )  # fmt: skip
        if study.columns[column] is None:
            return f"columns.{column}: a score of your workspace; --column {column}=COLUMN binds one"
    resolved = resolve(own.plan)
    more = [n for pattern, n in size.more_seeds.items() if fnmatchcase(name, pattern)]
    flops = flops_per_token(own.model, own.plan.sequence_length) * resolved.tokens
    return Arm(name, own, levels, control, tuple(range(max([size.seeds, *more]))), resolved.tokens, flops)


def _filled(settings: dict[str, Any], mixture: Mapping[str, Any], size: SizeSettings) -> dict[str, Any]:
    """The settings of an arm with what the size decides: the vocabulary, visits, and what `times` multiplies."""
    rest, model, plan = dict(settings), settings.get("model", {}), dict(settings.get("plan", {}))
    for key, factor in rest.pop("times", {}).items():
        number = parse_count(plan.get(key)) if key == "tokens" else float(plan.get(key, 1))
        plan[key] = round(number * factor) if key == "tokens" else number * factor
    vocabulary = -(-size.vocabulary // 64) * 64  # whole tiles
    named = {"preset": model} if isinstance(model, str) else model
    if size.max_visits is not None:
        mixture = {**mixture, "max_visits": size.max_visits, "allow_many_visits": True}
    return {**rest, "mixture": mixture, "plan": plan, "model": {"vocabulary": vocabulary, **named}}


def _columns_of(policy: OrderPolicy) -> tuple[str, ...]:
    own = policy.ordered_by if isinstance(policy, ScorePolicy) else ()
    return (*own, *(name for part in policy.parts for name in _columns_of(part)))


def _needed(study: Study, kept: Mapping[str, Arm], found: Mapping[str, Arm]) -> Iterator[str]:
    """Arms that have to be trained beside those kept, whether or not a size names them."""
    for arm in kept.values():
        if arm.settings.teachers is not None:
            yield arm.settings.teachers.arm
        if arm.control is not None:
            yield arm.control
        for score in sorted(arm.sorted_by & set(study.columns)):
            if not any(_filters(other, score) for other in kept.values()):
                yield from [name for name, other in found.items() if _filters(other, score)][:1]


def _filters(arm: Arm, score: str) -> bool:
    """Whether an arm is the simplest use of a score: keep the best by it, and repeat them."""
    return arm.shuffled and score in arm.kept_by


# ---- what may not be


def _check_patterns(size: SizeSettings, names: Sequence[str], study: Study) -> None:
    for pattern in (*size.arms, *size.more_seeds):
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigError(
                f"no arm of the study {study.name} matches {pattern!r}{nearest(pattern, names)}",
                expected=", ".join(names),
            )


def _check_controls(kept: Mapping[str, Arm], study: Study, absent: Mapping[str, str]) -> None:
    for arm in kept.values():
        if arm.control is not None and arm.control not in kept:
            raise _no_control(arm, study, f"no arm {arm.control}: {absent.get(arm.control, 'it cannot be made')}")
        if arm.control is not None and arm.settings == kept[arm.control].settings:
            raise ConfigError(
                f"the arm {arm.name} is its own control under another name: nothing differs from {arm.control}",
                where=f"study {study.name}", fix="let a level change what it is called after, or take it out",
            )  # fmt: skip
        if arm.shuffled:
            continue
        matching = [
            other for other in kept.values()
            if other.shuffled and all(getattr(other.settings, part) == getattr(arm.settings, part)
                                      for part in ("mixture", "plan", "model", "teachers"))
        ]  # fmt: skip
        if not matching or arm.control is None:
            raise _no_control(arm, study, "no arm that reads the same documents shuffled, under the same plan")
        for score in sorted(arm.sorted_by & set(study.columns)):
            if not any(_filters(other, score) for other in kept.values()):
                raise _no_filter(arm, study, score)


def _no_filter(arm: Arm, study: Study, score: str) -> ConfigError:
    return ConfigError(
        f"the arm {arm.name} puts documents in order by {score}, and no arm filters by it",
        expected=f"a shuffled arm that keeps the best by {score} and repeats them", where=f"study {study.name}",
        fix=f"add one: extra.filter_repeat.mixture.sources with keep: {{by: {score}, top: 33%}}; "
        "filtering has been found to gain nearly as much as an order (arXiv 2512.07612)",
    )  # fmt: skip


def _no_control(arm: Arm, study: Study, found: str) -> ConfigError:
    return ConfigError(
        f"the arm {arm.name} has no control",
        expected="an arm that differs in nothing but the order, which is shuffled, or in the factors of `control`",
        found=found, where=f"study {study.name}",
        fix="add the level that is missing: without its control a difference says nothing, so none can be left out",
    )  # fmt: skip


def _check_spending(arms: Sequence[Arm], study: Study) -> None:
    """Raise ConfigError where arms read different numbers of tokens, or spend different FLOPs, and none says why."""
    plain = next((arm for arm in arms if not arm.settings.unmatched), None)
    if plain is None:
        raise ConfigError(
            f"every arm of the study {study.name} is `unmatched`, so nothing says what they spend alike",
            fix="leave unmatched out of the arms that others are compared with",
        )
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


def _check_contrasts(study: Study, kept: Mapping[str, Arm], absent: Mapping[str, str]) -> None:
    """Raise ConfigError where the main contrast is not trained, or one names weights that its arms do not have."""
    main = next(iter(study.contrasts))
    for name, contrast in study.contrasts.items():
        for arm, weights in ((contrast.arm, contrast.weights), (contrast.against, contrast.against_weights)):
            where = f"contrasts.{name}"
            if arm not in kept and name == main:
                why = absent.get(arm, nearest(arm, kept).removeprefix("; "))
                raise ConfigError(f"{where}: the arm {arm!r} is not trained at this size: {why}")
            if arm not in kept:
                continue
            known = {*kept[arm].weights, *(k for k, one in study.ensembles.items() if one.arm == arm)}
            if weights not in known:
                raise ConfigError(f"{where}: {arm} has no weights {weights!r}{nearest(weights, known)}")


def _check_ensembles(study: Study, kept: Mapping[str, Arm]) -> None:
    for name, ensemble in study.ensembles.items():
        if ensemble.arm not in kept:
            raise ConfigError(f"ensembles.{name}: the arm {ensemble.arm!r} is not trained{nearest(ensemble.arm, kept)}")
        if name in kept[ensemble.arm].weights:
            raise ConfigError(f"ensembles.{name}: {ensemble.arm} has weights of this name already")
