"""A preset becomes a configuration that can be allocated, and says what it lacks."""

import pytest

from mixtures.allocate import allocate
from mixtures.available import available
from mixtures.preset_mixture import preset_mixture, stability_gap_mixture
from mixtures.presets import PRESETS, preset
from mixtures.shares import MixtureError
from tests.curriculum.making import pool
from tests.mixtures.mixing import allocated, drawn


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_can_be_allocated_and_drawn(name):
    one = preset(name)
    roles = dict.fromkeys(role for phase in one.phases for role in phase.roles)
    shares = {phase.name: dict.fromkeys(phase.roles, 1) for phase in one.phases if phase.shares is None}

    def of(tokens):
        return preset_mixture(one, {role: role for role in roles}, shares=shares, score="edu", tokens=tokens)

    allocation = allocate(dict.fromkeys(roles, (10**6, 10**9)), of(10**9))
    if len(one.phases) > 1:
        assert allocation.phases == tuple(phase.name for phase in one.phases)
    for phase, interval in zip(one.phases, allocation.intervals, strict=True):
        assert abs(interval.tokens - phase.length * 10**9) < 1
        for row in interval.rows:
            if phase.shares:
                assert row.tokens == pytest.approx(float(phase.shares.get(row.component, 0)) * interval.tokens, abs=1)
    table = pool({role: [7, 5, 9] * 200 for role in roles})
    if name == "llama3":  # its annealing is 40M tokens of 15.6T
        with pytest.raises(MixtureError, match="'annealing' holds no tokens"):
            allocated(table, of(4000))
        return
    assert sum(drawn(table, of(4000))[1]["length"].to_pylist()) == 4000


def test_replay_keeps_the_sequence_of_the_old_data():
    config = preset_mixture(preset("replay_weak"), {"new": "german", "old": "english/*"}, tokens=300_000)
    allocation = allocate({"german": (9, 400_000), "english/web": (9, 400_000)}, config)
    assert [(one.name, one.tokens, one.sequence) for one in allocation.components] == [
        ("german", 285_000, "shuffled"), ("english/*", 15_000, "original"),
    ]  # fmt: skip


def test_one_source_may_play_several_roles():
    roles = {"web": "web", "code": "code", "math": "code"}
    config = preset_mixture(preset("smollm3"), roles, tokens=100_000)
    rows = allocate({"web": (9, 90_000), "code": (9, 90_000)}, config).intervals[0].rows
    assert [row.tokens / config_tokens for row, config_tokens in zip(rows, [73_093] * 2, strict=True)] == pytest.approx(
        [0.85, 0.15], abs=1e-4
    )


def test_what_a_preset_lacks_is_said():
    for name, roles, settings, message in (
        ("minicpm", {"pretraining": "web"}, {}, "needs a source for the role 'quality'"),
        ("replay_weak", {"new": "a", "old": "b", "od": "c"}, {}, "no role 'od'; did you mean 'old'"),
        (
            "minicpm",
            {"pretraining": "a", "quality": "b", "instruction": "c"},
            {},
            "'decay' of 'minicpm' are not published",
        ),
        (
            "minicpm",
            {"pretraining": "a", "quality": "b", "instruction": "c"},
            {"shares": {"dcay": {}}},
            "no phase 'dcay'",
        ),
        (
            "minicpm",
            {"pretraining": "a", "quality": "b", "instruction": "c"},
            {"shares": {"decay": {"web": 1}}},
            "'web'",
        ),
        ("filter_repeat", {"any": "a"}, {}, "the score that says"),
    ):
        with pytest.raises(MixtureError, match=message):
            preset_mixture(preset(name), roles, **settings)


def test_the_stability_gap_reads_the_best_tenth_four_times():
    """Its shape in the paper: 82 % of the mixture is the subset, the others keep their shares."""
    table = pool({"medicine": [10] * 1000, "web": [10] * 400, "code": [10] * 400})
    config = stability_gap_mixture("medicine", 10_000, {"web": 0.82, "code": 0.18}, score="edu")
    allocation = allocate(available(table, config), config)
    medicine, code = allocation.components
    assert (medicine.name, code.name) == ("medicine", "code")
    assert medicine.available_tokens == 1000
    assert medicine.epochs == pytest.approx(4, abs=0.01)
    assert code.tokens / allocation.tokens == pytest.approx(0.18, abs=0.001)
