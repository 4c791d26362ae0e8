"""The table of a study: each arm under each kind of weights, with its range, its runs, and what it gains."""

from typing import Any

from pipelines.experiments.analysis.findings import ArmFinding, Comparison, Findings, SetLosses
from pipelines.report.experiment_forest import Row, drawn, scale_of, tone
from pipelines.report.experiment_numbers import difference, loss, outcome, ranged, seed_gains, weighted
from pipelines.report.experiment_strips import axis
from pipelines.report.quantities import percent
from pipelines.report.workspace import Section

COMPACT = 16  # pixels of a strip in a cell
SAME, CONTROL, AVERAGING = "same weights", "raw control", "averaging"


def arms_section(findings: Findings) -> Section:
    """All arms; those without a finished run say so."""
    paired = {(one.arm, one.weights): _row(findings, one) for one in findings.comparisons if one.kind == SAME}
    scale = scale_of(list(paired.values()))
    facts = {
        "arms": [
            {
                "name": arm.name, "control": arm.control, "n": len(arm.finished), "planned": len(arm.planned),
                "unmatched": arm.unmatched, "end": rate(arm.end_ratio), "mean_rate": percent(arm.mean_rate),
                "rows": [_facts(findings, arm, one, paired, scale) for one in arm.losses if one.kind == "target"],
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


def _row(findings: Findings, one: Comparison) -> Row:
    return Row(f"{one.arm} {one.weights}", one.target, dots=tuple(seed_gains(findings, one).values()))


def _facts(
    findings: Findings, arm: ArmFinding, one: SetLosses, paired: dict[tuple[str, str], Row], scale: Any
) -> dict[str, Any]:
    same = comparison(findings, arm.name, one.weights, SAME)
    others = [x for x in findings.comparisons if (x.arm, x.weights) == (arm.name, one.weights) and x.kind != SAME]
    row = paired.get((arm.name, one.weights))
    values = one.bits_per_byte
    return {
        "weights": one.weights, "loss": loss(values.mean), "ranged": ranged(values).replace(" to ", "–"),
        "n": values.n, "drawn": "" if row is None else drawn(scale, row, COMPACT),
        "same": None if same is None else _said(same), "others": [_said(other) for other in others],
    }  # fmt: skip


def _said(one: Comparison) -> dict[str, str]:
    """A comparison in a cell; the verdict after Holm's correction where it is another."""
    changed = one.holm_p is not None and one.holm_verdict != one.target.verdict
    return {
        "shown": difference(one.target), "verdict": outcome(one.target), "tone": tone(one.target),
        "holm": one.holm_verdict if changed else "", "against": weighted(one.against, one.against_weights),
    }  # fmt: skip
