"""A study: one question about training data, as a file of arms that differ in what the question is about.

Arms are the product of factors. Every level of a factor is a piece of settings laid over `base`, so an arm is `base`,
one level of each factor, and nothing else; averages cost no training, since a run follows all of them at once. A size
(`minutes`, `hour`, `gpu`) says how much is trained, by which model, with how many seeds.

    name: cma
    question: Does reading the best documents last help?
    base: {mixture: {...}, order: {kind: shuffled}, plan: {...}}
    factors:
      order: {shuffled: {}, ascending: {order: {kind: sorted, by: score}}}
      schedule: {constant: {...}, wsd_300: {...}}
    control: {order: shuffled}
    contrasts: {cma: {arm: ascending.constant, weights: sma, against: shuffled.wsd_300}}
    sizes: {hour: {seeds: 3, model: 1M, plan: {tokens: 2M}}}

Two words of a level reach further than settings do. `times: {tokens: 2, peak_lr: 0.5}` multiplies what the size says,
and the factors of several levels multiply each other. `mixture: {sources: regmix}` takes shares that were learned, by
their name under `learned`. A column or learned shares that nothing is bound to (null) are the user's to bring; without
them the arms that read them are not trained, and `pipelines.experiments.arms.unbound_arms` names them.

`load_study("cma")` reads a bundled one, or a file.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from corpus.config import Config, Count, Share, apply_overrides, load_yaml, nearest, validated
from corpus.errors import ConfigError
from curriculum.kinds import Policy
from mixtures.config import MixtureConfig
from pipelines.phase_orders import phase_orders
from trainer_hooks.model_config import ModelConfig
from trainer_hooks.plan import Plan

BUNDLED = Path(__file__).parent / "studies"
SIZES = ("minutes", "hour", "gpu")
Size = Literal["minutes", "hour", "gpu"]
RAW = "raw"
SCORE = "score"
WHOLE = ("order", "sources")
TIMES = ("tokens", "peak_lr")
"""Numbers of the plan that `times` may multiply."""


class Teachers(Config):
    """Runs of another arm that a distilled arm learns from; each has a seed of its own."""

    arm: str = Field(description="the arm whose runs teach")
    members: int = Field(1, ge=1, description="how many runs are read as one, by their mean log-probabilities")


class ArmSettings(Config):
    """What one arm trains on and how: `base` with one level of each factor laid over it.

    Columns that orders and mixtures may name: `score` (the study's, turned so that higher is better), the study's other
    `columns`, `random` (a keyed hash of the document, another one in each seed), and `length`.
    """

    mixture: MixtureConfig = Field(description="what is read, and how often; its tokens are the plan's")
    order: Policy | dict[str, Policy] = Field(description="how visits are put in order, in all phases or in each")
    plan: Plan = Field(description="learning rate, averages, optimizer, evaluations; the seed is the run's")
    model: ModelConfig
    teachers: Teachers | None = Field(None, description="runs to distil from; the plan's objective then mixes both")
    unmatched: str = Field("", description="why this arm may read other tokens, or spend other FLOPs, than the rest")

    @model_validator(mode="after")
    def _the_harness_decides(self) -> "ArmSettings":
        """Refuse what would take the budget, the seed or the order out of the study's hands."""
        if self.mixture.tokens is not None:
            raise ValueError("mixture.tokens: a mixture reads the plan's tokens; set plan.tokens")
        if self.plan.seed:
            raise ValueError("plan.seed: the seed is the run's; a size says how many `seeds` there are")
        if any(hook.kind == "online_mixture" for hook in self.plan.hooks):
            raise ValueError("plan.hooks: online_mixture moves documents while it trains, so no other arm reads the "
                             "same ones; train with static shares")  # fmt: skip
        if isinstance(self.order, dict):
            phases = dict.fromkeys(
                [phase.name for phase in self.mixture.phases] or [""], next(iter(self.order.values()))
            )
            try:
                phase_orders(self.order, phases)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        return self


class Contrast(Config):
    """A comparison that the study is about, made seed by seed."""

    arm: str = Field(description="an arm by its name: one level of each factor, joined by dots")
    against: str = Field(description="the arm it is compared with")
    weights: str = Field(RAW, description="raw, the name of one of the plan's averages, or of an ensemble")
    against_weights: str = Field(RAW, description="the same of the other arm")
    claim: str = Field("", description="what the field says of it, with its source")

    @model_validator(mode="after")
    def _compares_two(self) -> "Contrast":
        if (self.arm, self.weights) == (self.against, self.against_weights):
            raise ValueError(f"{self.arm} would be compared with itself, which always gives 0")
        return self


class Pool(Config):
    """The documents that arms draw from."""

    longest: Count | None = Field(
        None, gt=0, description="tokens of a document that may be read, from its beginning; null: all of them"
    )
    tokens: Count | None = Field(
        None, gt=0, description="tokens of the pool, documents drawn by a keyed hash; null: all there are"
    )
    per_source: Count | None = Field(None, gt=0, description="tokens of each source at most; null: no such limit")


class Measured(Config):
    """The documents kept out of training that losses are measured on."""

    share: Share = Field(0.05, gt=0, lt=1, description="share of documents held out, by a keyed hash")
    tokens: Count = Field(60_000, gt=1, description="tokens measured on at the end, at most, in each source")
    curve_tokens: Count = Field(8_000, gt=1, description="tokens measured on while training, at most, in each source")
    target: tuple[str, ...] = Field((), description="sources whose mean loss decides; none: all of them, equally")
    best: Share = Field(0.2, gt=0, le=1, description="the best held-out documents by score, a set of their own")


class SizeSettings(Config):
    """How much of a study is trained. What it does not say is the study's."""

    seeds: int = Field(3, ge=2, description="runs of each arm; a difference has no spread with fewer than two")
    more_seeds: dict[str, int] = Field({}, description="more runs for arms that match a pattern, such as *.constant")
    arms: tuple[str, ...] = Field(("*",), description="patterns of the arms that are trained at this size")
    vocabulary: Count = Field(2_048, gt=256, description="tokens of the tokenizer trained on the documents")
    pool: Pool = Pool()
    max_visits: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="how often any arm may read a document at this size, in place of "
        "what mixtures say"
    )  # fmt: skip
    measured: Measured = Measured()
    model: dict[str, Any] = Field({}, description="laid over the base's model")
    plan: dict[str, Any] = Field({}, description="laid over the base's plan, below the levels of factors")

    @model_validator(mode="before")
    @classmethod
    def _model_by_name(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("model"), str):
            return {**data, "model": {"preset": data["model"]}}
        return data


