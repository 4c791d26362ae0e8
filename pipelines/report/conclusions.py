"""What may and may not be concluded from the runs, as sentences computed from them.

One run an arm is one draw, so the differences stand beside how much each arm's own loss still moved at the end,
and no sentence names a winner.
"""

import numpy as np

from pipelines.report.plans import PlanFacts
from pipelines.report.quantities import count, tokens
from pipelines.report.runs import RAW, RunFacts

LATE_EVALUATIONS = 4


def conclusions(runs: list[RunFacts], plans: list[PlanFacts], sets: list[tuple[str, int]]) -> list[str]:
    """What may be concluded, as sentences computed from the runs."""
    said = []
    if len(runs) > 1 and sets:
        said += [_difference(runs, name) for name, _ in sets]
    said.append(
        f"Each arm was trained once, with one seed, so there is no estimate of how much a result moves from seed to "
        f"seed: no difference can be claimed from one seed.{_scale(runs, sets)}"
    )
    if len(runs) > 1 and _plans_differ(plans):
        said.append(
            "The arms differ in their order and in their learning-rate plan at once, so even a difference that "
            "repeated could not be put down to either alone; that takes each order under each plan."
        )
    said.append(
        "What such a run can show: that the whole way works, whether the arms read the same documents, how a plan "
        "shapes the loss curve, and what averaging does to a given run. What it cannot show: which order trains "
        "better models. "
        "Published gains are 0.4 to 1.7 points of benchmark accuracy at 1.5 billion parameters and 30 billion tokens "
        "(arXiv 2511.18903), other studies find none, and telling them from chance takes at least three seeds an arm, "
        "beside the shuffled control."
    )
    return said


def _difference(runs: list[RunFacts], heldout: str) -> str:
    """The gap between the arms' final losses beside the arms' own movement at the end."""
    finals = [run.final(heldout)["nats_per_token"] for run in runs]
    gap = max(finals) - min(finals)
    wobble = max(_late_movement(run, heldout) for run in runs)
    text = f"On {heldout} the final losses lie {gap:.4f} nats a token apart. "
    if not wobble:
        return text + "There are too few evaluations to say how much each arm still moved."
    beside = "Between neighbouring evaluations at the end, an arm’s own held-out loss still changed by up to "
    beside += f"{wobble:.4f} nats"
    if gap <= wobble:
        return f"{text}{beside}: the difference is inside that noise."
    return (
        f"{text}{beside}: the difference is larger than that, but such movement is not the spread between seeds, "
        "so nothing follows from it."
    )


def _late_movement(run: RunFacts, heldout: str) -> float:
    """The largest change between neighbouring evaluations of the raw weights among the last four."""
    late = [line["nats_per_token"] for line in run.evaluations[heldout][RAW][-LATE_EVALUATIONS:]]
    return float(np.abs(np.diff(late)).max()) if len(late) > 1 else 0.0


def _scale(runs: list[RunFacts], sets: list[tuple[str, int]]) -> str:
    parameters = runs[0].parameters
    seen = runs[0].steps[-1]["tokens"]
    size = f" The model has {count(parameters)} parameters and" if parameters else " The model"
    measured = sum(tokens_held for _, tokens_held in sets)
    text = f"{size} saw {tokens(seen)}"
    return text + (f"; it was measured on {count(measured)} held-out tokens." if measured else ".")


def _plans_differ(plans: list[PlanFacts]) -> bool:
    orders = {str(plan.arm.order.manifest.config.get("policy")) for plan in plans if plan.arm.order is not None}
    shapes = {(plan.plan.phases, tuple(plan.plan.averages.values())) for plan in plans}
    return len(orders) > 1 and len(shapes) > 1
