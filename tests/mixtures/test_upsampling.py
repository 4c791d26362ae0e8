"""The upsampling curve: the reference's golden values, the integral by quadrature, and the limits."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtures.shares import MixtureError
from mixtures.upsampling import keep_and_repeat, upsampling_curve, weighted_bands
from tests.curriculum.making import properties


def test_golden_curve():
    curve = upsampling_curve(2.5)
    golden = [0] * 8 + [0.67, 1.57, 2.28, 2.92, 3.52, 4.07, 4.61, 5.12, 5.61, 6.08, 6.55, 7.0]
    assert [round(float(factor), 2) for factor in curve.factors] == golden
    assert curve.exponent + 1 == pytest.approx(1.7334, abs=5e-5)
    assert curve.repetition == Fraction(5, 2)


def test_golden_single_factors():
    low, high, least = upsampling_curve(1), upsampling_curve(4), upsampling_curve(0.3)
    assert low.exponent + 1 == pytest.approx(4.951, abs=5e-4)
    assert round(float(low.factors[10]), 2) == 0.02
    assert float(low.factors[-1]) == pytest.approx(7, abs=1e-8)
    assert high.exponent + 1 == pytest.approx(1.0524, abs=5e-5)
    assert round(float(high.factors[8]), 2) == 5.85
    assert least.exponent == 7
    assert round(float(least.factors[-1]), 2) == 3.01


def test_a_repetition_is_possible_up_to_the_limit_of_a_flat_curve():
    assert upsampling_curve(4.2).factors == (Fraction(0),) * 8 + (Fraction(7),) * 12
    with pytest.raises(MixtureError, match="cannot be repeated this often") as caught:
        upsampling_curve(4.21)
    assert "at most 4.2 visits" in str(caught.value)


@properties
@given(
    st.integers(1, 600),
    st.integers(0, 95),
    st.integers(10, 120),
    st.integers(2, 40),
    st.sampled_from([0, 0, Fraction(1, 2), 3, -2]),
)
def test_the_integral_is_the_repetition_and_no_band_is_over_the_top(repetition, start, top, bands, growth):
    asked = {"start": start / 100, "top": top / 10, "bands": bands, "growth": growth}
    wanted, most = Fraction(repetition, 100), Fraction(top, 10)
    reachable = min(Fraction(100 - start, 100), Fraction(1))
    try:
        curve = upsampling_curve(wanted, **asked)
    except MixtureError:
        assert growth or wanted > most * min(reachable, Fraction(1)) or wanted * bands > most
        return
    assert abs(curve.repetition - wanted) <= Fraction(1, 10**9)
    assert max(curve.factors) <= most + Fraction(1, 10**9)
    assert all(low <= high + Fraction(1, 10**9) for low, high in pairwise(curve.factors))
    assert all(not factor for factor, edge in zip(curve.factors, curve.edges[1:], strict=True) if edge <= start / 100)
    if curve.exponent < 7:
        assert float(max(curve.factors)) == pytest.approx(top / 10, abs=1e-6)


@pytest.mark.parametrize(("exponent", "growth"), [(0, 0), (0.73, 0), (2, 1.5), (1, -3), (3.5, 20), (6, -40)])
def test_bands_equal_a_numeric_integral(exponent, growth):
    curve = upsampling_curve(0.5, exponent=exponent, growth=growth, top=20)
    x = (np.arange(2_000_000) + 0.5) / 2_000_000
    y = np.maximum(x - 0.4, 0)
    density = np.where(x > 0.4, y**exponent * np.exp(growth * y), 0)
    expected = density.reshape(20, -1).mean(axis=1) / density.mean() * 0.5
    np.testing.assert_allclose([float(factor) for factor in curve.factors], expected, atol=2e-5)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"repetition": math.nan}, "repetition cannot be used"),
        ({"repetition": -1}, "repetition cannot be used"),
        ({"repetition": 0}, "this curve cannot be used"),
        ({"repetition": 1, "start": 1}, "this curve cannot be used"),
        ({"repetition": 1, "bands": 1}, "this curve cannot be used"),
        ({"repetition": 1, "growth": 101}, "this curve cannot be used"),
        ({"repetition": 1, "exponent": 7.5}, "cannot be repeated this often"),
        ({"repetition": 2.5, "growth": 5}, "use a growth or an exponent nearer to 0"),
    ],
)
def test_curves_that_cannot_be_had(asked, said):
    with pytest.raises(MixtureError, match=said):
        upsampling_curve(**asked)


def test_shares_of_bands_follow_what_they_hold():
    curve = keep_and_repeat(0.25, 4)
    assert curve.edges == (0, Fraction(3, 4), 1)
    assert curve.factors == (0, 4)
    assert curve.repetition == 1
    assert keep_and_repeat(1, 2).factors == (2,)
    assert curve.shares([700, 300]) == [0, 1]
    halves = weighted_bands([50, 30, 20], 1.5)
    assert halves.repetition == Fraction(3, 2)
    assert halves.shares([1, 1, 1]) == [Fraction(1, 5), Fraction(3, 10), Fraction(1, 2)]
    assert sum(upsampling_curve(2).shares(list(range(1, 21)))) == 1


def test_bands_that_cannot_be_used():
    with pytest.raises(MixtureError, match="tokens do not fit the bands"):
        keep_and_repeat(0.5, 2).shares([1])
    with pytest.raises(MixtureError, match="shares of a mixture cannot be used"):
        keep_and_repeat(0.5, 2).shares([1, 0])
    for keep, repeat in ((0, 1), (1.2, 1), (0.5, 0)):
        with pytest.raises(MixtureError, match="keeps nothing"):
            keep_and_repeat(keep, repeat)
    with pytest.raises(MixtureError, match="band 2: -1"):
        weighted_bands([1, -1], 1)
