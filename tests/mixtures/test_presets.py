"""Presets are whole: their phases fill the run, their shares sum to one, and their figures are the published ones."""

from fractions import Fraction

import pytest

from mixtures.presets import PRESETS, preset
from mixtures.shares import MixtureError


@pytest.mark.parametrize("name", PRESETS)
def test_phases_fill_the_run_and_shares_the_phase(name):
    found = preset(name)
    assert found.name == name
    assert found.source
    assert sum(phase.length for phase in found.phases) == 1
    assert len({phase.name for phase in found.phases}) == len(found.phases)
    for phase in found.phases:
        assert phase.length > 0
        assert 0 <= phase.ramp <= phase.length
        assert 0 < phase.keep <= 1
        assert phase.roles
        if phase.shares is not None:
            assert tuple(phase.shares) == phase.roles
            assert sum(phase.shares.values()) == 1
            assert all(share > 0 for share in phase.shares.values())


def test_published_figures():
    smollm3 = [[float(share) for share in phase.shares.values()] for phase in preset("smollm3").phases]
    assert smollm3 == [[0.85, 0.12, 0.03], [0.75, 0.15, 0.10], [0.63, 0.24, 0.13]]
    assert preset("smollm3").phases[-1].length == pytest.approx(0.11, abs=0.001)
    assert preset("minicpm").phases[-1].length == Fraction(1, 10)
    assert preset("minicpm").phases[-1].shares is None
    assert [float(phase.keep) for phase in preset("kaiyuan").phases] == [1, 1, 0.5, 0.3, 0.1]
    assert preset("filter_repeat").phases[0].keep == Fraction(334, 1000)
    assert preset("stability_gap").phases[0].shares["domain"] == Fraction(82, 100)
    assert preset("replay_strong").phases[0].shares["old"] == Fraction(1, 4)
    assert float(preset("olmo3").phases[0].shares["web"]) == pytest.approx(0.761, abs=0.001)


def test_in_kaiyuan_the_top_tenth_is_read_once_a_phase():
    run = preset("kaiyuan").phases
    passes = [phase.length / phase.keep for phase in run]
    assert len(set(passes)) == 1


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(MixtureError, match="did you mean 'smollm3'"):
        preset("smolm3")
