"""What a study's page says last: what is missing, what was not tested, what it cost, and how to make it again."""

from typing import Any

import yaml

from pipelines.experiments.analysis.findings import ArmFinding, Findings
from pipelines.experiments.study import Study
from pipelines.report.experiment_numbers import UNKNOWN, large
from pipelines.report.quantities import count, percent, tokens
from pipelines.report.workspace import Section


def lost_section(findings: Findings) -> Section | None:
    """Runs without a result; none where all finished."""
    if not findings.lost:
        return None
    facts = {"lost": findings.lost, "planned": findings.planned}
    return Section("lost", "Runs without a result", "experiment_lost.html", facts)


def untested_section(findings: Findings) -> Section:
    """What the sources let one expect, and what this study does not say."""
    facts = {"expected": findings.expected, "source": findings.source, "untested": findings.untested}
    return Section("untested", "What was not tested", "experiment_untested.html", facts)


def cost_section(findings: Findings) -> Section:
    """Runs, tokens and FLOPs, arm by arm, and what each arm read."""
    finished = sum(len(arm.finished) for arm in findings.arms)
    branched = sum(arm.branched for arm in findings.arms)
    shared = sum(arm.shared for arm in findings.arms)
    read = sum(arm.tokens * len(arm.finished) for arm in findings.arms)
    facts = {
        "finished": finished, "planned": findings.planned, "tokens": tokens(read), "branched": branched,
        "shared": tokens(shared), "share": percent(shared / read) if read else "",
        "flops": large(sum(arm.flops * len(arm.finished) for arm in findings.arms)),
        "rows": [_row(arm) for arm in findings.arms],
    }  # fmt: skip
    return Section("cost", "What it cost", "experiment_cost.html", facts)


def making_section(findings: Findings, study: Study) -> Section:
    """Command, fingerprint, versions, and the study's settings in full."""
    made = findings.provenance
    facts = [("Fingerprint of pool and held-out documents", made.fingerprint), ("Gradatim", made.version),
             ("Commit", made.commit), ("Trained on", made.device), *made.facts.items()]  # fmt: skip
    settings = yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)
    shown = {"command": made.command, "facts": [(k, v) for k, v in facts if v], "settings": settings}
    return Section("making", "How it was made", "experiment_making.html", shown)


def _row(arm: ArmFinding) -> dict[str, Any]:
    read = sum(arm.tokens_by_source.values())
    return {
        "name": arm.name, "runs": f"{len(arm.finished)} of {len(arm.planned)}", "tokens": tokens(arm.tokens),
        "flops": large(arm.flops), "parameters": UNKNOWN if arm.parameters is None else count(arm.parameters),
        "visits": UNKNOWN if arm.mean_visits is None else f"{arm.mean_visits:.2f}",
        "spearman": UNKNOWN if arm.spearman is None else f"{arm.spearman:.2f}", "branched": arm.branched,
        "sources": ", ".join(f"{name} {percent(n / read)}" for name, n in arm.tokens_by_source.items() if read),
    }  # fmt: skip
