"""Decay shapes against golden values and against their own integrals."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer_hooks.phases import ShapeName
from trainer_hooks.shapes import SHAPES, inverse_sqrt, polynomial

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
    ("mirror_cosine", 0.0, [0.8245, 0.6464, 0.5, 0.3536, 0.1755], 0.5),
    ("mirror_cosine", 1 / 3, [0.8830, 0.7643, 0.6667, 0.5690, 0.4504], 0.6667),
    ("polynomial", 0.0, [0.81, 0.5625, 0.25, 0.0625, 0.01], 0.3333),
    ("polynomial", 1 / 3, [0.8733, 0.7083, 0.5, 0.375, 0.34], 0.5556),
    ("megatron_exponential", 0.0, [0.8661, 0.6818, 0.4142, 0.1892, 0.0718], 0.4427),
    ("megatron_exponential", 1 / 3, [0.9107, 0.7879, 0.6095, 0.4595, 0.3812], 0.6285),
]


@pytest.mark.parametrize(("name", "ratio", "values", "mean"), GOLDEN)
def test_golden_values_and_means(name, ratio, values, mean):
    np.testing.assert_allclose(SHAPES[name].value(R, ratio), values, atol=5e-5)
    assert SHAPES[name].integral(np.array(1.0), ratio) == pytest.approx(mean, abs=5e-5)


def test_the_cooldown_of_infinite_schedules():
    at = np.array([0.1, 0.25, 0.5, 0.75])
    golden = {"cosine": [2.967, 2.802, 2.325, 1.848], "inverse_sqrt": [2.434, 2.100, 1.856, 1.730]}
    for name, values in golden.items():
        np.testing.assert_allclose(3 * SHAPES[name].value(at, 0.55), values, atol=5e-4)
    np.testing.assert_allclose(16.5 * SHAPES["exponential"].value(at[1:], 3 / 16.5), [10.77, 7.036, 4.594], atol=5e-3)


def test_a_plan_can_name_every_shape():
    assert set(get_args(ShapeName)) == set(SHAPES)


any_shape = st.one_of(
    st.sampled_from(sorted(SHAPES)).map(SHAPES.__getitem__),
    st.floats(0.5, 8).map(polynomial),
    st.floats(0.1, 50).map(inverse_sqrt),
)


@given(any_shape, st.floats(0.001, 1))
def test_a_shape_falls_from_1_to_its_ratio_and_its_integral_is_its_own(shape, ratio):
    r = np.linspace(0, 1, 4001)
    values = shape.value(r, ratio)
    assert values[0] == pytest.approx(1)
    assert values[-1] == pytest.approx(ratio)
    assert np.all(np.diff(values) <= 1e-14)
    summed = np.concatenate([[0], np.cumsum((values[1:] + values[:-1]) / 2 / 4000)])
    np.testing.assert_allclose(shape.integral(r, ratio), summed, atol=2e-5)


def test_parameters_generalise_the_plain_shapes():
    r = np.linspace(0, 1, 101)
    np.testing.assert_allclose(polynomial(1.0).value(r, 0.2), SHAPES["linear"].value(r, 0.2), atol=1e-15)
    np.testing.assert_allclose(inverse_sqrt(1e-9).value(r, 0.2), SHAPES["linear"].value(r, 0.2), atol=1e-6)