class Study(Config):
    """A question with its arms, as written; `pipelines.experiments.arms.arms_of` makes them out of it."""

    name: str = Field(pattern=r"[a-z0-9][a-z0-9_-]*", description="what the study is called")
    title: str
    question: str = Field(description="what it asks, in one sentence")
    source: tuple[str, ...] = Field((), description="where the question comes from: arXiv ids with what they report")
    expected: str = Field(description="what the sources let one expect, and what would speak against it")
    untested: tuple[str, ...] = Field((), description="what this study does not test")
    roles: dict[str, str] = Field(
        {}, description="what sources are for, by role; bound with --role NAME=SOURCE,...; then old/web is web as old"
    )
    columns: dict[str, str | None] = Field(
        {}, description="scores that arms read: the name in this study, and the workspace's column it is by default; "
        "null: none, so that arms that read it are trained where --column binds it"
    )  # fmt: skip
    learned: dict[str, dict[str, Any] | None] = Field(
        {}, description="shares of sources that arms read by name (mixture: {sources: NAME}): a mapping of sources, or "
        "the shares.yaml that `gradatim mix learn` writes; null: none, and such arms are not trained"
    )  # fmt: skip
    base: dict[str, Any] = Field(description="what all arms have in common")
    factors: dict[str, dict[str, dict[str, Any]]] = Field(
        min_length=1, description="by factor, its levels, each laid over the base; the first level is the plain one"
    )
    extra: dict[str, dict[str, Any]] = Field(
        {}, description="arms outside the product, by name: settings laid over those of the arm `like`, which is also "
        "its `control` where none is named"
    )  # fmt: skip
    control: dict[str, str] = Field(
        description="the level of each named factor that an arm is compared with, all others being equal"
    )
    contrasts: dict[str, Contrast] = Field(min_length=1, description="the comparisons asked for; the first is the main")
    ensembles: dict[str, Teachers] = Field(
        {}, description="models read as one by their mean log-probabilities, runs of an arm with seeds of their own"
    )
    equal: Literal["tokens", "flops"] = Field("tokens", description="what all arms spend alike")
    continual: dict[str, str] = Field(
        {}, description="for two-phase studies: `old` and `new`, the roles whose losses are forgetting and learning"
    )
    sizes: dict[Size, SizeSettings]

    @model_validator(mode="after")
    def _names_are_known(self) -> "Study":
        if not self.control:
            raise ValueError(
                "control: name the plain level of at least one factor, such as control: {order: shuffled}; "
                "without a control a difference says nothing, so it cannot be left out"
            )
        for factor, level in self.control.items():
            if factor not in self.factors:
                raise ValueError(f"control: there is no factor {factor!r}{nearest(factor, self.factors)}")
            if level not in self.factors[factor]:
                raise ValueError(
                    f"control.{factor}: there is no level {level!r}{nearest(level, self.factors[factor])}. "
                    "All arms are compared with it, so it cannot be left out"
                )
        if "unmatched" in self.base or "times" in self.base:
            raise ValueError("base: unmatched and times make one arm differ from another, so only levels have them")
        for name in self.level_names():
            if not name.replace("_", "").isalnum():
                raise ValueError(f"{name!r} cannot name a level or an extra arm: letters, digits and _ only")
        for name, role in self.continual.items():
            if name not in ("old", "new") or role not in self.roles:
                raise ValueError(f"continual.{name}: {role!r} is no role of this study, or {name!r} not old or new")
        return self

    def level_names(self) -> Iterator[str]:
        """Names of all levels and extra arms, which name files."""
        for levels in self.factors.values():
            yield from levels
        yield from self.extra

    @property
    def bound(self) -> dict[str, str]:
        """The columns that are bound, by their names here."""
        return {name: column for name, column in self.columns.items() if column is not None}

    def size(self, name: str) -> SizeSettings:
        """The settings of a size. Raises ConfigError where the study has none of that name."""
        if name not in self.sizes:
            raise ConfigError(
                f"the study {self.name} has no size {name!r}{nearest(name, self.sizes)}", found=", ".join(self.sizes)
            )
        return self.sizes[name]


