"""The page of `gradatim plan show`: what was found, the plans on one axis, and the learning rate's mass in numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corpus.fingerprints import fingerprint
from corpus.shards import write_text
from curriculum.describe import describe
from pipelines.plan_subjects import PlanSubject
from pipelines.report import making, plans
from pipelines.report.orders import BANDS, OrderFacts, source_names
from pipelines.report.page import page
from pipelines.report.workspace import Arm, Section
from trainer_hooks.plan_order_checks import masses, scored

LEAD = (
    "Learning rate, averaging, mixture and quality of the data on one axis, the tokens seen, as they will be if these "
    "plans are followed."
)


def write_plan_page(path: Path, subjects: Sequence[PlanSubject], *, title: str) -> None:
    """Write one self-contained page of the plans side by side, atomically."""
    facts = [_facts(number, subject) for number, subject in enumerate(subjects)]
    orders = [each.order for each in facts if each.order is not None]
    sections = [plans.section(facts, source_names(orders, {})), _deciles(subjects), _found(subjects)]
    artifacts = list({one.order.name: one.order for one in subjects if one.order is not None}.values())
    identity = fingerprint([[one.resolved.model_dump(mode="json"), one.order and one.order.ref] for one in subjects])
    footer = making.footer_of(artifacts, identity, "Plan")
    write_text(path, page(title, sections, kicker="Plan of a run", lead=LEAD, footer=footer))


def _facts(number: int, subject: PlanSubject) -> plans.PlanFacts:
    arm = Arm(number, subject.name, subject.order, None)
    order = None
    if subject.table is not None:
        order = OrderFacts(arm, subject.table, describe(subject.table, BANDS))
    return plans.PlanFacts(arm, subject.resolved, order, subject.data)


def _deciles(subjects: Sequence[PlanSubject]) -> Section:
    """The learning rate's mass by quality decile as a table, beside what a shuffle would give."""
    tables: list[dict[str, Any]] = []
    for number, subject in enumerate(subjects):
        if subject.data is not None and scored(subject.data, subject.resolved):
            found = masses(subject.resolved, subject.data)
            averages = [name for name in found if name != "raw"]
            rows = [[f"{100 * float(shares[i]):.2f} %" for shares in found.values()] for i in range(10)]
            tables.append({"number": number, "name": subject.name, "averages": averages, "rows": rows})
    if not tables:
        why = next((one.absent for one in subjects if one.absent), "no visit of the order is scored")
        return Section("deciles", "Mass by decile", absent=f"Not known yet: {why}.")
    return Section("deciles", "Mass by decile", "plan_deciles.html", {"tables": tables})


def _found(subjects: Sequence[PlanSubject]) -> Section:
    return Section(
        "found", "What was found", "plan_findings.html", {"plans": [(one.name, one.findings()) for one in subjects]}
    )
