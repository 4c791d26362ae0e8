"""The Gaussian window: goldens of its shape and its feedback, and drawing as a pure function of its state."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curriculum.arrange import arrange
from curriculum.gaussian_window import Window, gain, window_order, window_shares
from curriculum.order import ORDER_SCHEMA, OrderError
from tests.curriculum.making import properties
from tests.curriculum.policy_cases import policy_of, visits_table


def test_golden_shape():
    np.testing.assert_allclose(window_shares(5, 1, 1), [0.2571, 0.4238, 0.2571, 0.0574, 0.0047], atol=5e-5)


@pytest.mark.parametrize(("accuracy", "angle", "moved"), [(1, 0.5, 380.8), (2, 0.5, 761.6), (0.5, 0.3, 37.5)])
def test_golden_feedback(accuracy, angle, moved):
    assert gain(accuracy, angle) == pytest.approx(moved, abs=0.05)


def test_feedback_is_clamped():
    assert gain(0, 0) == 0
    assert gain(2, 10) < 1000
    assert gain(9, 10, step=100) == pytest.approx(200)


@properties
@given(st.integers(1, 400), st.integers(0, 50), st.integers(0, 50), st.integers(0, 99))
def test_draws_do_not_depend_on_how_many_are_made_at_once(ranks, a, b, seed):
    window = Window(ranks, sigma=0.1, seed=seed, centre=ranks / 3)
    first, after = window.draw(a)
    second, end = after.draw(b)
    assert np.array_equal(np.r_[first, second], window.draw(a + b)[0])
    assert end.drawn == a + b
    assert ((first >= 0) & (first < ranks)).all()


def test_draws_have_the_shape():
    drawn, _ = Window(5, sigma=0.2, seed=1, centre=1).draw(40_000)
    np.testing.assert_allclose(np.bincount(drawn, minlength=5) / 40_000, window_shares(5, 1, 1), atol=0.01)


def test_long_lines_are_drawn_in_blocks_of_the_same_shape():
    window = Window(3 * 2**20 + 5, sigma=0.1, centre=2e6)
    drawn, _ = window.draw(20_000)
    assert len(np.unique(drawn % 3)) == 3
    expected = window_shares(1000, 2e6 / window.ranks * 1000, 100)
    bands = np.bincount(drawn * 1000 // window.ranks, minlength=1000)
    assert np.abs(np.cumsum(bands) / 20_000 - np.cumsum(expected)).max() < 0.015


def test_the_window_stays_on_the_line():
    window = Window(10, sigma=0.1).moved(gain(2, 1))
    assert window.centre == 9
    assert window.moved(-100).centre == 0


def test_an_order_of_repeated_visits():
    visits = visits_table(300, scores=np.arange(300))
    ranked = arrange(visits, policy_of("sorted"))
    tokens = 2 * int(np.sum(ranked["length"].to_numpy()))
    order, end = window_order(ranked, tokens, Window(300, sigma=0.1, seed=4))
    again, _ = window_order(ranked, tokens, Window(300, sigma=0.1, seed=4))
    assert order.equals(again)
    assert order.schema.equals(ORDER_SCHEMA)
    lengths = order["length"].to_numpy().astype(int)
    assert lengths.sum() >= tokens > lengths[:-1].sum()
    assert end.centre > 290
    score = order["score"].to_numpy()
    tenth = len(score) // 10
    assert score[:tenth].mean() < 60 < 240 < score[-tenth:].mean()
    seen = {}
    for document, visit in zip(score.tolist(), order["visit"].to_pylist(), strict=True):
        assert visit == seen.get(document, 0)
        seen[document] = visit + 1
    assert max(seen.values()) > 2


@pytest.mark.parametrize("sigma", [0, -1, float("nan")])
def test_a_window_without_a_width(sigma):
    with pytest.raises(OrderError, match=r"sigma above 0(.|\n)*order.sigma"):
        Window(5, sigma=sigma)


def test_a_window_over_another_line():
    ranked = arrange(visits_table(9, scores=np.arange(9)), policy_of("sorted"))
    with pytest.raises(OrderError, match="a window over 9 ranks"):
        window_order(ranked, 10, Window(8, sigma=0.1))
