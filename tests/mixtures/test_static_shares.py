"""Static policies: the reference's golden values, and the laws they obey for any sources."""

import math
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mixtures.repeats import REPEAT_DECAY, check_epochs, effective_epochs, repeat_reading
from mixtures.shares import MixtureError, largest_remainder
from mixtures.static_shares import (
    bounded,
    capped,
    proportional_shares,
    temperature_shares,
    uniform_shares,
    unimax_tokens,
)
from tests.curriculum.making import properties

TOKENS = {"web": 900, "books": 90, "math": 10}
sizes = st.lists(st.integers(1, 10**6), min_size=1, max_size=7)
parts = st.lists(st.integers(0, 40), min_size=1, max_size=7).filter(any)


def named(values):
    return {f"s{i}": value for i, value in enumerate(values)}


@pytest.mark.parametrize(
    ("temperature", "golden"),
    [
        (1, (0.9, 0.09, 0.01)),
        (2, (0.7034, 0.2224, 0.0741)),
        (5, (0.4908, 0.3097, 0.1995)),
        (math.inf, (1 / 3, 1 / 3, 1 / 3)),
    ],
)
def test_golden_temperature(temperature, golden):
    shares = temperature_shares(TOKENS, temperature)
    assert [float(share) for share in shares.values()] == pytest.approx(golden, abs=5e-5)
    assert sum(shares.values()) == 1


@properties
@given(sizes, st.floats(1.01, 20))
def test_a_temperature_makes_shares_more_even_and_never_turns_them_round(values, temperature):
    tokens = named(values)
    plain, warm = proportional_shares(tokens), temperature_shares(tokens, temperature)
    assert sum(warm.values()) == 1
    for a in tokens:
        assert float(warm[a]) == pytest.approx(
            tokens[a] ** (1 / temperature) / sum(n ** (1 / temperature) for n in values), rel=1e-9
        )
        for b in tokens:
            if tokens[a] < tokens[b]:
                assert plain[a] / plain[b] <= warm[a] / warm[b] <= 1
            if tokens[a] == tokens[b]:
                assert warm[a] == warm[b]


def test_uniform_and_proportional():
    assert uniform_shares(TOKENS) == dict.fromkeys(TOKENS, Fraction(1, 3))
    assert proportional_shares(TOKENS) == {"web": Fraction(9, 10), "books": Fraction(9, 100), "math": Fraction(1, 100)}


def test_golden_unimax():
    assert unimax_tokens(TOKENS, 300, 4) == {"web": 130, "books": 130, "math": 40}
    with pytest.raises(MixtureError, match="too little") as caught:
        unimax_tokens(TOKENS, 5000, 4)
    assert "4,000" in str(caught.value)
    assert "allow 5 visits" in str(caught.value)


@properties
@given(sizes, st.data())
def test_unimax_is_as_even_as_the_caps_allow(values, data):
    tokens = named(values)
    epochs = {name: Fraction(data.draw(st.integers(1, 40)), 10) for name in tokens}
    caps = {name: int(epochs[name] * held) for name, held in tokens.items()}
    budget = data.draw(st.integers(0, sum(caps.values())))
    given_ = unimax_tokens(tokens, budget, epochs)
    assert list(given_) == list(tokens)
    assert sum(given_.values()) == budget
    most = max(given_.values())
    for name, count in given_.items():
        assert 0 <= count <= caps[name]
        assert count == caps[name] or count >= most - 1  # no token can go from a fuller source to an emptier one
    with pytest.raises(MixtureError, match="too little"):
        unimax_tokens(tokens, sum(caps.values()) + 1, epochs)


def test_golden_cap():
    shares = capped({"a": 0.5, "b": 0.3, "c": 0.2}, {"a": 1000, "b": 40, "c": 10}, 500, 4)
    assert shares == {"a": Fraction(60, 100), "b": Fraction(32, 100), "c": Fraction(8, 100)}


@properties
@given(parts, st.integers(1, 3000), st.integers(1, 60), st.data())
def test_a_cap_is_kept_and_sources_below_it_keep_their_proportions(values, budget, tenths, data):
    asked = named(values)
    tokens = {name: data.draw(st.integers(1, 1000)) for name in asked}
    visits = Fraction(tenths, 10)
    if visits * sum(tokens[name] for name in asked if asked[name]) < budget:
        with pytest.raises(MixtureError, match="too little"):
            capped(asked, tokens, budget, visits)
        return
    shares = capped(asked, tokens, budget, visits)
    assert sum(shares.values()) == 1
    scales = set()
    for name, share in shares.items():
        assert share * budget <= visits * tokens[name]
        if share * budget < visits * tokens[name]:
            scales.add(share / asked[name] if asked[name] else None)
    scales.discard(None)
    assert len(scales) <= 1
    for name, share in shares.items():
        if scales and asked[name]:
            assert share <= next(iter(scales)) * asked[name]  # the clipped ones were over


