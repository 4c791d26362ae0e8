"""What was found, in sentences that claim no more than their intervals allow.

A difference whose interval contains 0 is "not distinguishable"; one from fewer than three seeds says that they are too
few for a claim; a contrast without two pairs of runs is "not answered", with what became of the runs.
"""

from collections.abc import Sequence
from typing import Literal

from pipelines.experiments.analysis.checked import Runs
from pipelines.experiments.analysis.differences import interval_text, labels
from pipelines.experiments.analysis.findings import Comparison
from pipelines.experiments.arms import unbound_arms
from pipelines.experiments.study import Contrast
from trainer_hooks.evals.flips import NOT_DISTINGUISHABLE

CLAIM = 3
"""Seeds that a claim needs at least."""
Reading = Literal["better", "worse", "not distinguishable", "not answered"]


def sentence(runs: Runs, contrast: Contrast, found: Comparison | None) -> tuple[Reading, str]:
    """What a contrast shows, as a word and as a sentence."""
    if found is None:
        unbound = unbound_arms(runs.study, runs.size)
        absent = [f"{arm} is not trained ({unbound.get(arm, f'not at the size {runs.size}')})"
                  for arm in dict.fromkeys((contrast.arm, contrast.against)) if arm not in runs.arms]  # fmt: skip
        return "not answered", f"Not answered: {'; '.join(absent)}."
    target = found.target
    if target.verdict == "unknown" or target.mean is None:
        return "not answered", f"Not answered: {_unpaired(runs, found)}."
    arm, against = labels((found.arm, found.weights, found.against, found.against_weights))
    difference, _, ranges = target.text.partition(" ")
    rest = f"positive = better; {interval_text(target)}"
    few = f"; {target.pairs} seeds are too few for a claim" if target.pairs < CLAIM else ""
    some = f"; left out: {', '.join(target.left_out)}" if target.left_out else ""
    rest += "".join(f"; on {role} text {on.text}, {on.verdict}" for role, on in found.roles.items())
    rest += few + some
    if target.verdict == NOT_DISTINGUISHABLE:
        numbers = f"{difference} bits per byte {ranges}, {rest}"
        return "not distinguishable", f"{arm} is not distinguishable from {against}: {numbers}."
    word: Reading = "better" if target.verdict == "better" else "worse"
    return word, f"{arm} is {word} than {against} by {abs(target.mean):.4f} bits per byte {ranges}, {rest}."


def notes(runs: Runs, table: Sequence[Comparison]) -> list[str]:
    """What a reader must know beside the numbers."""
    found = []
    if runs.lost:
        found.append(f"{len(runs.lost)} runs are in no mean: " + "; ".join(f"{x.run_id} {x.why}" for x in runs.lost))
    found += [f"{arm.name} spends otherwise than the rest: {arm.settings.unmatched}"
              for arm in runs.arms.values() if arm.settings.unmatched]  # fmt: skip
    partial = {row.arm: row for row in reversed(table) if row.target.left_out}
    found += [f"{name} is compared over the seeds that {row.against} has, too; left out: "
              f"{', '.join(row.target.left_out)}" for name, row in sorted(partial.items())]  # fmt: skip
    few = [name for name, arm in runs.arms.items() if len(arm.seeds) < CLAIM]
    if few:
        found.append(f"{len(few)} arms have fewer than {CLAIM} seeds, too few for a claim")
    tested = [row for row in table if row.target.p is not None]
    off = sum(row.target.verdict in ("better", "worse") for row in tested)
    kept = sum(row.holm_verdict in ("better", "worse") for row in tested)
    if tested:
        found.append(
            f"of {len(tested)} differences in the table of arms, {off} lie off 0 by their own interval, where chance "
            f"alone gives about {len(tested) * 0.05:.1f}, and {kept} do after Holm's correction"
        )
    return found


def _unpaired(runs: Runs, found: Comparison) -> str:
    """Why there are not two pairs: how many runs of the two arms are missing or failed."""
    said = []
    for arm in dict.fromkeys((found.arm, found.against)):
        lost = [one for one in runs.lost if one.arm == arm]
        if lost:
            failed = sum(one.why != "missing" for one in lost)
            parts = [f"{n} {what}" for n, what in ((len(lost) - failed, "missing"), (failed, "failed")) if n]
            said.append(f"of {len(runs.arms[arm].seeds)} runs of {arm}, {' and '.join(parts)}")
    left = f"{found.target.pairs} pairs of runs of one seed are left, and an interval needs two"
    return "; ".join([*said, left])
