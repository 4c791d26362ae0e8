"""Training: loss curves of the arms, raw and averaged weights, and what may and may not be concluded.

One run an arm is one draw. The section prints the differences, how much each arm's own loss still moved at
the end, and says that one seed supports no claim; it never names a winner.
"""

from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from pipelines.report.conclusions import conclusions
from pipelines.report.figure import INK, colour, dashes, drawing, line_key, marker, smoothed, svg, token_axis
from pipelines.report.plans import PlanFacts
from pipelines.report.quantities import listed
from pipelines.report.runs import RAW, RunFacts, heldout_sets
from pipelines.report.workspace import Section, Workspace, manifest_link


def section(workspace: Workspace, runs: list[RunFacts], plans: list[PlanFacts]) -> Section:
    """Curves, the final table and the honest paragraph."""
    if not runs:
        return Section("training", "Training", absent="No arm has been trained yet.")
    sets = heldout_sets(workspace, runs)
    facts = {
        "finding": _training_finding(runs),
        "loss": _loss_figure(runs),
        "heldout": [
            {
                "name": name,
                "tokens": size,
                "svg": _heldout_figure(runs, name, i),
                "finding": _heldout_finding(runs, name),
            }
            for i, (name, size) in enumerate(sets)
        ],
        "averages": [(name, line_key(i)) for i, name in enumerate(_averages_of(runs))],
        "table": _table(runs, sets),
        "arms": [(run.arm, manifest_link(run.arm.run)) for run in runs if run.arm.run],
        "caveat": conclusions(runs, plans, sets),
    }
    return Section("training", "Training", "training.html", facts)


def _loss_figure(runs: list[RunFacts]) -> Any:
    """Training loss of every arm; steps are faint where there are many, a moving mean over 2 % of them is not."""
    with drawing(480, 280, left=56) as (figure, (axes,)):
        settled = []
        for run in runs:
            at = np.array([step["tokens"] for step in run.steps], dtype=np.float64)
            loss = np.array([step["loss"] for step in run.steps], dtype=np.float64)
            thin = max(1, len(at) // 600)
            mean = smoothed(loss, max(1, len(loss) // 50))
            axes.plot(at[::thin], loss[::thin], color=colour(run.arm.number), linewidth=0.7, alpha=0.35)
            axes.plot(at[::thin], mean[::thin], color=colour(run.arm.number))
            settled.append(loss[len(loss) // 10 :])
        _limit(axes, np.concatenate(settled))
        axes.set_ylabel("nats a token")
        token_axis(axes, max(run.steps[-1]["tokens"] for run in runs))
        return svg(figure, "loss", "Training loss of every arm along the tokens seen.")


def _heldout_figure(runs: list[RunFacts], heldout: str, number: int) -> Any:
    """Held-out loss: solid for raw weights, a broken line for each average."""
    names = _averages_of(runs)
    with drawing(480, 280, left=56) as (figure, (axes,)):
        values: list[float] = []
        for run in runs:
            for weights in run.weights:
                lines = run.evaluations[heldout].get(weights, [])
                at = [line["tokens"] for line in lines]
                loss = [line["nats_per_token"] for line in lines]
                values += loss[len(loss) // 4 :] if weights == RAW else loss
                axes.plot(
                    at,
                    loss,
                    color=colour(run.arm.number),
                    linestyle="-" if weights == RAW else dashes(names.index(weights)),
                    marker="o" if weights == RAW else marker(names.index(weights)),
                    markersize=4,
                    markeredgewidth=0,
                )
        _limit(axes, np.array(values))
        axes.set_ylabel("nats a token")
        token_axis(axes, max(run.steps[-1]["tokens"] for run in runs))
        return svg(figure, f"heldout-{number}", f"Held-out loss on {heldout}, raw and averaged weights.")


def _averages_of(runs: list[RunFacts]) -> list[str]:
    """The averages of all arms by name, each once; one name has one line in every figure."""
    return list(dict.fromkeys(name for run in runs for name in run.weights[1:]))


def _limit(axes: Any, values: np.ndarray) -> None:
    """Show the part of the curves after the first fall, which would flatten the rest."""
    room = max(0.08 * float(np.ptp(values)), 0.02)
    axes.set_ylim(float(values.min()) - room, float(values.max()) + room)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.axhline(float(values.min()) - room, color=INK, linewidth=0)


def _training_finding(runs: list[RunFacts]) -> str:
    said = []
    for run in runs:
        last = [step["loss"] for step in run.steps[-max(1, len(run.steps) // 20) :]]
        said.append(f"{run.arm.name} from {run.steps[0]['loss']:.2f} to {np.mean(last):.2f} nats a token")
    return (
        f"Training loss falls: {listed(said)} (mean of the last 5 % of steps). Arms read different documents at the "
        "same moment, so these two curves cannot be compared point by point; held-out loss can."
    )


def _heldout_finding(runs: list[RunFacts], heldout: str) -> str:
    said = []
    for run in runs:
        kinds = run.evaluations[heldout]
        text = f"{run.arm.name} ends at {kinds[RAW][-1]['nats_per_token']:.3f} nats a token with its last weights"
        averaged = [f"{kinds[name][-1]['nats_per_token']:.3f} as {name}" for name in run.weights[1:] if name in kinds]
        said.append(text + (f" and, averaged, at {listed(averaged)}" if averaged else ""))
    return f"On the held-out documents of {heldout}, {'; '.join(said)}."


def _table(runs: list[RunFacts], sets: list[tuple[str, int]]) -> list[dict[str, Any]]:
    return [
        {
            "arm": run.arm,
            "heldout": name,
            "weights": weights,
            "nats": f"{lines[-1]['nats_per_token']:.4f}",
            "bits": f"{lines[-1]['bits_per_byte']:.4f}",
            "final": weights == run.ends_with(name),
        }
        for name, _ in sets
        for run in runs
        for weights in run.weights
        if (lines := run.evaluations[name].get(weights))
    ]