def load_study(name: str | Path, overrides: tuple[str, ...] = (), columns: Mapping[str, str] | None = None) -> Study:
    """Read a bundled study by its name, or a file, with `--set` overrides.

    Args:
        columns: bindings over the study's own; `score` may be bound in every study, so that the best held-out
            documents are measured apart.

    Paths of learned shares start from the file that names them, and those of overrides from the working folder. Raises
    ConfigError that lists every problem, or the bundled studies where there is none of that name.
    """
    path = Path(name)
    if not path.is_file():
        path = BUNDLED / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(
            f"there is no study {str(name)!r}{nearest(str(name), bundled_studies())}",
            expected=f"one of {', '.join(bundled_studies())}, or a YAML file",
        )
    data = _with_shares({"name": path.stem, **load_yaml(path)}, path.parent)
    study = validated(Study, _with_shares(apply_overrides(data, overrides), Path()), str(path))
    known = {*study.columns, SCORE}
    for unknown in sorted(set(columns or {}) - known):
        raise ConfigError(
            f"the study {study.name} reads no column {unknown!r}{nearest(unknown, known)}", where="--column",
            fix="name a column of the study: --column NAME=COLUMN",
        )  # fmt: skip
    return study.model_copy(update={"columns": {**study.columns, **(columns or {})}})


def _with_shares(data: dict[str, Any], base: Path) -> dict[str, Any]:
    """The study with the contents of files of learned shares in their place."""
    learned = data.get("learned")
    if not isinstance(learned, dict):
        return data
    return {**data, "learned": {name: _shares(value, base) for name, value in learned.items()}}


def _shares(value: Any, base: Path) -> Any:
    if not isinstance(value, str):
        return value
    path = base / value
    sources = load_yaml(path).get("sources")
    if not isinstance(sources, dict):
        raise ConfigError(
            "this file holds no shares of sources", expected="a mapping under `sources`", where=str(path),
            fix="take the shares.yaml of the artifact mix/shares, which gradatim mix learn writes",
        )  # fmt: skip
    return sources


def bundled_studies() -> list[str]:
    """Names of the studies that come with the package."""
    return sorted(path.stem for path in BUNDLED.glob("*.yaml"))


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with others laid over them: mappings key by key, all else replaced.

    What is one decision is replaced whole: `order`, a mixture's `sources`, a mapping with another `kind`; one without
    a kind yet (`schedule: {warmup: 5%}`) holds for every kind. `phases` takes the place of `schedule`, and the other
    way round. Factors of `times` multiply.
    """
    merged = dict(below)
    for one, other in (("phases", "schedule"), ("schedule", "phases")):
        if one in above:
            merged.pop(other, None)
    for key, value in above.items():
        old = merged.get(key)
        if key == "times":
            merged[key] = _product(old or {}, value)
        elif isinstance(value, Mapping) and isinstance(old, Mapping) and _merges(key, old, value):
            merged[key] = laid_over(old, value)
        else:
            merged[key] = value
    return merged


def _merges(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return key not in WHOLE and ("kind" not in old or new.get("kind", old["kind"]) == old["kind"])


def _product(old: Mapping[str, float], new: Any) -> dict[str, float]:
    for key, factor in new.items() if isinstance(new, Mapping) else [("times", new)]:
        number = isinstance(factor, int | float) and not isinstance(factor, bool) and factor > 0
        if key not in TIMES or not number:
            raise ConfigError(
                "this cannot multiply a plan", expected=f"times: a factor above 0 for {' or '.join(TIMES)}",
                found=f"{key}: {factor!r}", fix="write for example times: {tokens: 2}",
            )  # fmt: skip
    return {**old, **{key: old.get(key, 1) * factor for key, factor in new.items()}}
