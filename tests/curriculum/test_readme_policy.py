"""The policy that the README shows is a whole one, and the README lists every kind there is."""

from pathlib import Path

import numpy as np

import curriculum
from curriculum.arrange import arrange
from tests.curriculum.policy_cases import KINDS, visits_table

README = (Path(curriculum.__file__).parent / "README.md").read_text(encoding="utf-8")


def test_the_policy_shown_arranges():
    source = README.split("<!-- policy -->\n```python\n")[1].split("```")[0]
    module: dict = {}
    exec(source, module)
    visits = visits_table(7, scores=np.arange(7))
    order = arrange(visits, module["Inwards"](by="edu"))
    assert order["score"].to_pylist() == [0, 6, 1, 5, 2, 4, 3]
    assert arrange(visits, module["Inwards"](by="edu", within="source", jitter=2)).num_rows == 7


def test_every_kind_is_in_the_table():
    listed = [line.split("`")[1] for line in README.split("## When")[0].splitlines() if line.startswith("| `")]
    assert sorted(listed) == sorted(KINDS)
