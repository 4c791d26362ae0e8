"""Paired differences: goldens of the reference, signs, what is left out, and Holm's correction."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from pipelines.experiments.analysis.differences import Side, difference, holm, interval_text, ranges_text, spread
from pipelines.experiments.analysis.findings import ACCURACY, BITS
from pipelines.experiments.analysis.tables import detectable

values = st.floats(0.5, 5, allow_nan=False)


def test_the_string_form_of_the_reference() -> None:
    uniform = Side("uniform", {0: 0.501, 1: 0.505, 2: 0.509})
    ascend = Side("ascend", {0: 0.506, 1: 0.5084, 2: 0.512})
    assert ranges_text(ACCURACY, ascend, uniform, [0, 1, 2]) == "+0.38 (uniform 50.1-50.9, ascend 50.6-51.2; n = 3 + 3)"


def test_a_lower_loss_and_a_higher_accuracy_are_positive() -> None:
    low, high = Side("low", {0: 0.2, 1: 0.21}), Side("high", {0: 0.5, 1: 0.52})
    assert difference(BITS, low, high).mean == pytest.approx(0.305)
    assert difference(ACCURACY, high, low).mean == pytest.approx(0.305)
    assert difference(BITS, low, high).text == "+0.3050 (high 0.5000-0.5200, low 0.2000-0.2100; n = 2 + 2)"


@pytest.mark.parametrize(("n", "half"), [(3, 2.48), (5, 1.24), (8, 0.84)])
def test_half_widths_of_paired_intervals(n: int, half: float) -> None:
    own = np.random.default_rng(n).normal(size=n)
    own = (own - own.mean()) / own.std(ddof=1)
    found = difference(BITS, Side("a", dict(enumerate(-own))), Side("b", dict.fromkeys(range(n), 0.0)))
    assert found.high is not None
    assert found.high == pytest.approx(half, abs=0.005)


@pytest.mark.parametrize(("n", "half"), [(2, 4.30), (3, 2.27), (5, 1.46), (8, 1.07)])
def test_half_widths_of_unpaired_intervals(n: int, half: float) -> None:
    one = spread({seed: float(seed) for seed in range(n)})
    assert one.sd is not None
    assert detectable(one) == pytest.approx(half * one.sd, abs=0.006 * one.sd)


@given(st.lists(st.tuples(values, values), min_size=2, max_size=8))
def test_a_difference_is_the_paired_t_test(pairs: list[tuple[float, float]]) -> None:
    arm, against = (dict(enumerate(side)) for side in zip(*pairs, strict=True))
    found = difference(BITS, Side("arm", arm), Side("against", against))
    back = difference(BITS, Side("against", against), Side("arm", arm))
    assert found.mean is not None
    assert back.mean is not None
    assert found.p is not None
    assert found.mean == pytest.approx(-back.mean)
    assert found.p == pytest.approx(back.p)
    gained = np.array([b - a for a, b in pairs])
    if gained.std() > 1e-6:
        assert found.p == pytest.approx(ttest_rel(list(against.values()), list(arm.values())).pvalue, abs=1e-9)
        if abs(found.p - 0.05) > 1e-9:
            assert (found.verdict == "not distinguishable") == (found.p > 0.05)


def test_equal_arms_are_not_distinguishable() -> None:
    one = Side("one", {0: 1.0, 1: 1.5})
    found = difference(BITS, one, replace(one, name="other"))
    assert (found.mean, found.low, found.high, found.p) == (0, 0, 0, 1)
    assert found.verdict == "not distinguishable"


def test_a_seed_that_one_side_lacks_is_left_out_and_named() -> None:
    arm = Side("arm", {0: 1.0, 2: 1.1}, {1: "failed: the loss is nan"})
    found = difference(BITS, arm, Side("control", {0: 1.2, 1: 9.0, 2: 1.4, 3: 9.0}))
    assert found.seeds == (0, 2)
    assert found.mean == pytest.approx(0.25)
    assert found.left_out == ("seed 1: arm failed: the loss is nan", "seed 3: arm not planned")


def test_one_pair_or_none_has_no_interval() -> None:
    one = difference(BITS, Side("a", {0: 1.0}), Side("b", {0: 2.0}))
    assert (one.mean, one.low, one.p, one.verdict) == (1, None, None, "unknown")
    assert interval_text(one) == "one pair of runs, so no interval"
    none = difference(BITS, Side("a", {0: 1.0}), Side("b", {1: 2.0}))
    assert none.mean is None
    assert none.text == "no seed has both b and a"


def test_holm_golden() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_no_correction_and_bonferroni(p: list[float]) -> None:
    adjusted = holm(p)
    for one, after in zip(p, adjusted, strict=True):
        assert one <= after <= min(1, len(p) * one) + 1e-12
    order = sorted(range(len(p)), key=lambda i: p[i])
    assert [adjusted[i] for i in order] == sorted(adjusted)
    assert min(adjusted) == pytest.approx(min(1, len(p) * min(p)))
