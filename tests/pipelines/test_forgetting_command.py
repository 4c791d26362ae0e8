"""`gradatim forgetting`: golden values from a file of scores, and the gap between two runs."""

import json

import pytest
from typer.testing import CliRunner

from corpus.errors import GradatimError
from pipelines.cli import app

ROWS = ((0.30, 0.25, 0.20), (0.60, 0.28, 0.22), (0.50, 0.55, 0.26), (0.45, 0.50, 0.50))
TASKS = ("law", "medicine", "code")


def forgetting(*arguments):
    ended = CliRunner().invoke(app, ["forgetting", *map(str, arguments)])
    if isinstance(ended.exception, GradatimError):
        raise ended.exception
    assert ended.exception is None, ended.exception
    return ended.stdout


def write_scores(path, stages=range(4), seeds=(0,)):
    lines = ["stage,evaluation,score,n,seed"]
    for seed in seeds:
        lines += [f"{t},{task},{ROWS[t][i] + seed / 10},100,{seed}" for t in stages for i, task in enumerate(TASKS)]
        lines += [f"{t},gsm8k,{score},100,{seed}" for t, score in ((0, 0.4), (3, 0.02))]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_run(folder, curve):
    folder.mkdir()
    lines = [{"step": t, "tokens": t, "heldout": "web", "weights": "raw", "nats_per_token": nats} for t, nats in curve]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_sequence_is_printed_with_directions_and_the_range_of_seeds(tmp_path):
    path = write_scores(tmp_path / "s.csv", seeds=(0, 1))
    shown = forgetting(path, "--sequence", "law, medicine,code")
    rows = {line.split("  ")[0].strip(): line.split() for line in shown.splitlines()}
    assert rows["forgetting (F)"][-3:] == ["0.1000", "0.1000", "0.1000"]
    assert "lower is better" in " ".join(rows["forgetting (F)"])
    assert rows["overall (OP)"][-3:] == ["0.5333", "0.4833", "0.5833"]
    assert rows["gsm8k: change since the base"][-1] == "-0.3800"
    found = json.loads(forgetting(path, "--sequence", "law,medicine,code", "--json"))
    assert found["seeds"]["0"]["backward_transfer_trace"] == pytest.approx(-0.0667, abs=5e-5)


def test_a_run_is_held_against_the_end_of_its_base(tmp_path):
    base = write_run(tmp_path / "base", [(1, 3.0), (2, 2.48), (3, 2.52), (4, 2.48), (5, 2.52), (6, 2.5)])
    rise = [(1, 0.08), (2, 0.12), (3, 0.09), (4, 0.05), (5, 0.045), (6, 0.02), (8, 0.01), (10, 0.01)]
    run = write_run(tmp_path / "run", [(t, 2.5 + one) for t, one in rise])
    found = json.loads(forgetting(run, "--old", "web", "--base", base, "--json"))
    gap = found["gaps"]["web"]
    assert found["tolerance"]["web"] == pytest.approx(0.04)
    assert (gap["depth"], gap["at"], gap["recovery"]) == (pytest.approx(0.12), 2, 6)
    assert gap["residual"] == pytest.approx(0.01)
    shown = forgetting(run, "--old", "web", "--base", base)
    assert "+0.1200" in shown
    early = write_run(tmp_path / "early", [(t, 2.5 + one) for t, one in rise[:4]])
    assert "not recovered" in forgetting(early, "--old", "web", "--base", base)


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(GradatimError, match="without the base row"):
        forgetting(write_scores(tmp_path / "s.csv", stages=range(1, 4)), "--sequence", "law,medicine,code")
    with pytest.raises(GradatimError, match="the order of the stages"):
        forgetting(write_scores(tmp_path / "s.csv"))
    run = write_run(tmp_path / "run", [(1, 2.5)])
    with pytest.raises(GradatimError, match="what the model knew before"):
        forgetting(run, "--old", "web")
    with pytest.raises(GradatimError, match="no loss was measured on books"):
        forgetting(run, "--old", "books", "--base", run)
