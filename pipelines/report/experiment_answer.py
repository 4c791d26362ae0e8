"""What a study's page says first: question, answer in one sentence, the contrasts, and what noise alone does."""

from typing import Any

from markupsafe import Markup

from pipelines.experiments.analysis.findings import ContrastFinding, Findings
from pipelines.report.experiment_forest import Row, forest
from pipelines.report.experiment_numbers import UNKNOWN, loss, ranged, seed_gains, sides, weighted
from pipelines.report.quantities import listed
from pipelines.report.workspace import Section


def lead(findings: Findings) -> Markup:
    """Question and answer, for the top of the page."""
    return Markup('<span class="question">{}</span> <strong class="answer">{}</strong>').format(
        findings.question, findings.answer
    )


def contrasts_section(findings: Findings) -> Section:
    """The comparisons that the study asks for, the main one first."""
    rows = [row for one in findings.contrasts for row in _rows(findings, one)]
    found = [one for one in findings.contrasts if one.comparison is not None]
    facts = {
        "plot": forest(rows),
        "sentences": [{"name": _named(one), "sentence": one.sentence} for one in findings.contrasts],
        "target": target(findings),
        "documents": any(one.comparison and one.comparison.target.documents for one in found),
        "notes": findings.notes,
    }
    return Section("contrasts", "What was asked", "experiment_contrasts.html", facts)


def noise_section(findings: Findings) -> Section | None:
    """The spread of equal runs, and orders that differ by noise alone."""
    noise = findings.noise
    if noise is None:
        return None
    random = [
        Row(weighted(one.arm, one.weights), one.target, f"beside {weighted(one.against, one.against_weights)}",
            tuple(seed_gains(findings, one).values()))
        for one in noise.random
    ]  # fmt: skip
    facts: dict[str, Any] = {
        "arm": weighted(noise.arm, noise.weights), "n": noise.spread.n, "mean": loss(noise.spread.mean),
        "ranged": ranged(noise.spread), "sd": loss(noise.spread.sd), "range": loss(noise.range),
        "detectable": None if noise.detectable is None else loss(noise.detectable),
        "plot": forest(random) if random else None,
    }  # fmt: skip
    return Section("noise", "What noise alone does", "experiment_noise.html", facts)


def target(findings: Findings) -> str:
    """The held-out sets that decide, in words."""
    return listed(list(findings.target)) or UNKNOWN


def _named(one: ContrastFinding) -> str:
    return one.name.replace("_", " ")


def _rows(findings: Findings, one: ContrastFinding) -> list[Row]:
    """A contrast on the target and, in studies that tell old and new text apart, on each of them."""
    found = one.comparison
    if found is None:
        return []
    claimed = f". Claimed: {one.claim}" if one.claim else ""
    dots = tuple(seed_gains(findings, found).values())
    rows = [Row(_named(one), found.target, f"{sides(found)}{claimed}", dots)]
    return rows + [Row(f"{_named(one)}, {role} text", on, sides(found)) for role, on in found.roles.items()]
