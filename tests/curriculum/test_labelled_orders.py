"""Orders by level and subject, and along a taxonomy: goldens, and what makes each what it is."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from curriculum.arrange import arrange
from curriculum.policies.taxonomy import depth_first
from tests.curriculum.policy_cases import policy_of, visits_table


def labelled(kind, subjects, levels=None, ranks=None, **settings):
    """Names such as `A0` (subject, number in it) in the order of a policy; documents of a subject in order of score."""
    n = len(subjects)
    number = [sum(s == subjects[i] for s in subjects[:i]) for i in range(n)]
    columns = {"edu": np.array(ranks or number, np.float32), "level": np.array(levels or [0] * n, np.int8)}
    visits = visits_table(n, lengths=np.ones(n), doc=np.arange(n, dtype=np.int32), topic=subjects, **columns)
    order = arrange(visits, policy_of(kind, **settings))["doc"].to_pylist()
    return [f"{subjects[doc]}{number[doc]}" for doc in order]


def first_to_turn(subjects, subject):
    """A seed under which a subject's turn comes first."""
    return next(seed for seed in range(99) if labelled("interleave", subjects, seed=seed)[0] == f"{subject}0")


@pytest.mark.parametrize(
    ("kind", "sizes", "golden"),
    [
        ("interleave", (3, 2), "A0 B0 A1 B1 A2"),
        ("interleave_proportional", (6, 2), "A0 A1 B0 A2 A3 A4 B1 A5"),
        ("interleave", (6, 2), "A0 B0 A1 B1 A2 A3 A4 A5"),
        ("blocking", (3, 2), "A0 A1 A2 B0 B1"),
    ],
)
@pytest.mark.parametrize("unit", ["tokens", "documents"])
def test_golden_turns(kind, sizes, golden, unit):
    subjects = ["A"] * sizes[0] + ["B"] * sizes[1]
    assert labelled(kind, subjects, seed=first_to_turn(subjects, "A"), unit=unit) == golden.split()


def test_whose_turn_is_first_follows_the_seed_and_the_name_alone():
    """Neither how many subjects there are nor how they were numbered matters."""
    few, many = ["A", "B"], ["C", "B", "D", "A", "E"]
    for seed in range(10):
        turns = [name for name in labelled("interleave", many, seed=seed) if name in ("A0", "B0")]
        assert turns == labelled("interleave", few, seed=seed)
    assert len({labelled("interleave", few, seed=seed)[0] for seed in range(10)}) == 2


def test_levels_rise_and_each_level_is_mixed():
    rng = np.random.default_rng(0)
    subjects, levels = [["A", "B", "C"][i] for i in rng.integers(0, 3, 120)], rng.integers(0, 4, 120).tolist()
    visits = visits_table(120, topic=subjects, level=np.array(levels, np.int8), edu=rng.random(120).astype(np.float32))
    for kind in ("interleave", "interleave_proportional"):
        scores = arrange(visits, policy_of(kind))["score"].to_pylist()
        assert scores == sorted(levels)
        assert arrange(visits, policy_of(kind, ascending=False))["score"].to_pylist() == sorted(levels, reverse=True)


def test_spiral_passes_through_all_levels_several_times():
    subjects, levels = ["A", "B"] * 24, [0] * 16 + [1] * 16 + [2] * 16
    rows = visits_table(48, topic=subjects, level=np.array(levels, np.int8), edu=np.arange(48, dtype=np.float32))
    got = arrange(rows, policy_of("spiral", passes=4))["score"].to_pylist()
    assert got == ([0] * 4 + [1] * 4 + [2] * 4) * 4
    blocks = arrange(rows, policy_of("blocking"))["score"].to_pylist()
    assert blocks == ([0] * 8 + [1] * 8 + [2] * 8) * 2


def test_spiral_of_groups_that_do_not_divide():
    """Five documents over two passes: ceil(5 / 2) = 3, then 2."""
    assert labelled("spiral", ["A"] * 5, passes=2, levels=[0] * 5) == [f"A{i}" for i in range(5)]
    mixed = labelled("spiral", ["A"] * 5 + ["B"] * 2, passes=2, seed=first_to_turn(["A", "B"], "A"))
    assert mixed == ["A0", "A1", "A2", "B0", "A3", "A4", "B1"]


def test_taxonomy_reads_depth_first_and_siblings_as_they_came():
    paths = ["b/x", "a", "b/y", "b/x", "a/z/q", "b", "a/z", "c"]
    visits = visits_table(8, shard=np.zeros(8, np.int32), doc=np.arange(8, dtype=np.int32), taxonomy_path=paths)
    order = arrange(visits, policy_of("taxonomy_dfs"))["doc"].to_pylist()
    assert [paths[doc] for doc in order] == ["b", "b/x", "b/x", "b/y", "a", "a/z", "a/z/q", "c"]
    assert order == [5, 0, 3, 2, 1, 6, 4, 7]


def test_leaves_stay_together_whatever_the_visits():
    visits = visits_table(90, seed=5)
    order = arrange(visits, policy_of("taxonomy_dfs"))
    path = {
        (s, d): p for s, d, p in zip(*(visits[c].to_pylist() for c in ("shard", "doc", "taxonomy_path")), strict=True)
    }
    read = [path[key] for key in zip(order["shard"].to_pylist(), order["doc"].to_pylist(), strict=True)]
    changes = sum(a != b for a, b in pairwise(read))
    assert changes == len(set(read)) - 1


def test_walk_of_paths():
    assert depth_first({"a.b": 4, "c": 2, "a": 9, "a.a": 3}, ".") == ["c", "a", "a.a", "a.b"]
    assert depth_first({}) == []
    assert depth_first({"": 1, "/": 0}) == ["", "/"]


def test_a_subject_may_be_a_number_and_a_null_one_is_missing():
    clusters = pa.array([3, 7, None, 3], pa.int32())
    visits = visits_table(4, topic=clusters, edu=np.arange(4, dtype=np.float32), level=np.zeros(4, np.int8))
    order = arrange(visits, policy_of("interleave", by="level", missing="first"))
    assert order["rule"].to_pylist()[0].startswith("no score: first")
    assert all(rule.startswith("interleave ascending by level") for rule in order["rule"].to_pylist()[1:])
