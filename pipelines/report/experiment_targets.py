"""How soon an arm has its control's final loss: tokens, the share of the control's tokens, and AlgoPerf's score."""

from typing import Any

from pipelines.experiments.analysis.findings import Findings, TimeToTarget
from pipelines.report.experiment_numbers import weighted
from pipelines.report.figure import short_count
from pipelines.report.quantities import percent
from pipelines.report.workspace import Section

MISSED = "not reached"


def targets_section(findings: Findings) -> Section | None:
    """Times and profile scores; none where there are no curves."""
    if not findings.times and not findings.profile:
        return None
    facts = {
        "times": [_time(one) for one in findings.times if _main(findings, one)],
        "others": [_time(one) for one in findings.times if not _main(findings, one)],
        "profile": [
            {
                "name": weighted(one.arm, one.weights), "score": f"{one.score:.3f}", "width": round(100 * one.score, 1),
                "ratios": ", ".join(f"{name} {MISSED if value is None else f'{value:.2f}'}"
                                    for name, value in one.ratios.items()),
            }
            for one in findings.profile
        ],
    }  # fmt: skip
    return Section("targets", "How soon it is there", "experiment_targets.html", facts)


def _main(findings: Findings, one: TimeToTarget) -> bool:
    """Whether an arm is held against its control under the same weights, or an average against its own raw weights."""
    same = one.control == findings.arm(one.arm).control and one.control_weights == one.weights
    return same or one.control == one.arm


def _time(one: TimeToTarget) -> dict[str, Any]:
    return {
        "name": weighted(one.arm, one.weights), "control": weighted(one.control, one.control_weights),
        "tokens": MISSED if one.median_tokens is None else short_count(round(one.median_tokens)),
        "share": MISSED if one.median_share is None else percent(one.median_share),
        "each": ", ".join(MISSED if share is None else percent(share) for share in one.share),
        "reached": f"{one.reached} of {len(one.seeds)}",
    }  # fmt: skip
