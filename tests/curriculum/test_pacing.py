"""Pacing functions and schedules against the reference's tables."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.errors import ConfigError
from curriculum.pacing import cubic_decay, pacing, sequence_length
from tests.curriculum.making import properties

TAU = np.array([0, 0.25, 0.5, 0.75, 1])


@pytest.mark.parametrize(
    ("kind", "shares"),
    [
        ("linear", (0.1, 0.325, 0.55, 0.775, 1)),
        ("root2", (0.1, 0.5074, 0.7106, 0.8675, 1)),
        ("root3", (0.1, 0.6306, 0.7940, 0.9087, 1)),
        ("quadratic", (0, 0.0625, 0.25, 0.5625, 1)),
        ("inverse_quadratic", (0, 0.4375, 0.75, 0.9375, 1)),
    ],
)
def test_golden_shares(kind, shares):
    np.testing.assert_allclose(pacing(kind, 0.1).share(TAU), shares, atol=5e-5)


@properties
@given(st.sampled_from(["linear", "root2", "root3", "quadratic", "inverse_quadratic"]), st.floats(0, 1))
def test_pools_grow_to_everything(kind, initial):
    shares = pacing(kind, initial).share(np.linspace(0, 1, 101))
    assert (np.diff(shares) >= -1e-12).all()
    assert shares[-1] == pytest.approx(1)
    assert shares[0] == pytest.approx(0 if "quadratic" in kind else initial, abs=1e-12)


def test_golden_cubic_decay():
    np.testing.assert_allclose(cubic_decay(TAU, 1.0, 0.0), [1, 0.4219, 0.125, 0.0156, 0], atol=5e-5)
    np.testing.assert_allclose(cubic_decay(TAU, 5.0, 3.0), 3 + 2 * cubic_decay(TAU, 1.0, 0.0))


@pytest.mark.parametrize(
    ("root", "lengths"), [(1, (64, 160, 304, 544, 784, 1024)), (2, (64, 360, 544, 736, 888, 1024))]
)
def test_golden_sequence_lengths(root, lengths):
    made = [sequence_length(t, 100, shortest=64, longest=1024, step=8, root=root) for t in (0, 10, 25, 50, 75, 100)]
    assert tuple(made) == lengths
    assert sequence_length(10**13, 100, shortest=64, longest=1024, step=8, root=root) == 1024


@properties
@given(st.integers(0, 1000), st.integers(1, 3), st.integers(1, 40), st.integers(1, 16), st.integers(0, 30))
def test_lengths_are_the_largest_multiple_reached(tokens, root, shortest, step, more):
    """floor of the exact value, then down to a multiple: by definition, in exact fractions."""
    longest = (-(-shortest // step) + more) * step
    got = sequence_length(tokens, 1000, shortest=shortest, longest=longest, step=step, root=root)
    assert got == shortest or got % step == 0
    assert shortest <= got <= longest

    def reached(length):
        return Fraction(length - shortest, max(longest - shortest, 1)) ** root <= Fraction(tokens, 1000)

    assert reached(got)
    assert got == longest or not reached(max(got // step * step + step, shortest))


def test_settings_that_make_no_schedule():
    with pytest.raises(ConfigError, match=r"longest a multiple of step(.|\n)*longest 1000, step 64"):
        sequence_length(0, 1, shortest=64, longest=1000, step=64)
