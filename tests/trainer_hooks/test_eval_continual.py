"""Continual-learning metrics and loss gaps: golden values, laws on random matrices, refusals."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from corpus.errors import ConfigError, InputError
from trainer_hooks.evals.continual import (
    continual_metrics,
    fuar,
    intransigence,
    read_stage_scores,
    sequence_metrics,
)
from trainer_hooks.evals.loss_gaps import (
    heldout_curve,
    loss_gap,
    recovery_tolerance,
    share_of_forgetting_removed,
)

GOLDEN = np.array([(0.30, 0.25, 0.20), (0.60, 0.28, 0.22), (0.50, 0.55, 0.26), (0.45, 0.50, 0.50)])


def test_the_golden_sequence():
    found = sequence_metrics(GOLDEN)
    assert found.overall == pytest.approx(0.4833, abs=5e-5)
    assert found.forgetting == pytest.approx(0.10)
    assert found.backward_transfer == pytest.approx(-0.10)
    assert found.backward_transfer_trace == pytest.approx(-0.0667, abs=5e-5)
    assert found.forward_transfer == pytest.approx(0.045)
    assert found.learning_accuracy == pytest.approx(0.55)
    peak = GOLDEN.copy()
    peak[2, 0] = 0.65  # the peak counts for forgetting only
    assert sequence_metrics(peak).forgetting == pytest.approx(0.125)
    assert sequence_metrics(peak).backward_transfer == pytest.approx(-0.10)


@given(st.integers(2, 6).flatmap(lambda t: arrays(np.float64, (t + 1, t), elements=st.floats(0, 1))))
def test_forgetting_is_at_least_the_backward_transfer_lost(a):
    found = sequence_metrics(a)
    assert found.forgetting >= -found.backward_transfer - 1e-12
    stages = a.shape[1]
    assert found.backward_transfer_trace * stages == pytest.approx(found.backward_transfer * (stages - 1), abs=1e-12)


def test_one_stage_forgets_nothing_that_is_known():
    found = sequence_metrics(np.array([[0.2], [0.6]]))
    assert (found.overall, found.forgetting, found.backward_transfer, found.forward_transfer) == (0.6, None, None, None)


def test_other_forms():
    assert intransigence([0.7, 0.6], [0.6, 0.65]) == pytest.approx([0.1, -0.05])
    assert fuar([(0.5, 0.4), (0.3, 0.35)], [(0.2, 0.3)], (0.0, 0.1)) == pytest.approx(0.5)
    assert fuar([(0.5, 0.4)], [(0.3, 0.3)], (0.1, 0.1)) is None


def rows(seed=0, shift=0.0):
    tasks = ("law", "medicine", "code")
    found = [(t, task, GOLDEN[t, i] + shift, 100, seed) for t in range(4) for i, task in enumerate(tasks)]
    return [*found, (0, "gsm8k", 0.40, 100, seed), (3, "gsm8k", 0.02, 100, seed)]


def write(path, rows, header="stage,evaluation,score,n,seed"):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def test_a_file_of_scores_gives_metrics_by_seed_with_what_lies_outside(tmp_path):
    scores = read_stage_scores(write(tmp_path / "s.csv", rows() + rows(1, 0.1)))
    found = continual_metrics(scores, ["law", "medicine", "code"])
    assert found[0].forgetting == pytest.approx(0.10)
    assert found[1].overall == pytest.approx(0.5833, abs=5e-5)
    assert found[0].outside == {"gsm8k": pytest.approx(-0.38)}


def test_a_missing_base_row_is_refused(tmp_path):
    scores = read_stage_scores(write(tmp_path / "s.csv", [row for row in rows() if row[0] > 0]))
    with pytest.raises(InputError, match="'law' at stage 0 is missing; without the base row"):
        continual_metrics(scores, ["law", "medicine", "code"])
    scores = read_stage_scores(write(tmp_path / "s.csv", [row for row in rows() if row[:2] != (0, "gsm8k")]))
    with pytest.raises(InputError, match="'gsm8k' at stage 0 is missing"):
        continual_metrics(scores, ["law", "medicine", "code"])
    with pytest.raises(InputError, match="did you mean 'medicine'"):
        continual_metrics(read_stage_scores(write(tmp_path / "s.csv", rows())), ["law", "medecine", "code"])
    with pytest.raises(InputError, match="do not make a sequence"):
        sequence_metrics(GOLDEN[1:])


BAD_ROWS = [("x", "law", 0.5, 1, 0), (1, "law", "nan", 1, 0), (-1, "law", 0.5, 1, 0), (1, "law", "", 1, 0)]


@pytest.mark.parametrize("row", BAD_ROWS, ids=str)
def test_a_row_that_is_no_score_is_named(tmp_path, row):
    with pytest.raises(InputError, match="line 3"):
        read_stage_scores(write(tmp_path / "s.csv", [(0, "law", 0.5, 10, 0), row]))


def test_files_that_are_no_scores_are_refused(tmp_path):
    with pytest.raises(InputError, match="twice"):
        read_stage_scores(write(tmp_path / "s.csv", [(0, "law", 0.5, 10, 0)] * 2))
    with pytest.raises(InputError, match="no column score"):
        read_stage_scores(write(tmp_path / "s.csv", [], header="stage,evaluation"))
    with pytest.raises(InputError, match="cannot read"):
        read_stage_scores(tmp_path / "none.csv")


def test_the_golden_gap():
    tokens, rise = [0, 1, 2, 3, 4, 5, 6, 8, 10], [0, 0.08, 0.12, 0.09, 0.05, 0.03, 0.02, 0.01, 0.01]
    found = loss_gap(tokens, [2.5 + one for one in rise], base=2.5, tolerance=0.02 + 1e-9)
    assert (found.depth, found.at, found.recovery) == (pytest.approx(0.12), 2, 6)
    assert (found.area, found.residual) == (pytest.approx(0.43), pytest.approx(0.01))
    assert loss_gap(tokens[:5], [2.5 + one for one in rise[:5]], 2.5, 0.02).recovery is None
    without_start = loss_gap(tokens[1:], [2.5 + one for one in rise[1:]], 2.5, 0.02 + 1e-9)
    assert without_start == found


def test_what_is_learnt_meanwhile_does_not_pay_for_what_is_forgotten():
    found = loss_gap([0, 1, 2, 3], [2.0, 2.5, 1.0, 1.0], 2.0, 0.0)
    assert found.area == pytest.approx(0.5)
    assert found.residual == -1.0


def test_tolerance_share_and_refusals():
    assert recovery_tolerance([2.0, 2.1, 2.2]) == pytest.approx(0.2)
    assert share_of_forgetting_removed(2.6, 2.53, 2.5) == pytest.approx(0.7)
    with pytest.raises(ConfigError, match="nothing was forgotten"):
        share_of_forgetting_removed(2.4, 2.4, 2.5)
    with pytest.raises(ConfigError, match="at least two checkpoints"):
        recovery_tolerance([2.0])
    with pytest.raises(ConfigError, match="no curve"):
        loss_gap([1, 1], [2.0, 2.0], 2.0, 0.0)


def test_a_curve_comes_from_the_metrics_of_a_run(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [{"step": 1, "tokens": 64, "loss": 5.0}]
    for step, (raw, ema) in enumerate([(3.0, 3.1), (2.9, 3.0)], start=1):
        for weights, nats in (("raw", raw), ("ema", ema)):
            lines.append(
                {"step": step, "tokens": 64 * step, "heldout": "web", "weights": weights, "nats_per_token": nats}
            )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    tokens, losses = heldout_curve(path, "web", "ema")
    assert (tokens.tolist(), losses.tolist()) == ([64.0, 128.0], [3.1, 3.0])
    with pytest.raises(InputError, match="no loss was measured on books with raw weights"):
        heldout_curve(path, "books")
