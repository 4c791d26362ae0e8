"""Scores on questions: centred accuracy, flips from the control, and their noise."""

import pytest

from corpus.errors import ArtifactError
from pipelines.experiments.analysis.checked import Runs, checked_runs
from pipelines.experiments.analysis.questions import accuracies, centred, item_flips
from pipelines.experiments.results import ItemScore, RunResult
from tests.pipelines.experiments.made_results import made_arms, made_results, made_study

OLD, NEW = "11110100", "11010101"
"""Right answers of the reference's two models: accuracies .625 and .625, one lost and one won of eight."""


def score(answers: str, file: str = "facts.jsonl") -> ItemScore:
    correct = tuple(one == "1" for one in answers)
    return ItemScore(
        file=file, metric="raw", n=len(correct), correct=correct, accuracy=sum(correct) / len(correct), chance=0.25
    )


def answered(changes: dict[str, str] | None = None) -> Runs:
    """The control answers OLD, all others NEW, unless said otherwise by run id."""
    study = made_study()

    def own(run: RunResult) -> str:
        return (changes or {}).get(run.run_id, OLD if run.arm.startswith("shuffled") else NEW)

    results = {name: run.model_copy(update={"items": {"raw": (score(own(run)),)}})
               for name, run in made_results(study, lambda arm, seed, weights: 2.0).items()}  # fmt: skip
    return checked_runs(study, "minutes", made_arms(study), results)


def test_goldens_of_centred_accuracy() -> None:
    assert centred(0.40, 0.25) == pytest.approx(0.20)
    assert centred(0.20, 0.25) == pytest.approx(-0.0667, abs=5e-5)
    assert centred(0.40, None) is None


def test_equal_accuracies_may_hide_changed_answers() -> None:
    flips = next(row for row in item_flips(answered()) if row.arm == "ascending.constant")
    assert (flips.negative, flips.positive) == (0.125, 0.125)
    assert flips.accuracy.mean == pytest.approx(flips.positive - flips.negative)
    assert flips.accuracy.verdict == "not distinguishable"
    assert flips.noise == 0
    assert flips.low is not None
    assert flips.high is not None
    assert flips.low < 0 < flips.high


def test_flips_between_seeds_of_the_control_are_the_noise() -> None:
    runs = answered({"shuffled.constant.s2": "00000100"})
    flips = next(row for row in item_flips(runs) if row.arm == "ascending.constant")
    assert flips.noise == pytest.approx((0 + 0.5 + 0.5) / 3)


def test_every_arm_has_a_row_with_its_item_noise() -> None:
    rows = {row.arm: row for row in accuracies(answered())}
    assert set(rows) == set(made_arms(made_study()))
    one = rows["shuffled.constant"]
    assert one.accuracy.mean == pytest.approx(0.625)
    assert one.centred == pytest.approx(0.5)
    assert one.item_error == pytest.approx((0.625 * 0.375 / 8) ** 0.5)


def test_other_questions_are_refused() -> None:
    with pytest.raises(ArtifactError, match="different questions"):
        accuracies(answered({"ascending.constant.s1": "111"}))
