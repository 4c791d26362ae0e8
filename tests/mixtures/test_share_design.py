"""Designs grow without changing what was there, and runs join by id: nothing missing becomes a number."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.errors import ConfigError, InputError
from mixtures.share_design import Design, DesignSettings, draw_design
from mixtures.share_runs import join_runs, run_table
from tests.curriculum.making import properties


def rows_by_id(design):
    return {row.run_id: row for row in design.rows}


@properties
@given(st.integers(2, 30), st.integers(0, 40), st.integers(0, 40), st.booleans(), st.integers(0, 2**32 - 1))
def test_a_larger_design_holds_the_smaller_one(n_shares, runs, more, vertices, seed):
    small = draw_design(n_shares, DesignSettings(runs=runs, repeats=2, seed=seed))
    large = draw_design(n_shares, DesignSettings(runs=runs + more, vertices=vertices, repeats=3, seed=seed))
    held = rows_by_id(large)
    assert all(held[row.run_id] == row for row in small.rows)
    np.testing.assert_allclose(large.shares.sum(axis=1), 1, atol=1e-12)
    assert large.shares.min() >= 0


def test_kinds_names_strata_and_training_seeds():
    design = draw_design(3, DesignSettings(runs=6, strata=(0.1, 1.0), vertices=True, repeats=3, seed=5))
    assert [row.run_id for row in design.rows] == [
        *("d000", "d001", "d002", "d003", "d004", "d005", "v00", "v01", "v02", "u00", "u01", "u02")
    ]
    assert [row.alpha for row in design.rows] == [0.1, 1.0, 0.1, 1.0, 0.1, 1.0, *[None] * 6]
    assert [row.seed for row in design.rows] == [*[5] * 9, 5, 6, 7]
    assert design.shares[6:9].tolist() == np.eye(3).tolist()
    assert design.shares[9:].tolist() == [[1 / 3] * 3] * 3


def test_effective_shares_of_the_strata_have_the_scale_of_the_reference():
    """For Dirichlet(a) over 25, 1 / E(sum of squares) is (25 a + 1) / (a + 1)."""
    design = draw_design(25, DesignSettings(runs=6000, strata=(0.1, 0.3, 1.0), repeats=0))
    for stratum, alpha in enumerate((0.1, 0.3, 1.0)):
        squares = np.mean(np.sum(design.shares[stratum::3] ** 2, axis=1))
        assert 1 / squares == pytest.approx((25 * alpha + 1) / (alpha + 1), rel=0.05)


def test_the_hash_is_of_the_rows():
    settings = DesignSettings(runs=4)
    first = draw_design(3, settings)
    assert first.hash == draw_design(3, settings).hash
    assert first.hash != draw_design(3, DesignSettings(runs=4, seed=1)).hash
    assert Design.model_validate_json(first.model_dump_json()).hash == first.hash


def test_settings_that_ask_for_nothing():
    with pytest.raises(ConfigError, match="no runs"):
        draw_design(3, DesignSettings(runs=0, repeats=0))
    with pytest.raises(ConfigError, match="fewer than two"):
        draw_design(1, DesignSettings())


def test_missing_and_failed_runs_are_named_and_never_zero():
    design = draw_design(3, DesignSettings(runs=5, repeats=1))
    results = {"d000": 2.0, "d001": "out of memory", "d002": None, "d003": float("nan"), "u00": np.float32(2.5)}
    table = join_runs(design, results)
    assert table.run_ids == ("d000", "u00")
    assert table.losses.tolist() == [2.0, 2.5]
    assert table.is_repeat.tolist() == [False, True]
    assert table.design_hash == design.hash
    assert table.failed == {
        **{"d001": "out of memory", "d002": "no loss", "d003": "its loss is nan", "d004": "no result"}
    }
    assert table.shares.tolist() == design.shares[[0, 5]].tolist()


def test_results_of_another_design_are_refused():
    design = draw_design(3, DesignSettings(runs=5))
    with pytest.raises(InputError, match="did you mean 'd001'"):
        join_runs(design, {"d01": 2.0})
    with pytest.raises(InputError, match="no run has a loss") as caught:
        join_runs(design, {row.run_id: "out of memory" for row in design.rows})
    assert "9 times 'out of memory'" in str(caught.value)


@properties
@given(st.randoms(use_true_random=False))
def test_the_order_of_results_changes_nothing(random):
    design = draw_design(4, DesignSettings(runs=8))
    results = [(row.run_id, float(i)) for i, row in enumerate(design.rows)]
    table = join_runs(design, dict(results))
    random.shuffle(results)
    assert join_runs(design, dict(results)).hash == table.hash


def test_a_run_table_checks_its_columns():
    halves = [[0.5, 0.5], [0.4, 0.6]]
    assert run_table(["b", "a"], [[0.5, 0.503], [0.4, 0.6]], [1.0, 2.0]).run_ids == ("a", "b")
    np.testing.assert_allclose(run_table(["b"], [[0.5, 0.503]], [1.0]).shares.sum(), 1)
    with pytest.raises(InputError, match="more than once"):
        run_table(["a", "a"], halves, [1.0, 2.0])
    with pytest.raises(InputError, match="loss of run 'b' is inf"):
        run_table(["a", "b"], halves, [1.0, np.inf])
    with pytest.raises(InputError, match="do not belong together"):
        run_table(["a", "b"], halves, [1.0])
    for row in ([0.5, 0.6], [-0.1, 1.1], [np.nan, 1.0]):
        with pytest.raises(InputError, match="no share vector"):
            run_table(["a"], [row], [1.0])
