"""Shapes and whole schedules against golden values and against their own integrals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer_hooks.shapes import SHAPES

R = np.array([0.1, 0.25, 0.5, 0.75, 0.9])
GOLDEN = [
    ("linear", 0.0, [0.9, 0.75, 0.5, 0.25, 0.1], 0.5),
    ("1-sqrt", 0.0, [0.6838, 0.5, 0.2929, 0.1340, 0.0513], 0.3333),
    ("cosine", 0.0, [0.9755, 0.8536, 0.5, 0.1464, 0.0245], 0.5),
    ("square", 0.0, [0.99, 0.9375, 0.75, 0.4375, 0.19], 0.6667),
    ("exponential", 0.1, [0.7943, 0.5623, 0.3162, 0.1778, 0.1259], 0.3909),
    ("linear", 1 / 3, [0.9333, 0.8333, 0.6667, 0.5, 0.4], 0.6667),
    ("1-sqrt", 1 / 3, [0.7892, 0.6667, 0.5286, 0.4226, 0.3675], 0.5556),
    ("cosine", 1 / 3, [0.9837, 0.9024, 0.6667, 0.4310, 0.3496], 0.6667),
    ("square", 1 / 3, [0.9933, 0.9583, 0.8333, 0.625, 0.46], 0.7778),
    ("exponential", 1 / 3, [0.8960, 0.7598, 0.5774, 0.4387, 0.3720], 0.6068),
]


@pytest.mark.parametrize(("name", "ratio", "values", "mean"), GOLDEN)
def test_golden_values_and_means(name, ratio, values, mean):
    np.testing.assert_allclose(SHAPES[name].value(R, ratio), values, atol=5e-5)
    assert SHAPES[name].integral(np.array(1.0), ratio) == pytest.approx(mean, abs=5e-5)


@given(st.sampled_from(sorted(SHAPES)), st.floats(0.001, 1))
def test_a_shape_falls_from_1_to_its_ratio_and_its_integral_is_its_own(name, ratio):
    r = np.linspace(0, 1, 4001)
    values = SHAPES[name].value(r, ratio)
    assert values[0] == pytest.approx(1)
    assert values[-1] == pytest.approx(ratio)
    assert np.all(np.diff(values) <= 1e-15)
    summed = np.concatenate([[0], np.cumsum((values[1:] + values[:-1]) / 2 / 4000)])
    np.testing.assert_allclose(SHAPES[name].integral(r, ratio), summed, atol=2e-5)
