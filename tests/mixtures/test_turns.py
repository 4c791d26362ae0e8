"""Turns keep to a moving share as closely as Tijdeman's theorem says, and places invert the integral of a ramp."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtures.ramps import given as given_by
from mixtures.ramps import places
from mixtures.shares import deadline_turns, normalised
from mixtures.turns import turns_of
from tests.curriculum.making import properties

weights = st.lists(st.integers(0, 50), min_size=2, max_size=6).filter(any)


@properties
@given(weights, st.data(), st.integers(0, 60), st.integers(1, 60))
def test_a_ramp_of_turns_strays_less_than_one_from_its_integral_at_every_place(shares, data, ramp, more):
    starts = data.draw(st.lists(st.integers(0, 50), min_size=len(shares), max_size=len(shares)).filter(any))
    a, b = normalised(starts)[0], normalised(shares)[0]
    turns = turns_of(a, b, ramp, ramp + more)
    k = sum(1 for x, y in zip(a, b, strict=True) if y or (ramp and x))
    most = 1 - Fraction(1, 2 * k - 2) if k > 1 else 0
    for i in range(len(shares)):
        for m, taken in enumerate(np.cumsum(turns == i).tolist(), 1):
            assert abs(taken - given_by(m, a[i], b[i], ramp)) <= most
    assert (turns_of(a, b, ramp, ramp + more + 50)[: ramp + more] == turns).all()


def test_without_a_ramp_it_is_the_deadline_rule():
    shares = normalised([0.5, 0.3, 0.2])[0]
    assert turns_of(shares, shares, 0, 10).tolist() == [0, 1, 0, 2, 0, 1, 0, 2, 1, 0]  # the reference's golden
    many = normalised([0.6, 0.3, *[0.01] * 10])[0]
    assert (turns_of(many, many, 0, 300) == deadline_turns(many, 300)).all()


def test_a_long_ramp_over_many_sources():
    """The greedy rule falls behind by more than one here; the deadline rule does not, on a ramp either."""
    a, b = normalised([0.6, 0.3, *[0.01] * 10])[0], normalised([0.05, 0.05, *[0.09] * 10])[0]
    turns = turns_of(a, b, 20_000, 30_000)
    m = np.arange(1.0, 30_001)
    on_ramp = np.minimum(m, 20_000)
    for i in range(12):
        start, share = float(a[i]), float(b[i])
        due = start * on_ramp + (share - start) * on_ramp**2 / 40_000 + share * np.maximum(m - 20_000, 0)
        taken = np.cumsum(turns == i)
        assert np.abs(taken - due).max() <= 1 - 1 / 22 + 1e-9


@properties
@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 500), st.integers(1, 1000))
def test_places_invert_the_integral(start, share, ramp, place):
    line = (Fraction(start, 20), Fraction(share, 20), ramp)
    tokens = given_by(place, *line)
    before = given_by(place - 1, *line)
    if tokens == before:  # where the share is zero nothing is given, and any place would do
        return
    found = places(np.array([float(tokens)]), *line)[0]
    assert found == pytest.approx(place, rel=1e-7)  # where a ramp ends at zero the root keeps half the digits
    assert (np.diff(places(np.linspace(0, float(tokens), 50), *line)) >= 0).all()


def test_the_integral_by_hand():
    half = Fraction(1, 2)
    assert [given_by(m, Fraction(0), half, 4) for m in (0, 2, 4, 6)] == [0, Fraction(1, 4), 1, 2]
    assert given_by(10, half, half, 0) == 5
