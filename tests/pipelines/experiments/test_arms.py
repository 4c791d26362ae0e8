"""Arms out of studies: what they are called and made of, and what no file and no --set can take away."""

import pytest

from corpus.errors import ConfigError
from mixtures.config import MixtureConfig
from pipelines.experiments.arms import arms_of, member_seed, runs_of, unbound_arms
from pipelines.experiments.each_source import each_source
from pipelines.experiments.study import BUNDLED, laid_over, load_study
from tests.pipelines.experiments.small_study import small_study


def refused(*overrides: str, study: str = "cma", size: str = "hour") -> str:
    with pytest.raises(ConfigError) as caught:
        arms_of(load_study(study, overrides), size)
    return caught.value.render()


# ---- what arms are


def test_arms_are_the_product_of_levels_and_the_extra_ones():
    arms = arms_of(small_study(), "minutes")
    assert set(arms) == {
        "shuffled.constant", "shuffled.decay", "ascending.constant", "ascending.decay", "filter_repeat",
    }  # fmt: skip
    assert [arm.control for arm in arms.values()][:2] == [None, None]
    assert arms["ascending.decay"].control == arms["filter_repeat"].control == "shuffled.decay"
    assert arms["ascending.decay"].levels == {"order": "ascending", "schedule": "decay"}
    assert arms["ascending.decay"].weights == ("raw", "sma")
    assert arms["shuffled.constant"].tokens == 4_096


def test_an_arm_differs_from_its_control_in_the_level_alone():
    arms = arms_of(small_study(), "minutes")
    one, control = arms["ascending.decay"].settings, arms["shuffled.decay"].settings
    assert one.model_copy(update={"order": control.order}) == control


def test_seeds_of_members_are_never_those_of_the_study():
    study = load_study("many-epochs")
    runs = runs_of(study, arms_of(study, "hour"))
    assert len({run.id for run in runs}) == len(runs)
    taught = next(i for i, run in enumerate(runs) if run.arm.name == "distilled")
    for seed in range(3):
        for member in range(4):
            name = f"e8.wd_0_8.s{member_seed(seed, member)}"
            assert name in [run.id for run in runs[:taught]]


def test_more_seeds_are_for_arms_that_match():
    arms = arms_of(load_study("cma"), "hour")
    assert arms["ascending.wsd_300"].seeds == (0, 1, 2, 3, 4)
    assert arms["descending.constant"].seeds == (0, 1, 2)


def test_factors_of_several_levels_multiply():
    arms = arms_of(load_study("optimizers"), "hour")
    rates = {name: arm.settings.plan.peak_lr for name, arm in arms.items()}
    assert rates["adamw.peak"] == 2e-3
    assert rates["schedule_free.peak"] == 4e-3
    assert rates["schedule_free.half"] == 2e-3
    assert rates["schedule_free.double"] == 8e-3
    assert arms["schedule_free.peak"].weights == ("raw", "schedule_free")
    epochs = arms_of(load_study("many-epochs"), "hour")
    assert epochs["e2.wd_0_1"].tokens * 4 == epochs["e8.wd_0_1"].tokens == epochs["e16.wd_0_1"].tokens // 2


def test_a_mapping_without_a_kind_holds_for_every_kind():
    below = {"schedule": {"warmup": "5%"}, "optimizer": {"kind": "adamw", "eps": 1}}
    over = laid_over(below, {"schedule": {"kind": "wsd"}, "optimizer": {"kind": "muon"}})
    assert over == {"schedule": {"warmup": "5%", "kind": "wsd"}, "optimizer": {"kind": "muon"}}
    assert laid_over(over, {"schedule": {"kind": "cosine"}})["schedule"] == {"kind": "cosine"}
    assert laid_over(over, {"phases": [1]}) == {"phases": [1], "optimizer": {"kind": "muon"}}


def test_each_stands_for_every_source_that_no_other_key_does():
    asked = MixtureConfig.model_validate(
        {"sources": {"each": {}, "old/*": "20%"}, "weighing": "uniform",
         "phases": [{"name": "all", "tokens": "100%", "sources": {"each": {"weight": 1}}}]}
    )  # fmt: skip
    made = each_source(asked, ["web", "old/web", "books"])
    assert list(made.sources) == ["old/*", "books", "web"]
    assert list(made.phases[0].sources or {}) == ["books", "old/web", "web"]
    assert each_source(made, ["web", "old/web", "books"]) == made


