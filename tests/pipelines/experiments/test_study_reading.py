"""The order of a run: what it reads, in which sequence, and what two runs have in common."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.artifacts import Artifact
from corpus.errors import ConfigError
from corpus.keyed_random import keyed_hashes
from corpus.rank_correlation import spearman
from curriculum.common_prefix import common_tokens
from curriculum.visits import same_visits
from mixtures.config import MixtureConfig
from mixtures.shares import MixtureError
from pipelines.experiments.arms import arms_of
from pipelines.experiments.drawing import arm_mixture, run_candidates
from pipelines.experiments.reading import reading_of, run_policies, write_run_order
from tests.pipelines.experiments.small_study import copy_of, prepared, run_of, small_study
from trainer_hooks.plan import Plan

BASE, EXTRA = small_study().base, small_study().extra
SOURCES = ("german", "handbook", "web")
ORDERS = {
    "shuffled": {},
    "ascending": {"order": {"kind": "sorted", "by": "score"}},
    "descending": {"order": {"kind": "sorted", "by": "-score"}},
    "random": {"order": {"kind": "sorted", "by": "random"}},
    "longest_last": {"order": {"kind": "sorted", "by": "length"}},
    "mixed": {"order": {"kind": "mixed"}},
    "two_phase": {"order": {"kind": "two_phase", "by": "score", "last_tokens": "30%",
                            "last": {"kind": "sorted", "by": "-length"}}},
}  # fmt: skip


@pytest.fixture(scope="module")
def root(study_root, tmp_path_factory):
    return copy_of(study_root, tmp_path_factory.mktemp("reading"))


@pytest.fixture(scope="module")
def study():
    """All orders at a constant rate and under decay, of a pool that is read whole."""
    schedule = {"constant": {}, "decay": small_study().factors["schedule"]["decay"]}
    return small_study("sizes.minutes.plan.tokens=40K", name="orders", factors={"order": ORDERS, "schedule": schedule})


@pytest.fixture(scope="module")
def data(root, study):
    return prepared(root, study)


@pytest.fixture(scope="module")
def written(data, study, tmp_path_factory):
    """A function that gives the order of an arm and a seed, and what it comes to; each written once."""
    folder, kept = tmp_path_factory.mktemp("orders"), {}

    def get(arm, seed=0):
        if (arm, seed) not in kept:
            run = run_of(study, arm, seed)
            order = write_run_order(data, run, folder / run.id)
            kept[arm, seed] = order, reading_of(data, run, order)
        return kept[arm, seed]

    return get


def along(order, data, column):
    """A column of the pool, visit by visit."""
    pool = data.pool_table()
    values = dict(zip(zip(pool["shard"].to_pylist(), pool["doc"].to_pylist(), strict=True), pool[column].to_pylist(),
                      strict=True))  # fmt: skip
    table = order.table()
    return np.array([values[key] for key in zip(table["shard"].to_pylist(), table["doc"].to_pylist(), strict=True)])


def phased(study_name, *phases, order=None, sources=None, tokens="8192"):
    """A study whose mixture has phases: (name, length, sources)."""
    mixture = {
        "sources": sources or {"web": {}, "handbook": {}, "german": {}}, "max_visits": 16,
        "phases": [{"name": name, "tokens": length, "sources": asks} for name, length, asks in phases],
    }  # fmt: skip
    best = {**{name: {} for name in SOURCES}, "web": {"keep": {"by": "score", "top": "50%"}}}
    return small_study(
        f"sizes.minutes.plan.tokens={tokens}", name=study_name, base={**BASE, "mixture": mixture},
        factors={"order": {"shuffled": {}, "own": {"order": order or {"kind": "mixed"}}}},
        extra={"filter_repeat": {"like": "shuffled", "mixture": {"sources": best}}},
        contrasts={"order": {"arm": "own", "against": "shuffled"}},
    )  # fmt: skip


# ---- the orders


@pytest.mark.parametrize("order", [name for name in ORDERS if name != "shuffled"])
def test_every_order_reads_the_visits_of_its_control(written, order):
    control, arm = written("shuffled.constant"), written(f"{order}.constant")
    assert same_visits(control[0].table(), arm[0].table())
    assert control[1].multiset == arm[1].multiset
    assert control[0].fingerprint != arm[0].fingerprint
    assert arm[0].n_tokens == arm[1].tokens + 1
    assert sum(arm[1].tokens_by_source.values()) == arm[1].tokens


def test_policies_put_documents_in_the_order_of_what_they_name(written, data):
    score, length = along(written("ascending.constant")[0], data, "score"), None
    assert (np.diff(score) >= 0).all()
    assert (np.diff(along(written("descending.constant")[0], data, "score")) <= 0).all()
    length = along(written("longest_last.constant")[0], data, "document_tokens")
    assert (np.diff(length) >= 0).all()
    assert len(set(length.tolist())) > 50  # of documents, not of pieces
    for arm, value in (("ascending", 1), ("descending", -1), ("shuffled", 0), ("random", 0)):
        assert written(f"{arm}.constant")[1].spearman == pytest.approx(value, abs=0.001 if value else 0.15)


def test_two_phase_reads_the_best_last_and_its_parts_by_their_own_columns(written, data):
    order = written("two_phase.constant")[0]
    score, length = (along(order, data, name) for name in ("score", "document_tokens"))
    ends = np.cumsum(order.table(["length"])["length"].to_numpy())
    last = ends > 0.7 * ends[-1] + 64
    assert score[last].min() >= score[~last].max() - 0.05
    assert (np.diff(length[last]) <= 0).all()


def test_equal_readings_have_equal_fingerprints_whatever_the_schedule(written):
    for order in ("shuffled", "ascending"):
        assert written(f"{order}.constant")[0].fingerprint == written(f"{order}.decay")[0].fingerprint
        assert written(f"{order}.constant", 1)[0].fingerprint != written(f"{order}.constant")[0].fingerprint


def test_an_order_is_the_same_files_again(written, data, study, tmp_path):
    for arm in ("random.constant", "two_phase.decay"):
        again = write_run_order(data, run_of(study, arm), tmp_path / arm)
        assert again.artifact.manifest == written(arm)[0].artifact.manifest


def test_random_is_another_one_in_each_seed_and_unrelated_to_the_score(data, study):
    pool, arm = data.pool_table(), run_of(study, "random.constant").arm.settings
    columns = [run_candidates(pool, arm, seed)["random"].to_numpy() for seed in range(4)]
    document = pool["document"].to_numpy()
    for values in columns:
        assert 0 <= values.min() < 0.05
        assert 0.95 < values.max() < 1
        assert len(np.unique(values)) == len(np.unique(document))  # one number for all pieces of a document
        assert abs(spearman(values, pool["score"].to_numpy())) < 0.15
        assert abs(spearman(values, pool["document_tokens"].to_numpy())) < 0.15
    for i, j in ((0, 1), (1, 2), (0, 3)):
        assert abs(spearman(columns[i], columns[j])) < 0.15


# ---- mixtures


def test_filter_and_repeat_reads_only_the_best_third_again_and_again(root, data, tmp_path):
    mixture = {"sources": {"*": {"keep": {"by": "score", "top": "33%"}}}, "max_visits": 8}
    study = small_study("sizes.minutes.plan.tokens=40K", name="filtered",
                        extra={"filter_repeat": {"like": "shuffled.decay", "mixture": mixture}})  # fmt: skip
    found = prepared(root, study)
    run = run_of(study, "filter_repeat")
    order = write_run_order(found, run, tmp_path / "order")
    pool, scores = found.pool_table(), along(order, found, "score")
    line = np.argsort(pool["score"].to_numpy())
    share = np.cumsum(pool["length"].to_numpy()[line]) / pool["length"].to_numpy().sum()
    cut = pool["score"].to_numpy()[line][np.searchsorted(share, 0.67)]
    assert scores.min() >= cut - 1e-6
    reading = reading_of(found, run, order)
    kept = pool["length"].to_numpy()[pool["score"].to_numpy() >= cut].sum()
    assert reading.mean_visits == pytest.approx(40_001 / kept, rel=0.02)
    assert reading.mean_visits > 1.5


def test_upsampling_reads_better_documents_more_often(root, tmp_path):
    mixture = {"sources": {"*": {"upsample": {"by": "score", "drop": "40%", "top": 7}}}, "max_visits": 4}
    study = small_study("sizes.minutes.plan.tokens=40K", name="upsampled",
                        extra={**EXTRA, "up": {"like": "shuffled.decay", "mixture": mixture}})  # fmt: skip
    data = prepared(root, study)
    order = write_run_order(data, run_of(study, "up"), tmp_path / "order")
    score, visit = along(order, data, "score"), order.table(["visit"])["visit"].to_numpy()
    dropped = np.quantile(data.pool_table()["score"].to_numpy(), 0.35)
    assert score.min() > dropped
    assert score[visit >= 2].mean() > score[visit == 0].mean() + 0.05


@pytest.mark.parametrize(
    ("mixture", "expected"),
    [
        ({"sources": {"each": {}}, "weighing": "uniform"}, {name: 1 / 3 for name in SOURCES}),
        ({"sources": {"each": {}}, "weighing": "proportional", "temperature": 1}, "natural"),
        ({"sources": {"each": {}}, "weighing": "proportional", "temperature": 1e6}, {name: 1 / 3 for name in SOURCES}),
        ({"sources": {"web": "70%", "each": {"share": "15%"}}}, {"web": 0.7, "german": 0.15, "handbook": 0.15}),
        ({"sources": {"web": "75%", "german": "25%"}, "turns": 64}, {"web": 0.75, "german": 0.25}),
    ],
)  # fmt: skip
def test_shares_are_those_of_the_mixture_to_the_token(root, tmp_path, mixture, expected):
    study = small_study(name="shares", base={**BASE, "mixture": {**mixture, "max_visits": 9}}, extra={},
                        factors={"order": {"shuffled": {}, "mixed": {"order": {"kind": "mixed"}}}},
                        contrasts={"order": {"arm": "mixed", "against": "shuffled"}})  # fmt: skip
    data = prepared(root, study)
    order = write_run_order(data, run_of(study, "mixed"), tmp_path / "order")
    if expected == "natural":
        pool = data.pool_table()
        held = {row["source"]: row["length_sum"]
                for row in pool.group_by("source").aggregate([("length", "sum")]).to_pylist()}  # fmt: skip
        expected = {name: held[name] / sum(held.values()) for name in SOURCES}
    rows = order.table(["source", "length"]).group_by("source").aggregate([("length", "sum")]).to_pylist()
    unit = 64 if "turns" in mixture else 1
    assert {row["source"]: row["length_sum"] for row in rows} == {
        name: pytest.approx(share * order.n_tokens, abs=unit) for name, share in expected.items()
    }


def test_a_role_stands_for_all_its_sources(root, tmp_path):
    roles = {"real": "pages", "synthetic": "rephrased pages"}
    mixture = {"sources": {"real": "60%", "synthetic/*easy": "40%"}, "max_visits": 9}
    study = small_study(name="roles", roles=roles, base={**BASE, "mixture": mixture}, extra={},
                        factors={"order": {"shuffled": {}, "mixed": {"order": {"kind": "mixed"}}}},
                        contrasts={"order": {"arm": "mixed", "against": "shuffled"}})  # fmt: skip
    bound = {"real": ["web", "handbook"], "synthetic": ["wrap"]}
    data = prepared(root, study, documents=("documents", "rephrased"), roles=bound)
    run = run_of(study, "mixed")
    found = reading_of(data, run, write_run_order(data, run, tmp_path / "order")).tokens_by_source
    assert set(found) == {"real/handbook", "real/web", "synthetic/wrap/easy"}
    assert found["synthetic/wrap/easy"] == pytest.approx(0.4 * run.arm.tokens, abs=1)


def test_disjoint_pairing_reads_each_content_in_one_form(root, tmp_path):
    mixture = {"sources": {"web": "50%", "wrap": "50%"}, "max_visits": 16, "pairing": "disjoint"}
    study = small_study(name="disjoint", base={**BASE, "mixture": mixture}, extra={},
                        factors={"order": {"shuffled": {}, "mixed": {"order": {"kind": "mixed"}}}},
                        contrasts={"order": {"arm": "mixed", "against": "shuffled"}})  # fmt: skip
    data = prepared(root, study, documents=("documents", "rephrased"))
    pool = data.pool_table()
    candidates = run_candidates(pool, run_of(study, "mixed").arm.settings, 0)
    left_out = pool.num_rows - candidates.num_rows
    assert left_out == sum(pool["paired"].to_pylist()) > 0
    assert {row for row in pool.filter(pool["paired"])["source"].to_pylist()} == {"web"}
    order = write_run_order(data, run_of(study, "mixed"), tmp_path / "order")
    paired = along(order, data, "paired")
    assert not paired.any()


def test_too_much_rephrased_text_is_refused_unless_it_is_asked_for(root):
    mixture = {"sources": {"wrap": "90%", "web": "10%"}, "max_visits": 16}
    study = small_study(name="synthetic", base={**BASE, "mixture": mixture}, extra={},
                        factors={"order": {"shuffled": {}, "mixed": {"order": {"kind": "mixed"}}}},
                        contrasts={"order": {"arm": "mixed", "against": "shuffled"}})  # fmt: skip
    with pytest.raises(MixtureError, match=r"90.0% of the mixture is rephrased") as caught:
        prepared(root, study, documents=("documents", "rephrased"))
    assert "sizes.minutes.pool" not in str(caught.value)


# ---- phases


FIRST = ("base", "50%", {"web": "50%", "handbook": "50%"})


@pytest.mark.parametrize(
    "order",
    [
        {"kind": "shuffled", "jitter": 2}, {"kind": "mixed"}, {"kind": "sorted", "by": "score"},
        {"kind": "sorted", "by": "random"},
        {"base": {"kind": "shuffled"}, "new": {"kind": "sorted", "by": "score"}}, {"new": {"kind": "mixed"}},
    ],
)  # fmt: skip
def test_runs_that_differ_in_a_later_phase_share_the_first_to_its_last_target(root, tmp_path, order):
    asks = [{"german": "100%"}, {"german": "75%", "web": "25%"}, {"german": {"share": "95%", "max_visits": 16},
            "handbook": "5%"}]  # fmt: skip
    written, found = [], None
    for number, sources in enumerate(asks):
        study = phased("phases", FIRST, ("new", "50%", sources), order=order)
        found = found or prepared(root, study)
        run = run_of(study, "own")
        written.append(write_run_order(found, run, tmp_path / str(number)))
    plan = run.arm.settings.plan
    half = 16 * plan.sequence_length * plan.batch_sequences
    assert 2 * half == run.arm.tokens
    for other in written[1:]:
        assert half + 1 <= common_tokens(written[0], other) < other.n_tokens
    table = written[0].table(["phase", "length"])
    rows = table.group_by("phase").aggregate([("length", "sum")]).to_pylist()
    assert {row["phase"]: row["length_sum"] for row in rows} == {"base": half + 1, "new": half}


def test_each_phase_has_its_own_order(root, tmp_path):
    order = {"base": {"kind": "sorted", "by": "-score"}, "new": {"kind": "sorted", "by": "score"}}
    study = phased("apart", FIRST, ("new", "50%", {"german": "50%", "web": "50%"}), order=order)
    data = prepared(root, study)
    written = write_run_order(data, run_of(study, "own"), tmp_path / "order")
    score = along(written, data, "score")
    first = np.array(written.table(["phase"])["phase"].to_pylist()) == "base"
    assert (np.diff(score[first]) <= 0).all()
    assert (np.diff(score[~first]) >= 0).all()
    assert not first[np.flatnonzero(~first)[0] :].any()


def test_a_phase_without_an_order_is_shuffled_and_an_unknown_one_is_refused():
    study = phased("orders", FIRST, ("new", "50%", {"web": "100%"}))
    order = arms_of(study, "minutes")["own"].settings.order
    found = run_policies({"new": order}, ("base", "new"), 7)
    assert (found["base"].kind, found["new"].kind) == ("shuffled", "mixed")
    assert {policy.seed for policy in found.values()} == {7}
    with pytest.raises(ConfigError, match="there is no phase 'old'"):
        run_policies({"old": order}, ("base", "new"), 7)


@settings(max_examples=25)
@given(st.integers(1, 99), st.integers(20, 400), st.sampled_from([1, 64]))
def test_phases_end_on_the_nearest_step_and_add_up_to_the_plan_and_a_target(percent, steps, turns):
    mixture = {
        "sources": {"web": {}}, "turns": turns if turns > 1 else None,
        "phases": [{"name": "a", "tokens": f"{percent}%", "sources": {"web": 1}},
                   {"name": "b", "tokens": f"{100 - percent}%", "sources": {"web": 1}}],
    }  # fmt: skip
    tokens = steps * 256 + 100  # no whole number of steps
    plan = Plan.model_validate(
        {"tokens": tokens, "sequence_length": 64, "batch_sequences": 4, "peak_lr": 1e-3, "phases": [{"stable": "100%"}],
         "eval_every": "50%", "checkpoint_every": "50%"})  # fmt: skip
    arm = arms_of(small_study(), "minutes")["shuffled.constant"].settings
    made = arm_mixture(arm.model_copy(update={"mixture": MixtureConfig.model_validate(mixture), "plan": plan}), ["web"])
    a, b = (phase.tokens.tokens for phase in made.phases)
    assert a + b == made.tokens == steps * 256 + turns
    assert (a - turns) % 256 == 0
    assert abs(Fraction(percent, 100) * tokens - (a - turns)) <= 128


def test_phases_that_do_not_add_up_to_the_plan_are_refused(root):
    study = phased("sum", ("base", "4K", {"web": "100%"}), ("new", "2K", {"german": "100%"}))
    with pytest.raises(MixtureError, match="the arm shuffled cannot be read: the phases do not add up"):
        prepared(root, study)


# ---- what a reading comes to


def test_rate_mass_of_a_sort_follows_the_schedule(written):
    """Constant after 10 % of warm-up: the tenth read during it gets half; raw weights see the order's place alone."""
    up, down = written("ascending.constant")[1].rate_mass, written("descending.constant")[1].rate_mass
    even = 100 / 9.5
    assert up["raw"][0] == pytest.approx(even / 2, abs=0.2)
    assert up["raw"][1:] == pytest.approx((even,) * 9, abs=0.1)
    assert down["raw"] == pytest.approx(up["raw"][::-1], abs=0.1)
    assert set(up) == {"raw", "sma"}
    assert up["sma"][9] < up["sma"][7] < up["sma"][5]  # the last steps are in few of the averaged checkpoints
    assert written("ascending.decay")[1].rate_mass["raw"][9] < 4
    for reading in (up, down):
        for shares in reading.values():
            assert sum(shares) == pytest.approx(100, abs=1e-4)


