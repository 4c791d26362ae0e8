"""What a plan does that its author may not want, found before anything is spent.

Each finding has its numbers and says what would change it. What needs the order, the model or the tokenizer is looked
at only where they are given; `gradatim plan check` gives what the workspace has.

    for finding in findings(resolved, order=PlannedData.of(Order.open(folder).table()), model=model):
        print(finding.severity, finding.what, finding.fix)
"""

from collections.abc import Iterator

from trainer_hooks.model_config import ModelConfig
from trainer_hooks.plan import ResolvedPlan
from trainer_hooks.plan_average_checks import average_findings
from trainer_hooks.plan_findings import Finding, by_severity, curve_setting
from trainer_hooks.plan_model_checks import model_findings
from trainer_hooks.plan_order_checks import PlannedData, order_findings

SHORTEST_DECAY = 0.025  # of the run; arXiv 2404.06395: 10 % is enough, 2.5 % is not
LONGEST_WARMUP = 0.1
ROUNDED = "a whole number of steps"  # a warning of the resolution that asks for nothing


def findings(
    resolved: ResolvedPlan,
    *,
    order: PlannedData | None = None,
    model: ModelConfig | None = None,
    tokenizer_size: int | None = None,
    processes: int = 1,
) -> list[Finding]:
    """Everything found, errors first.

    Args:
        order: the visits the plan reads; model: its shape; tokenizer_size: ids of the tokens; processes: that train.
    """
    found = [
        Finding("note" if ROUNDED in warning else "warning", "resolution", warning, "plan")
        for warning in resolved.warnings
    ]
    found += [*_curve(resolved), *_intervals(resolved)]
    for name, average in resolved.averages.items():
        found += average_findings(resolved, name, average, order)
    found += model_findings(resolved, model, tokenizer_size, processes)
    if order is not None:
        found += order_findings(resolved, order)
    return by_severity(found)


def _curve(resolved: ResolvedPlan) -> Iterator[Finding]:
    phases, peak = resolved.phases, resolved.plan.peak_lr
    kind, end = resolved.plan.optimizer.kind, phases[-1].lr_end
    warmup = phases[0].end if phases[0].kind == "warmup" else 0
    if not warmup:
        yield Finding(
            "note", "no-warm-up", f"there is no warm-up: the first step is taken at {phases[0].lr_start:g}",
            curve_setting(resolved.plan, 0), "begin with {warmup: 1%}",
        )  # fmt: skip
    elif warmup > LONGEST_WARMUP * resolved.tokens:
        yield Finding(
            "note", "long-warm-up", f"{_share(warmup, resolved)} of the run is warm-up; 1 to 10 % is usual",
            curve_setting(resolved.plan, 0), "shorten it; what it gives up goes to the stable phase",
        )  # fmt: skip
    yield from _decay(resolved)
    if kind == "schedule_free":
        if end < peak:
            yield Finding(
                "warning", "decay-on-schedule-free",
                f"schedule-free averages in the optimizer, and the rate falls to {end:g} besides",
                curve_setting(resolved.plan), "hold the rate after warm-up",
            )  # fmt: skip
    elif end == peak and not resolved.averages:
        yield Finding(
            "warning", "no-decay-no-average",
            "the rate stays at its peak and nothing is averaged, so the run ends with the noise of its last steps",
            "plan", "average the last checkpoints (average: {kind: ema, last: 6}), or end with a decay",
        )  # fmt: skip


def _decay(resolved: ResolvedPlan) -> Iterator[Finding]:
    last = resolved.phases[-1]
    if last.kind != "decay":
        return
    where = curve_setting(resolved.plan, -1)
    if last.end - last.start < SHORTEST_DECAY * resolved.tokens:
        yield Finding(
            "warning", "short-decay",
            f"the last decay is {_share(last.end - last.start, resolved)} of the run; 10 % was enough where 2.5 % was "
            "not (arXiv 2404.06395)",
            where, "lengthen it to 10 %",
        )  # fmt: skip
    if last.lr_end == 0:
        yield Finding(
            "note", "decays-to-zero", "the run decays to rate 0 and cannot be continued from its end",
            where, "a later, longer plan can go on from a checkpoint before the decay: keep: {every: 10%}",
        )  # fmt: skip


def _intervals(resolved: ResolvedPlan) -> Iterator[Finding]:
    if resolved.eval_every_steps > resolved.steps:
        yield Finding(
            "warning", "no-evaluation", f"eval_every is {resolved.plan.eval_every}, longer than the run: only its end "
            "is measured", "plan.eval_every", "write a share, such as 10%",
        )  # fmt: skip
    if resolved.checkpoint_every_steps > resolved.steps:
        yield Finding(
            "warning", "no-checkpoint", f"checkpoint_every is {resolved.plan.checkpoint_every}, longer than the run: "
            "one that is killed begins again", "plan.checkpoint_every", "write a share, such as 10%",
        )  # fmt: skip
    elif (kept := resolved.keep_every_steps) and kept % resolved.checkpoint_every_steps:
        every = resolved.checkpoint_every_steps * resolved.step_tokens
        yield Finding(
            "note", "keep-off-checkpoints", f"keep.every ({resolved.plan.keep.every}) is not a multiple of "
            f"checkpoint_every ({every:,} tokens)", "plan.keep.every", f"write a multiple of {every:,} tokens",
        )  # fmt: skip


def _share(tokens: int, resolved: ResolvedPlan) -> str:
    return f"{100 * tokens / resolved.tokens:.3g} %"
