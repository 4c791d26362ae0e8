"""Main effects and interactions of the factors, with permutation tests that say what so few seeds can show at most."""

from typing import Any

from pipelines.experiments.analysis.findings import Effect, Findings, Interaction, PermutationTest
from pipelines.report.experiment_forest import Row, forest
from pipelines.report.experiment_numbers import DIGITS, probability
from pipelines.report.quantities import count, signed
from pipelines.report.workspace import Section

LEVEL = 0.05


def effects_section(findings: Findings) -> Section | None:
    """A forest plot a factor and kind of weights, and a table an interaction."""
    if not findings.effects and not findings.interactions:
        return None
    facts = {
        "effects": [_effect(one) for one in findings.effects],
        "interactions": [_interaction(one) for one in findings.interactions],
    }
    return Section("effects", "What each factor does", "experiment_effects.html", facts)


def tested(test: PermutationTest) -> str:
    """A permutation test in words: its p, how it was had, and whether it could have shown anything."""
    how = f"{'all' if test.exact else 'drawn'} {count(test.permutations, 'permutations')}"
    text = f"{probability(test.p)} ({how})"
    if test.smallest > LEVEL:
        return f"{text}; with so few runs no p below {test.smallest:.3f} is possible, so this test cannot tell"
    return text if test.p <= LEVEL else f"{text}: not distinguishable"


def _effect(one: Effect) -> dict[str, Any]:
    rows = [Row(f"{level.level} beside {level.against}", level.difference) for level in one.levels]
    return {
        "factor": one.factor, "weights": one.weights, "n": len(one.seeds), "over": one.over, "plot": forest(rows),
        "test": tested(one.test),
    }  # fmt: skip


def _interaction(one: Interaction) -> dict[str, Any]:
    first = list(dict.fromkeys(cell.levels[0] for cell in one.cells))
    second = list(dict.fromkeys(cell.levels[1] for cell in one.cells))
    beyond = {cell.levels: signed(cell.beyond, DIGITS) for cell in one.cells}
    return {
        "factors": one.factors, "weights": one.weights, "n": len(one.seeds), "columns": second,
        "rows": [(name, [beyond.get((name, other), "") for other in second]) for name in first],
        "test": tested(one.test),
    }  # fmt: skip