def test_tokens_are_counted_within_the_plan_and_distinct_ones_once(written, data):
    order, reading = written("shuffled.constant")
    table = order.table()
    seen = {(shard, at) for shard, start, length in zip(table["shard"].to_pylist(), table["start"].to_pylist(),
            table["length"].to_pylist(), strict=True) for at in range(start, start + length)}  # fmt: skip
    assert reading.mean_visits == pytest.approx(order.n_tokens / len(seen), abs=1e-6)
    sources = [name for name, length in zip(table["source"].to_pylist(), table["length"].to_pylist(), strict=True)
               for _ in range(length)][: reading.tokens]  # fmt: skip
    assert reading.tokens_by_source == {name: sources.count(name) for name in sorted(set(sources))}


def test_an_order_reads_the_tokens_of_its_pieces_and_nothing_held_out(written, data):
    order, arrays = written("mixed.constant")[0], data.token_arrays()
    first = order.table().slice(0, 1).to_pylist()[0]
    assert (order.read(0, first["length"], arrays)
            == arrays[first["shard"]][first["start"] : first["start"] + first["length"]]).all()  # fmt: skip
    held = set(data.heldout_table()["id"].to_pylist())
    docs = [path.with_suffix(".docs.parquet") for item in data.token_artifacts() for path in item.files(".npy")]
    from corpus.shards import read_table

    ids = [read_table(path)["id"].to_pylist() for path in docs]
    table = order.table()
    read = {ids[shard][doc] for shard, doc in zip(table["shard"].to_pylist(), table["doc"].to_pylist(), strict=True)}
    assert not read & held
    assert order.shards == data.shard_names()
    assert keyed_hashes(0, held).size == len(held) > 0


def test_a_study_without_a_score_has_a_reading_without_mass(root, tmp_path):
    study = small_study(name="plain", columns={}, extra={},
                        factors={"order": {"shuffled": {}, "random": ORDERS["random"]}},
                        contrasts={"order": {"arm": "random", "against": "shuffled"}})  # fmt: skip
    data, run = prepared(root, study), run_of(study, "random")
    reading = reading_of(data, run, write_run_order(data, run, tmp_path / "order"))
    assert (reading.spearman, reading.rate_mass) == (None, {})
    assert Artifact(tmp_path / "order").manifest.fingerprint == reading.order
