"""The table of a study: each arm under each kind of weights, with its range, its runs, and what it gains."""

from typing import Any

from pipelines.experiments.analysis.findings import ArmFinding, Comparison, Findings, SetLosses
from pipelines.report.experiment_forest import Row, drawn, scale_of, tone
from pipelines.report.experiment_numbers import difference, loss, outcome, ranged, seed_gains, weighted
from pipelines.report.experiment_strips import Scale, axis
from pipelines.report.quantities import percent
from pipelines.report.workspace import Section

SAME, CONTROL, AVERAGING = "same weights", "raw control", "averaging"


def arms_section(findings: Findings) -> Section:
    """All arms; those without a finished run say so."""
    shown = {key: _row(findings, one) for key, one in _main(findings).items()}
    scale = scale_of(list(shown.values()))
    facts = {
        "arms": [
            {
                "name": arm.name, "control": arm.control, "n": len(arm.finished), "planned": len(arm.planned),
                "unmatched": arm.unmatched, "end": rate(arm.end_ratio), "mean_rate": percent(arm.mean_rate),
                "rows": [_facts(findings, arm, one, scale) for one in arm.losses if one.kind == "target"],
                "others": [_said(one) for one in findings.comparisons
                           if one.arm == arm.name and one.kind not in (SAME, AVERAGING)],
            }
            for arm in findings.arms
        ],
        "axis": "" if scale is None else axis(scale), "compared": findings.compared,
        "holm": any(one.holm_p is not None for one in findings.comparisons),
    }  # fmt: skip
    return Section("arms", "Every arm", "experiment_arms.html", facts)


def comparison(findings: Findings, arm: str, weights: str, *kinds: str) -> Comparison | None:
    """What an arm under some weights is compared with, of the first of these kinds that there is."""
    found = [one for one in findings.comparisons if (one.arm, one.weights) == (arm, weights) and one.kind in kinds]
    return min(found, key=lambda one: kinds.index(one.kind), default=None)


def rate(ratio: float) -> str:
    """The end of a learning rate, as a ratio of its peak: `1`, `1/300`, `0`."""
    return "0" if ratio == 0 else "1" if ratio == 1 else f"1/{1 / ratio:.3g}"


def _main(findings: Findings) -> dict[tuple[str, str], Comparison]:
    """What is drawn for an arm and weights: beside its control, or a control's average beside its own raw weights."""
    return {(one.arm, one.weights): one for one in findings.comparisons if one.kind in (SAME, AVERAGING)}


def _row(findings: Findings, one: Comparison) -> Row:
    return Row(weighted(one.arm, one.weights), one.target, dots=tuple(seed_gains(findings, one).values()))


def _facts(findings: Findings, arm: ArmFinding, one: SetLosses, scale: Scale | None) -> dict[str, Any]:
    main = _main(findings).get((arm.name, one.weights))
    values = one.bits_per_byte
    return {
        "weights": one.weights, "loss": loss(values.mean), "ranged": ranged(values), "n": values.n,
        "drawn": "" if main is None else drawn(scale, _row(findings, main)),
        "main": None if main is None else _said(main),
    }  # fmt: skip


def _said(one: Comparison) -> dict[str, str]:
    """A comparison in words; the verdict after Holm's correction where it is another."""
    changed = one.holm_p is not None and one.holm_verdict != one.target.verdict
    return {
        "name": one.weights, "shown": difference(one.target), "verdict": outcome(one.target),
        "tone": tone(one.target), "holm": one.holm_verdict if changed else "",
        "against": weighted(one.against, one.against_weights),
    }  # fmt: skip
