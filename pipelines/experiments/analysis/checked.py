"""The runs of a study as they may be compared: checked, sorted by arm and seed, with what is lost named.

Refused: results of another study, version or fingerprint, arms that read other documents or tokens than the study
says, held-out sets that differ. Marked and left out of every mean: runs that are missing, failed, or have a loss that
is no number.

    runs = checked_runs(study, "hour", arms, results)
    runs.loss("ascending.constant", "sma")                      # by seed, bits per byte of the target; lower is better
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite

from corpus.config import nearest
from corpus.errors import ArtifactError, ConfigError
from curriculum.policies.length_cycles import LengthCycles
from pipelines.experiments.analysis.findings import TARGET, LostRun
from pipelines.experiments.arms import Arm, runs_of
from pipelines.experiments.results import BEST, VERSION, RunResult
from pipelines.experiments.study import RAW, Study

AGAIN = "collect the results of this study at this size, or run it again"


@dataclass(frozen=True)
class Runs:
    """Finished runs of the study's own seeds.

    Attributes:
        finished: by arm and seed; members of ensembles and teachers are not among them.
        lost: the others, with what became of them.
        sets: held-out sets; weights: all kinds, raw first.
        groups: sets read as one, by their mean: `target`, which decides, and a continual study's `old` and `new`.
    """

    study: Study
    size: str
    arms: Mapping[str, Arm]
    finished: Mapping[str, Mapping[int, RunResult]]
    lost: tuple[LostRun, ...]
    sets: tuple[str, ...]
    weights: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]

    @property
    def target(self) -> tuple[str, ...]:
        """The held-out sets whose mean loss decides."""
        return self.groups[TARGET]

    def loss(self, arm: str, weights: str = RAW, held: str = TARGET) -> dict[int, float]:
        """Bits per byte by seed: of a held-out set, or the mean over a group's. Lower is better."""
        sets = self.groups.get(held, (held,))
        return {
            seed: sum(run.losses[name][weights].bits_per_byte for name in sets) / len(sets)
            for seed, run in self.finished[arm].items()
            if sets and all(weights in run.losses[name] for name in sets)
        }

    def weights_of(self, arm: str) -> tuple[str, ...]:
        """The kinds of weights that a run of this arm was measured under, raw first."""
        return tuple(kind for kind in self.weights if self.loss(arm, kind))

    def why_lost(self, arm: str, seed: int) -> str:
        """What became of a run that has no loss."""
        known = {(one.arm, one.seed): one.why for one in self.lost}
        planned = seed in self.arms[arm].seeds
        return known.get((arm, seed), "not measured" if planned else "not planned")

    def with_weights(self) -> Iterator[tuple[str, str]]:
        """Each arm under each kind of weights it was measured under."""
        for arm in self.arms:
            for kind in self.weights_of(arm):
                yield arm, kind


def checked_runs(
    study: Study, size: str, arms: Mapping[str, Arm], results: Mapping[str, RunResult],
    identities: Mapping[str, str] | None = None,
) -> Runs:  # fmt: skip
    """Check results against the study, and sort them.

    Args:
        results: by run id; runs that are not there are missing.
        identities: the fingerprint that each result must have, by run id; none: not checked.

    Raises ArtifactError for results that are not this study's or cannot be compared; ConfigError where the target names
    no held-out set, or an arm's control is not among the arms.
    """
    for arm in arms.values():
        if arm.control is not None and arm.control not in arms:
            raise ConfigError(f"the arm {arm.name} has no control among these arms", expected=arm.control,
                              fix="analyse all arms of a size together (arms_of)")  # fmt: skip
    known = {run.id: run for run in runs_of(study, arms)}
    for name, result in sorted(results.items()):
        run = known.get(name)
        if run is None or (result.run_id, result.arm, result.seed) != (name, run.arm.name, run.seed):
            raise _not_ours(name, "a run of one of its arms and seeds" + nearest(name, known), result.run_id)
        if result.version != VERSION:
            raise _not_ours(name, f"version {VERSION}", f"version {result.version}")
        if identities is not None and identities.get(name) != result.identity:
            raise _not_ours(name, f"fingerprint {identities.get(name)}", f"fingerprint {result.identity}")
    finished: dict[str, dict[int, RunResult]] = {name: {} for name in arms}
    lost = []
    for name, run in known.items():
        if run.seed not in run.arm.seeds:
            continue
        why = fault(results.get(name))
        if why:
            lost.append(LostRun(run_id=name, arm=run.arm.name, seed=run.seed, why=why))
        else:
            finished[run.arm.name][run.seed] = results[name]
    every = [run for of_arm in finished.values() for run in of_arm.values()]
    _check_alike(every, arms)
    sets = tuple(sorted(set().union(*(run.losses for run in every)), key=lambda name: (name == BEST, name)))
    groups = {TARGET: _target(study, size, sets)}
    groups |= {part: below(role, sets) for part, role in sorted(study.continual.items(), reverse=True)}
    return Runs(study, size, arms, finished, tuple(lost), sets, _weights(arms, every), groups)


