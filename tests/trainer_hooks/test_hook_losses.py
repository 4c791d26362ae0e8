"""Losses by source and by quality decile: they add up to the step's loss, whatever the batch is cut into."""

import numpy as np
import pytest
from hook_runs import assert_resumes, steps_of, train_with, with_sources
from hypothesis import given
from hypothesis import strategies as st

from corpus.errors import ConfigError
from trainer_hooks.hooks.quality_loss import decile_borders, deciles
from trainer_hooks.loader import OrderedLoader


@pytest.fixture(scope="module")
def two_sources(workspace, tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    order = with_sources(workspace, folder / "order", ["web", "code"])
    return type(workspace)(folder, order, workspace.arrays, workspace.stream, workspace.heldout)


def shares(order, workspace, step: int) -> dict[str, float]:
    """Each source's share of a step's tokens, counted token by token."""
    ends = np.cumsum(order.table()["length"].to_numpy())
    sources = order.table()["source"].to_pylist()
    names = [sources[int(np.searchsorted(ends, token, side="right"))] for token in range(64 * step, 64 * (step + 1))]
    return {name: names.count(name) / len(names) for name in set(names)}


def test_source_losses_weighted_by_tokens_are_the_loss_of_the_step(two_sources, workspace, tiny, tmp_path):
    run = train_with(two_sources, tiny, tmp_path / "run", ["source_loss"])
    for line in steps_of(run.folder):
        expected = shares(two_sources.order, workspace, line["step"] - 1)
        found = {name: line[f"source_loss/{name}"] for name in expected}
        assert {key for key in line if key.startswith("source_loss/")} == {f"source_loss/{name}" for name in expected}
        assert sum(found[name] * share for name, share in expected.items()) == pytest.approx(line["loss"], rel=1e-6)


def test_a_source_alone_in_a_step_has_its_loss_and_micro_batches_change_nothing(two_sources, tiny, tmp_path):
    one = train_with(two_sources, tiny, tmp_path / "one", [{"kind": "source_loss", "every": 3}])
    two = train_with(two_sources, tiny, tmp_path / "two", [{"kind": "source_loss", "every": 3}], micro_sequences=2)
    logged = [line for line in steps_of(one.folder) if any(key.startswith("source_loss/") for key in line)]
    assert [line["step"] for line in logged] == list(range(3, 25, 3))
    for a, b in zip(steps_of(one.folder), steps_of(two.folder), strict=True):
        assert a.keys() == b.keys()
        assert all(a[key] == pytest.approx(b[key], rel=1e-4) for key in a if key.startswith("source_loss/"))


def test_masked_documents_count_only_what_is_predicted(two_sources, tiny, tmp_path):
    run = train_with(two_sources, tiny, tmp_path / "run", ["source_loss"], document_mask=True)
    loader = OrderedLoader(two_sources.order, two_sources.arrays, 16, 4)
    for line in steps_of(run.folder)[:5]:
        read, predicted = (numbers.numpy().ravel() for numbers in loader.visit_numbers(line["step"] - 1))
        sources = np.array(two_sources.order.table()["source"].to_pylist())[read[read == predicted]]
        total = sum(line[f"source_loss/{name}"] * (sources == name).mean() for name in set(sources))
        assert total == pytest.approx(line["loss"], rel=1e-6)


def test_quality_deciles_cover_the_step_and_survive_a_kill(workspace, tiny, tmp_path):
    run = assert_resumes(workspace, tiny, tmp_path, ["quality_loss", "source_loss"], cuts=(13,))
    found = [{key for key in line if key.startswith("quality_loss/")} for line in steps_of(run.folder)]
    assert found[0] == {"quality_loss/1"}  # scores rise along this order
    assert found[-1] == {"quality_loss/10"}
    assert set().union(*found) == {f"quality_loss/{decile}" for decile in range(1, 11)}


def test_unscored_documents_are_counted_apart_and_an_unscored_order_is_refused(workspace, tiny, tmp_path):
    n = workspace.order.n_visits
    half = [None if i % 2 else i / n for i in range(n)]
    for name, scores in (("half", half), ("none", [None] * n)):
        order = with_sources(workspace, tmp_path / name, ["web", "web"], scores)
        place = type(workspace)(tmp_path, order, workspace.arrays, workspace.stream, workspace.heldout)
        if name == "none":
            with pytest.raises(ConfigError, match="no visit of this order is scored"):
                train_with(place, tiny, tmp_path / "run-none", ["quality_loss"])
        else:
            run = train_with(place, tiny, tmp_path / "run", ["quality_loss"])
            assert any("quality_loss/unscored" in line for line in steps_of(run.folder))


def test_borders_part_equal_lengths_into_tenths_and_equal_scores_stay_together():
    assert decile_borders(np.full(20, 7), np.arange(20.0)).tolist() == [1, 3, 5, 7, 9, 11, 13, 15, 17]
    borders = decile_borders(np.array([1, 8, 1]), np.array([0.0, 1.0, 2.0]))
    assert deciles(np.array([0.0, 1.0, 2.0, np.nan]), borders).tolist() == [0, 1, 9, 10]


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(-5, 5, width=32)), min_size=1, max_size=200))
def test_no_decile_misses_its_tenth_by_more_than_the_documents_at_its_borders(visits):
    lengths, scores = (np.array(column) for column in zip(*visits, strict=True))
    group = deciles(scores, decile_borders(lengths, scores))
    total = lengths.sum()
    at_border = max(lengths[scores == score].sum() for score in set(scores.tolist()))
    for decile in range(10):
        below = lengths[group <= decile].sum()
        assert below >= total * (decile + 1) / 10 - 1e-9
        assert below <= total * (decile + 1) / 10 + at_border
    assert (np.diff(group[np.argsort(scores)]) >= 0).all()
