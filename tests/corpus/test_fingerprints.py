"""Fingerprints are stable, canonical, and refuse what has no identity."""

import subprocess
import sys
from dataclasses import dataclass
from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.config import Config
from corpus.errors import ConfigError
from corpus.fingerprints import canonical, fingerprint

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Point:
    x: float
    y: float


class Model(Config):
    point: tuple[int, ...] = (1, 2)


@given(plain)
def test_key_order_does_not_matter(value):
    def backwards(item):
        if isinstance(item, dict):
            return {key: backwards(item[key]) for key in reversed(list(item))}
        return [backwards(inner) for inner in item] if isinstance(item, list) else item

    assert canonical(value) == canonical(backwards(value))


def test_golden_value_and_equality_across_types():
    assert canonical({"b": 1.0, "a": (True, None)}) == '{"a":[true,null],"b":1}'
    assert fingerprint({"x": 1}) == fingerprint({"x": 1.0})
    assert canonical([Colour.RED, Point(0.5, 2), Model()]) == '["red",{"x":0.5,"y":2},{"point":[1,2]}]'


def test_same_in_another_process_with_another_hash_seed():
    code = "from corpus.fingerprints import fingerprint; print(fingerprint({'b': [1, 'x'], 'a': 0.25}))"
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert runs == {fingerprint({"a": 0.25, "b": [1, "x"]}) + "\n"}


@pytest.mark.parametrize("value", [object(), {1, 2}, float("nan"), float("inf"), lambda: 0, {1: "int key"}, Point])
def test_values_without_identity_are_refused_and_named(value):
    with pytest.raises(ConfigError, match=r"value\.inner\[1\]"):
        fingerprint({"inner": [0, value]})