# ---- controls


def test_a_size_that_names_one_arm_gets_all_that_it_needs():
    study = load_study("cma", ("sizes.hour.arms=[ascending.constant, shuffled.wsd_300]", "sizes.hour.more_seeds={}"))
    assert set(arms_of(study, "hour")) == {"ascending.constant", "shuffled.constant", "shuffled.wsd_300", "filter_66"}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("control={}", "without a control a difference says nothing"),
        ("control={order: nothing}", "All arms are compared with it, so it cannot be left out"),
        ("control={ordre: shuffled}", "did you mean 'order'"),
        ("control={order: ascending}", "the same documents shuffled, under the same plan"),
        ("control={schedule: constant}", "the same documents shuffled, under the same plan"),
        ("factors.order.shuffled={order: {kind: sorted, by: score}}", "the same documents shuffled"),
        ("factors.order.ascending.plan={grad_clip: 2}", "the same documents shuffled, under the same plan"),
        ("factors.order.ascending.plan={average: none}", "the same documents shuffled, under the same plan"),
        ("factors.order.ascending={order: {kind: shuffled}}", "is its own control under another name"),
        ("extra={}", "no arm filters by it"),
        ("factors.order.shuffled.mixture={max_visits: 2}", "the same documents shuffled"),
        ("sizes.hour.seeds=1", "greater than or equal to 2"),
    ],
)
def test_no_setting_takes_a_control_away(override, said):
    assert said in refused(override, "sizes.hour.arms=['*.constant', '*.wsd_*']", "sizes.hour.more_seeds={}")


def test_a_level_that_is_gone_is_refused_by_name(tmp_path):
    text = load_text("cma").replace("    shuffled: {order: {kind: shuffled}}\n", "")
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"control\.order: there is no level 'shuffled'"):
        load_study(tmp_path / "mine.yaml")


def test_the_example_of_the_readme_is_a_study(tmp_path):
    text = (BUNDLED.parent / "README.md").read_text(encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(text.split("```yaml\n")[1].split("```")[0])
    arms = arms_of(load_study(tmp_path / "mine.yaml"), "hour")
    assert arms["short_first.decay"].control == "shuffled.decay"
    assert arms["half"].tokens * 2 == arms["short_first.constant"].tokens


def load_text(name: str) -> str:
    return (BUNDLED / f"{name}.yaml").read_text(encoding="utf-8")


def test_the_control_of_an_extra_arm_cannot_be_itself():
    message = refused("extra.filter_33.control=filter_33")
    assert "there is no arm 'filter_33'" in message
    assert "there is an arm of this name already" in refused("extra.real={like: real}", study="wrap")


# ---- spending


def test_arms_spend_alike():
    said = refused("factors.text.both.plan={tokens: 2M}", study="wrap")
    assert "spend differently" in said
    assert "unmatched" in said
    study = load_study("wrap", ("factors.text.both.plan={tokens: 2M}", "factors.text.both.unmatched=it costs nothing"))
    assert arms_of(study, "hour")["both"].settings.unmatched == "it costs nothing"


def test_equal_flops_are_checked_where_a_study_says_so():
    assert "equal flops" in refused("equal=flops", "factors.text.both.model={layers: 6}", study="wrap")


def test_a_study_cannot_be_unmatched_as_a_whole():
    assert "base: unmatched" in refused("base.unmatched=why not")
    everywhere = [f"factors.text.{level}.unmatched=why" for level in ("real", "synthetic", "both", "both_same_unique")]
    assert "nothing says what they spend alike" in refused(*everywhere, study="wrap")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("base.mixture.tokens=1M", "a mixture reads the plan's tokens"),
        ("base.plan.seed=3", "the seed is the run's"),
        ("base.plan.hooks=[{kind: online_mixture, policy: {kind: ado}}]", "no other arm reads the"),
        ("base.order={third: {kind: shuffled}}", "there is no phase 'third'"),
        ("factors.schedule.held.times={tokens: 0}", "times: a factor above 0"),
        ("factors.schedule.held.times={seed: 2}", "times: a factor above 0"),
        ("base.times={tokens: 2}", "only levels have them"),
    ],
)
def test_what_the_harness_decides_is_not_set(override, said):
    assert said in refused(override, study="replay")


