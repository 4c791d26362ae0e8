"""The bundled studies: each resolves at each size with its controls, spends alike, and fits the time it promises."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from curriculum.order import encode_names
from curriculum.visits import CANDIDATE_SCHEMA
from mixtures.allocate import allocate
from mixtures.available import available
from mixtures.draw import draw
from pipelines.commands.inspect import open_by_name
from pipelines.experiments.arms import Run, arms_of, runs_of, unbound_arms
from pipelines.experiments.cost import cost_of
from pipelines.experiments.each_source import each_source
from pipelines.experiments.pool import prepare
from pipelines.experiments.results import results_in
from pipelines.experiments.runs import train_runs
from pipelines.experiments.study import SIZES, bundled_studies, load_study
from tests.pipelines.experiments.small_study import copy_of, workshop
from trainer_hooks.model_size import parameter_count
from trainer_hooks.plan_checks import findings
from trainer_hooks.resolution import resolve

TEN = (
    "cma", "many-epochs", "meta-rater", "mixture", "optimizers", "replay", "rewarm", "stability-gap", "wrap", "wsd",
)  # fmt: skip
EACH_SIZE = [(name, size) for name in TEN for size in SIZES]
BOUND = {
    "meta-rater": {"learned": "weights:w.json", "score_a": "a", "score_b": "b", "score_c": "c"},
    "mixture": {},
}
SHARES = {"mixture": ("learned.regmix={web: 0.5, books: 0.5}", "learned.olmix={web: 0.4, books: 0.6}")}
TOKENS_A_SECOND = 16_000
"""Training tokens of the 1M preset on two cores, one run on each (batch of 8 sequences of 256 tokens)."""
SOURCES = 5
"""Held-out sources that the estimate counts with."""


def whole(name: str, *overrides: str):
    """A study with everything bound that may be."""
    return load_study(name, (*SHARES.get(name, ()), *overrides), BOUND.get(name, {}))


def test_there_are_ten():
    assert bundled_studies() == sorted(TEN)


@pytest.mark.parametrize(("name", "size"), EACH_SIZE)
def test_every_arm_has_its_control_and_spends_alike(name, size):
    study = whole(name)
    arms = arms_of(study, size)
    for arm in arms.values():
        assert len(arm.seeds) >= 2
        assert arm.shuffled or any(
            other.shuffled
            and other.settings.mixture == arm.settings.mixture
            and other.settings.plan == arm.settings.plan
            for other in arms.values()
        )
        if arm.control is None:
            assert arm.shuffled
        else:
            assert arms[arm.control].seeds[: len(arm.seeds)] == arm.seeds[: len(arms[arm.control].seeds)]
    matched = {arm.tokens for arm in arms.values() if not arm.settings.unmatched}
    assert len(matched) == 1
    assert all(len(arm.settings.unmatched) > 20 for arm in arms.values() if arm.tokens not in matched)


@pytest.mark.parametrize(("name", "size"), EACH_SIZE)
def test_no_plan_has_a_warning_that_matters(name, size):
    study = whole(name)
    compared = {
        (arm, weights)
        for one in study.contrasts.values()
        for arm, weights in ((one.arm, one.weights), (one.against, one.against_weights))
    }
    for arm in arms_of(study, size).values():
        found = findings(
            resolve(arm.settings.plan), model=arm.settings.model, tokenizer_size=study.size(size).vocabulary
        )
        for finding in found:
            # all arms of a study follow the same averages, so that they can share a trunk; what an average that nobody
            # compares runs into is no fault
            idle = [average for average in arm.averages if (arm.name, average) not in compared]
            harmless = any(f"average {average} " in finding.what for average in idle)
            assert finding.severity == "note" or harmless, f"{arm.name}: {finding}"


@pytest.mark.parametrize("name", TEN)
def test_every_contrast_is_trained_at_the_hour_or_bound_to_what_is_brought(name):
    study = load_study(name)
    named = {arm for one in study.contrasts.values() for arm in (one.arm, one.against)}
    by_choice = {arm for arm in named if arm.endswith("_style")} | {"folding.constant"}
    assert named - set(arms_of(study, "hour")) <= {*unbound_arms(study, "hour"), *by_choice}
    assert study.source
    assert study.untested
    assert len(study.expected) > 100


@pytest.mark.parametrize("name", TEN)
def test_the_main_contrast_is_trained_without_binding_anything(name):
    study = load_study(name)
    main = next(iter(study.contrasts.values()))
    for size in SIZES:
        arms = arms_of(study, size)
        assert {main.arm, main.against} <= set(arms)
        assert len(arms[main.arm].seeds) >= (2 if size != "hour" else 3)


@pytest.mark.parametrize("name", TEN)
def test_hour_fits_the_hour_on_two_cores(name):
    study = load_study(name)
    seconds = cost(study, "hour") / TOKENS_A_SECOND
    assert seconds < 50 * 60, f"{seconds / 60:.0f} minutes of training and measuring"


@pytest.mark.parametrize("name", TEN)
def test_minutes_take_a_few_minutes(name):
    assert cost(load_study(name), "minutes") / TOKENS_A_SECOND < 5 * 60


@pytest.mark.parametrize("name", TEN)
def test_gpu_is_a_serious_size(name):
    for arm in arms_of(load_study(name), "gpu").values():
        assert parameter_count(arm.settings.model) >= 110e6
        assert arm.tokens >= 1e9 or arm.settings.unmatched


def cost(study, size: str) -> float:
    """Training tokens that a size comes to, measuring counted at a third of training, and teachers likewise."""
    runs = runs_of(study, arms_of(study, size))
    taught = sum(one.arm.tokens * one.arm.settings.teachers.members for one in runs if one.arm.settings.teachers)
    return cost_of(runs).trained + taught / 3 + sum(measuring(study, size, run) for run in runs)


def measuring(study, size: str, run: Run) -> float:
    measured, plan = study.size(size).measured, resolve(run.arm.settings.plan)
    points = sum(plan.evaluates(step) for step in range(1, plan.steps + 1))
    kinds = len(run.arm.weights)
    ended = measured.tokens * kinds
    along = measured.curve_tokens * (points + kinds)  # averages over a window are there at the end only
    return SOURCES * (ended + along) / 3


# ---- what the mixtures of the studies come to


def pool(sources: Sequence[str], columns: Sequence[str], tokens: int) -> pa.Table:
    """Candidates as a pool has them: pieces of 64 tokens, as many of each source, scored at random."""
    n = tokens // 64
    rng = np.random.default_rng(0)
    names = [sources[i * len(sources) // n] for i in range(n)]
    rows = {
        "digest": rng.permutation(n).astype(np.int64),
        "shard": np.zeros(n, np.int32), "doc": np.arange(n, dtype=np.int32),
        "start": np.arange(n, dtype=np.int64) * 64, "length": np.full(n, 64, np.int32),
        "source": encode_names(pa.chunked_array([pa.array(names)])),
        "rephrased": np.array([name.startswith("synthetic") for name in names]), "inherited": np.zeros(n, bool),
    }  # fmt: skip
    table = pa.table(rows, schema=CANDIDATE_SCHEMA)
    for column in columns:
        table = table.append_column(column, pa.array(rng.random(n).astype(np.float32)))
    return table


def sources_of(study) -> list[str]:
    if "synthetic" in study.roles:
        return ["real/web", *(f"synthetic/wrap/{style}" for style in ("easy", "hard", "medium", "qa"))]
    return [f"{role}/{name}" for role in study.roles for name in ("a", "b")] or ["books", "web"]


@pytest.mark.parametrize("name", TEN)
def test_every_mixture_can_be_read(name):
    study = whole(name, "sizes.minutes.arms=['*']")
    arms = arms_of(study, "minutes")
    tokens = {arm.tokens for arm in arms.values()}
    held = pool(sources_of(study), [*study.columns, "random"], study.size("minutes").pool.tokens or max(tokens))
    for mixture in {arm.settings.mixture.model_dump_json(): arm.settings.mixture for arm in arms.values()}.values():
        budget = max(arm.tokens for arm in arms.values() if arm.settings.mixture == mixture) + 1
        config = each_source(mixture, sources_of(study)).model_copy(update={"tokens": budget})
        allocation = allocate(available(held, config), config)
        visits = draw(held, allocation, seed=3)
        assert sum(visits["length"].to_pylist()) == budget


# ---- each trains, on real pages


ROLES = {
    "wrap": {"real": ("web",), "synthetic": ("wrap",)},
    **{name: {"old": ("web", "handbook"), "new": ("german",)} for name in ("replay", "rewarm", "stability-gap")},
}
COLUMNS = {"cma": {"score": "edu"}, "stability-gap": {"score": "edu"}, "meta-rater": {"score_a": "edu"}}
TINY = 10_240  # tokens: the 80 steps of `minutes`, of two sequences of 64 tokens


def tiny(name: str):
    """A study whose `minutes` are seconds: as many steps, on a sixteenth of the tokens, of a far smaller model."""
    pool = load_study(name).size("minutes").pool
    scaled = {
        key: value * TINY // 163_840 for key in ("tokens", "per_source") if (value := getattr(pool, key)) is not None
    }
    size = "sizes.minutes"
    overrides = [
        f"{size}.vocabulary=384", f"{size}.pool={{longest: 300, {', '.join(f'{k}: {v}' for k, v in scaled.items())}}}",
        f"{size}.model={{hidden: 32, layers: 1, heads: 1, head_size: 32, intermediate: 64}}",
        f"{size}.plan.tokens={TINY}", f"{size}.plan.sequence_length=64", f"{size}.plan.batch_sequences=2",
        f"{size}.measured={{share: 20%, tokens: 1000, curve_tokens: 300}}",
    ]  # fmt: skip
    return load_study(name, tuple(overrides), COLUMNS.get(name, {}))


@pytest.mark.slow
@pytest.mark.parametrize("name", TEN)
def test_every_study_trains_from_its_file(name, study_root, tmp_path):
    root = copy_of(study_root, tmp_path)
    study, shop = tiny(name), workshop(root)
    runs = runs_of(study, arms_of(study, "minutes"))
    documents = [open_by_name(root, one) for one in ("documents", "rephrased")[: 2 if name == "wrap" else 1]]
    data = prepare(shop, documents, study, "minutes", columns={}, roles=ROLES.get(name, {}))
    made = train_runs(shop, f"experiments/{name}-minutes/runs", runs, data, ensembles=study.ensembles)
    results = results_in(made)
    assert set(results) == {run.id for run in runs}
    assert {one.status for one in results.values()} == {"finished"}
    for run in runs:
        kinds = {*run.arm.weights, *(k for k, one in study.ensembles.items() if one.arm == run.arm.name)}
        ended = [set(losses) for losses in results[run.id].losses.values()]
        if run.seed < study.size("minutes").seeds:
            assert all(losses == kinds for losses in ended), (run.id, ended)