@properties
@given(parts, st.data())
def test_floors_and_ceilings_are_kept_by_one_scale_for_all(values, data):
    asked = named(values)
    hundredths = st.integers(0, 60).map(lambda n: Fraction(n, 100))
    floors = {name: data.draw(hundredths) / 2 for name in asked}
    ceilings = {name: floors[name] + data.draw(hundredths) * 2 for name in asked}
    most = {name: min(Fraction(1), ceilings[name]) if asked[name] else floors[name] for name in asked}
    possible = sum(floors.values()) <= 1 <= sum(most.values())
    if not possible:
        with pytest.raises(MixtureError, match="cannot be kept together"):
            bounded(asked, floors, ceilings)
        return
    shares = bounded(asked, floors, ceilings)
    assert sum(shares.values()) == 1
    assert all(floors[name] <= shares[name] <= most[name] for name in asked)
    read = [name for name in asked if asked[name]]
    for a in read:
        for b in read:  # the scale of one that may rise is no smaller than that of one that may fall
            if shares[a] < most[a] and shares[b] > floors[b]:
                assert shares[a] / asked[a] >= shares[b] / asked[b]


@properties
@given(parts)
def test_without_bounds_shares_stay_and_many_sources_are_no_burden(values):
    asked = named(values)
    assert bounded(asked) == {name: Fraction(value, sum(values)) for name, value in asked.items()}


def test_a_thousand_sources_under_caps():
    asked = {f"s{i}": 1 + i for i in range(1000)}
    tokens = {f"s{i}": 1 + (i * 7919) % 1000 for i in range(1000)}
    shares = capped(asked, tokens, 900_000, 4)
    assert sum(shares.values()) == 1
    assert sum(largest_remainder(list(shares.values()), 900_000)) == 900_000


def test_bounds_that_cannot_be_kept_are_explained():
    with pytest.raises(MixtureError, match="floors cannot") as caught:
        bounded({"a": 1, "b": 1}, floors={"a": 0.6, "b": 0.5})
    assert "1.1: a 0.6, b 0.5" in str(caught.value)
    with pytest.raises(MixtureError, match="ceilings cannot") as caught:
        bounded({"a": 1, "b": 1}, ceilings={"a": 0.3, "b": 0.5})
    assert "0.8: a 0.3, b 0.5" in str(caught.value)
    with pytest.raises(MixtureError, match="'a' cannot have its floor"):
        bounded({"a": 1, "b": 1}, floors={"a": 0.5}, ceilings={"a": 0.4})
    with pytest.raises(MixtureError, match="floors name the source 'bok', which is not there; did you mean 'book'"):
        bounded({"book": 1}, floors={"bok": 0.1})
    with pytest.raises(MixtureError, match=r"ceilings\.a cannot be used"):
        bounded({"a": 1}, ceilings={"a": math.nan})


@pytest.mark.parametrize("temperature", [0, -1, math.nan])
def test_a_temperature_that_cannot_be_used(temperature):
    with pytest.raises(MixtureError, match="temperature"):
        temperature_shares(TOKENS, temperature)


def test_sources_without_tokens_and_unknown_ones_are_named():
    for policy in (proportional_shares, uniform_shares, lambda t: temperature_shares(t, 2)):
        with pytest.raises(MixtureError, match="'b' holds no tokens"):
            policy({"a": 1, "b": 0})
    with pytest.raises(MixtureError, match="there is no source"):
        uniform_shares({})
    with pytest.raises(MixtureError, match="'b' holds no tokens"):
        capped({"a": 1, "b": 1}, {"a": 10, "b": 0}, 5, 4)
    with pytest.raises(MixtureError, match="'c', which is not there"):
        capped({"a": 1, "c": 1}, {"a": 10, "b": 0}, 5, 4)
    with pytest.raises(MixtureError, match="max_visits cannot be used"):
        capped({"a": 1}, {"a": 10}, 5, math.inf)


def test_golden_effective_epochs():
    golden = {2: 1.97, 4: 3.73, 8: 6.62, 16: 10.58, 32: 14.34}
    assert {e: round(effective_epochs(e), 2) for e in golden} == golden
    assert effective_epochs(1e9) == pytest.approx(16.39)
    assert REPEAT_DECAY == 15.39


@properties
@given(st.floats(0, 1000), st.floats(0, 1000))
def test_repeats_are_worth_less_than_fresh_text_and_more_than_nothing(a, b):
    assume(a < b)
    assert effective_epochs(a) <= effective_epochs(b) <= b
    if b <= 1:
        assert effective_epochs(b) == b


def test_both_readings_are_shown_and_many_epochs_refused():
    assert repeat_reading(1) == ""
    assert "3.73" in repeat_reading(4)
    assert "2605.01640" in repeat_reading(4)
    assert check_epochs("math", 4, allow=False) == ""
    assert check_epochs("math", 4.5, allow=False).startswith("math: 4.50 epochs")
    with pytest.raises(MixtureError, match=r"'math' would be read 16\.5 times"):
        check_epochs("math", 16.5, allow=False)
    assert "16.50" in check_epochs("math", 16.5, allow=True)
    with pytest.raises(MixtureError, match="epochs"):
        effective_epochs(math.nan)
