"""`gradatim plan`: what it draws, what it finds, what it says it cannot show, and when it exits with 1."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from report_workspace import make_workspace
from test_report import Page
from typer.testing import CliRunner

from corpus.errors import ArtifactError, ConfigError
from pipelines.cli import app
from pipelines.commands.plan import check_command
from pipelines.commands.plan_terminal import MARGIN, bands, curve, marks_row, panels
from pipelines.plan_subjects import plan_subjects
from pipelines.run_file import load_run_file
from trainer_hooks.checkpoints import STATE, checkpoint_path
from trainer_hooks.plan_presets import PRESETS
from trainer_hooks.run_identity import check_identity

PLAN: dict[str, Any] = {
    "tokens": 261120,
    "sequence_length": 256,
    "batch_sequences": 4,
    "peak_lr": 0.003,
    "phases": [{"warmup": "5%"}, {"stable": "75%"}, {"decay": "20%", "to": "1/300"}],
    "average": {"ema": {"kind": "ema", "last": 6}, "trail": {"kind": "step_ema", "half_life": "5%"}},
}
RUN: dict[str, Any] = {
    "order": "orders/ascending",
    "heldout": None,
    "model": {"vocabulary": 4096, "hidden": 64, "layers": 2},
    "plan": PLAN,
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("plan") / "demo", pages=90)


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    return write(tmp_path / "climb.yaml")


def write(path: Path, plan: dict[str, Any] | None = None, **changes: Any) -> Path:
    path.write_text(yaml.safe_dump({**RUN, "plan": {**PLAN, **(plan or {})}, **changes}))
    return path


def check(files: list[Path], workspace: Path, capsys: pytest.CaptureFixture[str], **options: Any) -> tuple[int, Any]:
    code = check_command(files, workspace, options.pop("overrides", ()), as_json=True, **options)
    return code, json.loads(capsys.readouterr().out)


def codes(found: dict[str, Any], severity: str | None = None) -> set[str]:
    return {one["code"] for one in found["findings"] if severity in (None, one["severity"])}


def test_a_starved_top_decile_is_told_and_exits_with_0(
    workspace: Path, run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = check([run_file], workspace, capsys)
    assert code == 0, found
    assert "top-decile-mass" in codes(found["climb"], "warning")
    said = next(one for one in found["climb"]["findings"] if one["code"] == "top-decile-mass")
    mass = found["climb"]["mass_by_decile"]
    assert set(mass) == {"raw", "ema", "trail"}
    assert all(sum(shares) == pytest.approx(1) and len(shares) == 10 for shares in mass.values())
    assert f"gets {100 * mass['raw'][-1]:.3g} % of the learning-rate mass, shuffled it would get 10 %" in said["what"]
    assert "at 1/3 of the peak" in said["fix"]


@pytest.mark.parametrize(
    ("plan", "changes", "code"),
    [
        ({"tokens": 6144000}, {}, "order-too-short"),
        ({"phases": [{"warmup": "50%"}, {"decay": "60%", "to": 0}]}, {}, "refused"),
        ({"phases": [{"decay": "100%", "to": 0, "shape": "exponential"}]}, {"x": 1}, "refused"),
        ({"peak_lr": -1}, {}, "refused"),
    ],
)
def test_errors_exit_with_1_and_say_what_to_change(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], plan: dict[str, Any], changes: Any, code: str
) -> None:
    file = write(tmp_path / "bad.yaml", plan, **changes)
    exit_code, found = check([file], workspace, capsys)
    (result,) = found.values()
    assert exit_code == 1
    assert code in codes(result, "error")
    assert check_command([file], workspace, ()) == 1
    assert "not to be trained" in capsys.readouterr().out


def test_overrides_change_the_plan(workspace: Path, run_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, found = check([run_file], workspace, capsys, overrides=("plan.phases.2.to=0.5",))
    assert "top-decile-mass" in codes(found["climb"], "note")


def test_caps_and_tokenizer_come_from_the_workspace(workspace: Path, run_file: Path) -> None:
    (subject,) = plan_subjects([run_file], workspace)
    assert subject.data is not None
    assert set(subject.data.caps) == set(subject.data.sources)
    assert subject.tokenizer_size is None  # this workspace has no tokenizer
    assert not subject.data.turned


def test_what_is_not_made_yet_is_said(workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "later.yaml", order="orders/ascendin")
    code, found = check([file], workspace, capsys)
    assert code == 0, found
    (absent,) = (one for one in found["later"]["findings"] if one["code"] == "no-order")
    assert "there is no order orders/ascendin" in absent["what"]
    assert "orders/ascending" in absent["what"]
    made = write(tmp_path / "own.yaml", order={"visits": "mixture", "policy": {"kind": "shuffled"}})
    result = CliRunner().invoke(app, ["plan", "show", str(made), "-w", str(tmp_path / "nowhere")])
    assert result.exit_code == 0
    assert "learning rate" in result.output
    assert "not shown: the order is not made yet, and there is no mixture" in " ".join(result.output.split())
    assert "Not known yet: the order is not made yet" in (tmp_path / "nowhere/plans/own.html").read_text()


def test_an_artifact_that_is_no_order_is_refused(workspace: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="mixture is not an order"):
        plan_subjects([write(tmp_path / "wrong.yaml", order="mixture")], workspace)


def test_show_draws_here_and_on_a_page(workspace: Path, run_file: Path, tmp_path: Path) -> None:
    page = tmp_path / "plan.html"
    result = CliRunner().invoke(app, ["plan", "show", str(run_file), "-w", str(workspace), "--page", str(page)])
    assert result.exit_code == 0, result.output
    for said in ("261,120 tokens, 255 steps of 1,024", "average trail", "share of each source: a web  b wrap/medium",
                 "best tenth", "shuffled", "decay 1-sqrt"):  # fmt: skip
        assert said in result.output
    shown = Page(page.read_text())
    assert not shown.open
    tags = [tag for tag, _ in shown.tags]
    assert tags.count("svg") >= 2
    assert not set(tags) & {"script", "img", "iframe", "link"}
    assert "of the learning-rate mass, shuffled it would get 10 %" in shown.text
    assert "climb ends at 1/300 of its peak rate and is averaged as ema and trail" in " ".join(shown.text.split())


def test_several_plans_stand_side_by_side(workspace: Path, run_file: Path, tmp_path: Path) -> None:
    mild = write(tmp_path / "mild.yaml", {"phases": [{"warmup": "5%"}, {"stable": "95%"}]}, order="orders/shuffled")
    result = CliRunner().invoke(app, ["plan", "show", str(run_file), str(mild), "-w", str(workspace)])
    assert result.exit_code == 0, result.output
    assert re.search(r"climb +261,120 +0.003 +1e-05 +ema, trail", result.output)
    assert re.search(r"mild +261,120 +0.003 +0.003 +ema, trail", result.output)
    text = " ".join(Page((workspace / "plans/climb-mild.html").read_text()).text.split())
    assert "climb ends at 1/300" in text
    assert "mild holds its peak rate" in text


def test_a_recipe_shows_every_arm(workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = check([Path("demo")], tmp_path, capsys)
    assert code == 0, found
    assert set(found) == {"shuffled", "ascending"}
    assert all("no-order" in codes(each) for each in found.values())
    _, twice = check([Path("demo"), Path("demo")], tmp_path, capsys)
    assert set(twice) == {"demo: shuffled", "demo: ascending"}


def test_a_run_that_has_begun_is_compared(workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = yaml.safe_load((workspace / "runs/ascending/plan.yaml").read_text())
    same = tmp_path / "same.yaml"
    model = {"vocabulary": 4096, "layers": 2}
    same.write_text(yaml.safe_dump({**RUN, "model": model, "plan": kept["resolved"]["plan"]}))
    _, found = check([same], workspace, capsys, run="runs/ascending")
    assert "another-model" in codes(found["same"], "error")
    assert not codes(found["same"]) & {"edited", "edited-past", "another-order"}
    seeded = ("plan.seed=7", "plan.eval_every=0.5")
    code, found = check([same], workspace, capsys, run="ascending", overrides=seeded)
    assert code == 1
    assert {"edited", "edited-past"} <= codes(found["same"])
    with pytest.raises(ArtifactError, match="runs/none is not a run"):
        check([same], workspace, capsys, run="runs/none")
    with pytest.raises(ConfigError, match="one plan"):
        check([same, same], workspace, capsys, run="runs/ascending")


def test_an_edit_of_what_is_to_come_is_acceptable(
    workspace: Path, run_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (subject,) = plan_subjects([run_file], workspace)
    assert subject.order is not None
    folder = workspace / "runs" / "begun"
    folder.mkdir()
    identity = {"resolved": subject.resolved, "model": subject.model, "order": subject.order.manifest.fingerprint}
    check_identity(folder, identity)
    newest = checkpoint_path(folder / "checkpoints", 100)
    newest.mkdir(parents=True)
    (newest / STATE).touch()
    _, found = check([run_file], workspace, capsys, run="begun")
    assert "same-plan" in codes(found["climb"])
    code, found = check([run_file], workspace, capsys, run="begun", overrides=("plan.phases.2.to=0.5",))
    assert code == 0, found
    (said,) = (one["what"] for one in found["climb"]["findings"] if one["code"] == "acceptable")
    assert said == "from 102,400 tokens, where begun is, it may go on under this plan: --accept-changes"
    for stable, decay, refused in ((0.5, 0.45, False), (0.2, 0.75, True)):  # the run is at 39 %
        edits = (f"plan.phases.1.stable={stable}", f"plan.phases.2.decay={decay}")
        code, found = check([run_file], workspace, capsys, run="begun", overrides=edits)
        assert ("past-rates" in codes(found["climb"], "error")) is refused
        assert code == int(refused)


def test_a_model_without_a_vocabulary_takes_the_tokenizers(run_file: Path, tmp_path: Path) -> None:
    from corpus.tokenizer import train_tokenizer

    folder = tmp_path / "w" / "tokenizer"
    folder.mkdir(parents=True)
    train_tokenizer(["a text to learn pieces of words from"] * 4, 280, folder / "tokenizer.json")
    write(run_file, model={"hidden": 64, "layers": 2})
    assert load_run_file(run_file, workspace=tmp_path / "w").model.vocabulary == 320
    with pytest.raises(ConfigError, match="vocabulary"):
        load_run_file(run_file)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_listed_printed_and_checked(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert name in CliRunner().invoke(app, ["plan", "presets"]).output
    printed = CliRunner().invoke(app, ["plan", "presets", name]).output
    assert PRESETS[name].source in printed
    settings = {"preset": name, "sequence_length": 256, "batch_sequences": 4, "peak_lr": 0.003, "tokens": "1M"}
    file = tmp_path / "preset.yaml"
    file.write_text(yaml.safe_dump({**RUN, "plan": settings}))
    code, found = check([file], tmp_path, capsys)
    assert code == 0, found
    assert "no-order" in codes(found["preset"])


@pytest.mark.parametrize("width", [20, 66, 146])
def test_every_line_of_the_drawing_fits_and_needs_no_colour(workspace: Path, run_file: Path, width: int) -> None:
    (subject,) = plan_subjects([run_file], workspace)
    lines = [line.plain for line in panels(subject, width)]
    drawn = [line for line in lines if line[MARGIN - 1 : MARGIN] == "│"]
    assert {len(line) for line in drawn} == {MARGIN + width}
    assert len(drawn) == 6 + 2 * (4 + 1) + 4 + 6 + 1
    assert "a" in "".join(drawn)
    assert not any(line.spans for line in panels(subject, width) if "learning rate" in line.plain)


def test_a_curve_is_drawn_where_its_values_are() -> None:
    rising = [line.plain[MARGIN:] for line in curve(np.linspace(0, 1, 40), 5, (0.0, 1.0))]
    tops = [next(row for row in range(5) if rising[row][column] != " ") for column in range(20)]
    assert tops == sorted(tops, reverse=True)
    assert (tops[0], tops[-1]) == (4, 0)
    gap = [line.plain[MARGIN:] for line in curve(np.array([0.0, 0.0, np.nan, np.nan, 1.0, 1.0]), 2, (0.0, 1.0))]
    assert [row[1] for row in gap] == [" ", " "]


def test_bands_and_weights_are_in_proportion() -> None:
    shares = np.tile([0.25, 0.75], (10, 1))
    drawn = "".join(line.plain[MARGIN:] for line in bands(shares, 8))
    assert (drawn.count("a"), drawn.count("b")) == (20, 60)
    assert next(iter(bands(shares, 8))).plain[MARGIN:] == "b" * 10
    assert marks_row(np.array([50, 100]), np.array([0.25, 0.75]), 100, 10) == "    ▃    █"