# ---- names


def test_a_column_that_the_study_does_not_have_is_refused():
    assert "reads the column 'scroe', which the study cma does not have; did you mean 'score'" in refused(
        "factors.order.ascending.order.by=scroe"
    )
    with pytest.raises(ConfigError, match="reads no column 'scroe'; did you mean 'score'"):
        load_study("cma", (), {"scroe": "prose"})
    assert load_study("wrap", (), {"score": "prose"}).bound == {"score": "prose"}


def test_a_pattern_without_arms_is_refused():
    assert "no arm of the study cma matches 'asending.*'" in refused("sizes.hour.arms=[asending.*]")
    assert "no arm of the study cma matches 'sorted.*'" in refused("sizes.hour.more_seeds={sorted.*: 5}")


def test_contrasts_name_arms_and_weights_that_there_are():
    assert "the arm 'ascending.linear' is not trained" in refused("contrasts.cma.arm=ascending.linear")
    assert "has no weights 'smaa'; did you mean 'sma'" in refused("contrasts.cma.weights=smaa")
    assert "has no weights 'schedule_free'" in refused("contrasts.cma.against_weights=schedule_free")
    assert "compared with itself" in refused("contrasts.cma={arm: shuffled.constant, against: shuffled.constant}")
    assert "ensembles.many: the arm 'e9.wd_0_1' is not trained" in refused(
        "ensembles.many={arm: e9.wd_0_1, members: 2}", study="many-epochs"
    )


# ---- what is to be brought


def test_what_nothing_is_bound_to_is_named_and_not_trained():
    study = load_study("meta-rater")
    assert "learned_weights" not in arms_of(study, "hour")
    said = unbound_arms(study, "hour")
    assert said["learned_weights"].startswith("columns.learned")
    assert "--column learned=COLUMN" in said["learned_weights"]
    bound = load_study("meta-rater", (), {"learned": "weights:w.json"})
    assert "learned_weights" in arms_of(bound, "hour")
    assert "learned_weights" not in unbound_arms(bound, "hour")
    assert "the arm 'score_a' is not trained at this size: columns.score_a" in refused(
        "contrasts={main: {arm: score_a, against: random}}", study="meta-rater"
    )


def test_learned_shares_are_read_from_the_file_that_mix_learn_writes(tmp_path, monkeypatch):
    (tmp_path / "shares.yaml").write_text("# Learned by regmix\nsources: {web: 0.25, books: 0.75}\ntokens: 1000\n")
    study = load_study("mixture", (f"learned.regmix={tmp_path}/shares.yaml",))
    asked = arms_of(study, "hour")["regmix"].settings.mixture.sources
    assert {name: ask.share for name, ask in asked.items()} == {"web": 0.25, "books": 0.75}
    assert list(unbound_arms(study, "hour")) == ["olmix"]
    monkeypatch.chdir(tmp_path)
    assert load_study("mixture", ("learned.regmix=shares.yaml",)) == study
    (tmp_path / "other.yaml").write_text("shares: 3\n")
    with pytest.raises(ConfigError, match="this file holds no shares of sources"):
        load_study("mixture", ("learned.regmix=other.yaml",))
    assert "there are no learned shares 'regmx'; did you mean 'regmix'" in refused(
        "factors.shares.regmix.mixture.sources=regmx", study="mixture"
    )


def test_a_file_names_shares_beside_itself(tmp_path):
    (tmp_path / "shares.yaml").write_text("sources: {web: 1}\n")
    text = load_text("mixture").replace("learned: {regmix: null,", "learned: {regmix: shares.yaml,")
    (tmp_path / "mine.yaml").write_text(text)
    assert load_study(tmp_path / "mine.yaml").learned["regmix"] == {"web": 1}
