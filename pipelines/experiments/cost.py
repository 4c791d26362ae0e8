"""What a study will take, before anything is made: runs, tokens, FLOPs, what sharing saves, and the time here.

Runs of one seed share the steps in which they read the same under the same rates: schedules of one order share the
stable part, mixtures that differ in a later phase the phases before. The time is from a few steps measured now on
random tokens; held-out losses and the making of tokens come on top.

    cost = cost_of(runs_of(study, arms))
    cost.trained / tokens_per_second(runs[0].arm)            # seconds, one run at a time
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from corpus.fingerprints import fingerprint
from pipelines.experiments.arms import Arm, Run
from pipelines.experiments.study import ArmSettings
from trainer_hooks.curves import step_learning_rates
from trainer_hooks.plan_resume import MAY_CHANGE
from trainer_hooks.resolution import resolve

TRIAL_SECONDS = 2.0


@dataclass(frozen=True)
class StudyCost:
    """Attributes:
    runs: trainings. tokens: read by all of them; trained: those that are not another run's, too. flops: of the latter,
    forward and backward. longest: tokens of the longest chain of runs that share, which one process trains.
    """

    runs: int
    tokens: int
    trained: int
    flops: float
    longest: int


def cost_of(runs: Sequence[Run]) -> StudyCost:
    """Count a study's runs (`pipelines.experiments.arms.runs_of`)."""
    alike: dict[str, list[Run]] = {}
    for run in runs:
        alike.setdefault(_beginning(run), []).append(run)
    trained, flops, longest = 0, 0.0, 0
    for members in alike.values():
        chains: list[int] = []  # of each member, the first one of its chain
        tokens = [0] * len(members)
        for i, run in enumerate(members):
            shared = [_shared_tokens(run, other) for other in members[:i]]
            most = max(shared, default=0)
            chains.append(chains[shared.index(most)] if most else i)
            tokens[chains[i]] += run.arm.tokens - most
            flops += run.arm.flops * (run.arm.tokens - most) / run.arm.tokens
        trained, longest = trained + sum(tokens), max(longest, *tokens)
    return StudyCost(len(runs), sum(run.arm.tokens for run in runs), trained, flops, longest)


def tokens_per_second(arm: Arm) -> float:
    """Training tokens a second of one run of an arm on this machine, measured for about two seconds."""
    import torch

    from trainer_hooks.determinism import matmul_dtype, reproducible
    from trainer_hooks.model import Decoder

    plan = arm.settings.plan
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = plan.micro_sequences or plan.batch_sequences
    with reproducible(plan.threads, plan.deterministic):
        model = Decoder(arm.settings.model, 0).to(device)
        optimizer = plan.optimizer.make(model, plan.peak_lr, seed=0)
        drawn = torch.randint(0, arm.settings.model.vocabulary, (rows, plan.sequence_length + 1)).to(device)
        dtype = matmul_dtype(plan.precision, device)
        steps, started = 0, 0.0
        while steps < 3 or time.monotonic() - started < TRIAL_SECONDS:
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                summed, _ = model(drawn[:, :-1], drawn[:, 1:])
            (summed / rows).backward()
            optimizer.step()
            optimizer.zero_grad()
            if device.type == "cuda":
                torch.cuda.synchronize()
            steps += 1
            if steps == 2:  # the first two prepare
                started = time.monotonic()
    return (steps - 2) * rows * plan.sequence_length / (time.monotonic() - started)


def _beginning(run: Run) -> str:
    """What runs that share any step have in common: all but schedule and data, which are looked at step by step."""
    settings = run.arm.settings
    plan = settings.plan.model_dump(mode="json")
    kept = {name: value for name, value in plan.items() if name not in MAY_CHANGE}
    teachers = settings.teachers and settings.teachers.model_dump()
    return fingerprint([run.seed, settings.model.model_dump(mode="json"), kept, teachers])


def _shared_tokens(run: Run, other: Run) -> int:
    """Tokens, from their beginning, that two runs train on in the same way."""
    one, resolved, theirs = run.arm.settings, resolve(run.arm.settings.plan), resolve(other.arm.settings.plan)
    steps = min(resolved.steps, theirs.steps)
    differ = np.flatnonzero(step_learning_rates(resolved)[:steps] != step_learning_rates(theirs)[:steps])
    alike = int(differ[0]) if len(differ) else steps
    return min(alike, int(_shared_data(one, other.arm.settings) * resolved.steps)) * resolved.step_tokens


def _shared_data(one: ArmSettings, other: ArmSettings) -> float:
    """The share of a run, from its beginning, in which two arms read the same."""
    if one.order == other.order and one.mixture == other.mixture and one.plan.tokens == other.plan.tokens:
        return 1.0
    shared = 0.0
    for a, b in zip(one.mixture.phases, other.mixture.phases, strict=False):
        same = a == b and one.mixture.sources == other.mixture.sources
        if not same or _policy(one, a.name) != _policy(other, a.name) or a.tokens.share is None:
            break
        shared += a.tokens.share
    return shared


def _policy(settings: ArmSettings, phase: str) -> object:
    return settings.order.get(phase) if isinstance(settings.order, dict) else settings.order
