"""Questions: accuracies with what they would be by chance, and the answers that changed from the control to an arm."""

from typing import Any

from pipelines.experiments.analysis.findings import Findings, ItemAccuracy, ItemFlips
from pipelines.report.experiment_forest import tone
from pipelines.report.experiment_numbers import UNKNOWN, difference, outcome, weighted
from pipelines.report.quantities import count, percent, signed
from pipelines.report.workspace import Section


def items_section(findings: Findings) -> Section | None:
    """Accuracies and flips; none where no questions were asked."""
    if not findings.items and not findings.flips:
        return None
    facts = {"rows": [_accuracy(one) for one in findings.items], "flips": [_flips(one) for one in findings.flips]}
    return Section("items", "Questions", "experiment_items.html", facts)


def _accuracy(one: ItemAccuracy) -> dict[str, Any]:
    low, high, mean = one.accuracy.lowest, one.accuracy.highest, one.accuracy.mean
    return {
        "name": weighted(one.arm, one.weights), "file": one.file, "metric": one.metric,
        "questions": count(one.questions), "n": one.accuracy.n, "accuracy": UNKNOWN if mean is None else percent(mean),
        "ranged": UNKNOWN if low is None or high is None else f"{percent(low)} to {percent(high)}",
        "chance": UNKNOWN if one.chance is None else percent(one.chance),
        "centred": UNKNOWN if one.centred is None else signed(one.centred, 3), "error": percent(one.item_error),
    }  # fmt: skip


def _flips(one: ItemFlips) -> dict[str, Any]:
    known = one.low is not None and one.high is not None
    return {
        "name": weighted(one.arm, one.weights), "against": one.against, "file": one.file, "metric": one.metric,
        "shown": difference(one.accuracy), "verdict": outcome(one.accuracy), "tone": tone(one.accuracy),
        "negative": percent(one.negative), "positive": percent(one.positive),
        "asked": f"{signed(100 * (one.low or 0))} to {signed(100 * (one.high or 0))}" if known else UNKNOWN,
        "noise": UNKNOWN if one.noise is None else percent(one.noise),
    }  # fmt: skip