def fault(result: RunResult | None) -> str:
    """Why a run may not be averaged in; empty where it may."""
    if result is None:
        return "missing"
    if result.status == "failed":
        return f"failed: {result.reason}"
    if not result.losses or not all(result.losses.values()):
        return "failed: not measured to its end"
    for held, by_weights in sorted(result.losses.items()):
        for kind, loss in sorted(by_weights.items()):
            if not (isfinite(loss.bits_per_byte) and isfinite(loss.nats_per_token)):
                return f"failed: its loss on {held} under {kind} weights is no number"
    return ""


def below(name: str, sets: Iterable[str]) -> tuple[str, ...]:
    """The sets that a name stands for: its own, and those of the sources below it (`old` for `old/web`)."""
    return tuple(held for held in sets if held == name or held.startswith(f"{name}/"))


def _check_alike(every: list[RunResult], arms: Mapping[str, Arm]) -> None:
    read: dict[tuple[object, ...], RunResult] = {}
    for run in every:
        arm = arms[run.arm]
        if run.tokens != arm.tokens:
            raise _not_ours(run.run_id, f"{arm.tokens:,} tokens", f"{run.tokens:,} tokens")
        if set(run.losses) != set(every[0].losses):
            raise ArtifactError(
                "runs were measured on other held-out sets, so their losses cannot be compared",
                expected=", ".join(sorted(every[0].losses)), found=", ".join(sorted(run.losses)), where=run.run_id,
                fix=AGAIN,
            )  # fmt: skip
        key = (
            arm.settings.mixture.model_dump_json(),
            arm.tokens,
            arm.settings.plan.sequence_length,
            run.seed,
            _cut(arm),
        )
        twin = read.setdefault(key, run)
        if twin.reading.multiset != run.reading.multiset:
            raise ArtifactError(
                f"{run.run_id} and {twin.run_id} have one mixture and one seed, and read other documents",
                expected="the same documents in another order", found="unequal checksums of their visits",
                where=run.run_id, fix=AGAIN,
            )  # fmt: skip


def _cut(arm: Arm) -> tuple[object, ...]:
    """How an arm's order cuts documents into pieces before it arranges them; arms that cut otherwise read otherwise."""
    order = arm.settings.order
    policies = list(order.values()) if isinstance(order, Mapping) else [order]
    return tuple(policy.pieces if isinstance(policy, LengthCycles) else None for policy in policies)


def _target(study: Study, size: str, sets: tuple[str, ...]) -> tuple[str, ...]:
    wanted = study.size(size).measured.target
    if not wanted or not sets:
        return tuple(held for held in sets if held != BEST)
    for name in wanted:
        if not below(name, sets):
            raise ConfigError(
                f"measured.target: there is no held-out set {name!r}{nearest(name, sets)}", found=", ".join(sets),
                where=f"study {study.name}, size {size}",
            )  # fmt: skip
    return tuple(held for held in sets if any(held in below(name, sets) for name in wanted))


def _weights(arms: Mapping[str, Arm], every: list[RunResult]) -> tuple[str, ...]:
    seen = {kind for run in every for by_weights in run.losses.values() for kind in by_weights}
    ordered = dict.fromkeys([RAW, *(kind for arm in arms.values() for kind in arm.averages), *sorted(seen)])
    return tuple(kind for kind in ordered if kind in seen)


def _not_ours(name: str, expected: str, found: str) -> ArtifactError:
    return ArtifactError(f"the result {name} is not of this study", expected=expected, found=found, fix=AGAIN)
