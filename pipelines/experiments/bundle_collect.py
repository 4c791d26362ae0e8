"""Bring the results of a bundle back: checked against its fingerprint, then kept as if they had been trained here.

A result is taken when the bundle is as it was packed, the result is sealed, names that bundle and that code, and fits
the runs that the study has here today, by the keys under which results are kept. Then `runs.train_runs` finds all of
them and trains nothing: the artifact has the form that a local run leaves. Runs that are not there are named, and left
out of the artifact; the analysis says of each arm how many it has.

    collected = collect(Path("cma_bundle"), shop)
    collected.runs, collected.missing, collected.failed
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from corpus.artifacts import Artifact
from corpus.config import validated
from corpus.errors import ArtifactError
from corpus.shards import write_table, write_text
from pipelines.build import Workshop
from pipelines.experiments.arms import arms_of, runs_of
from pipelines.experiments.bundle_format import NATS, RESULT, RESULTS, Bundle, digest, is_sealed
from pipelines.experiments.measuring import Measures, curve_of, measures_of
from pipelines.experiments.pool import StudyData
from pipelines.experiments.results import BEST, Reading, RunResult, as_failed
from pipelines.experiments.runs import train_runs
from pipelines.experiments.study import Study
from pipelines.experiments.teaching import Together, ensembles_of, with_measures
from pipelines.experiments.training import Training, trainings_of
from trainer_hooks.model_size import parameter_count
from trainer_hooks.resolution import resolve


@dataclass(frozen=True)
class Collected:
    """What a bundle's results came to.

    Attributes:
        runs: the artifact of those that are there; its name is `experiments/<study>-<size>/runs`.
        missing: ids of runs that were not begun, or that are half-finished; failed: those whose loss was not finite.
        warnings: where results were made with other versions than the bundle was packed with.
        request: what `pack` was given.
    """

    study: Study
    size: str
    data: StudyData
    runs: Artifact
    missing: tuple[str, ...]
    failed: tuple[str, ...]
    warnings: tuple[str, ...]
    request: Mapping[str, Any]


def collect(folder: Path, shop: Workshop, *, results: Path | None = None) -> Collected:
    """Check the results of a bundle and keep them in a workspace.

    Args:
        folder: the bundle as it was packed. results: where its folder of results is, if not in it.

    Raises ArtifactError for a bundle that was changed, results of another bundle or of other code, results that were
    edited or cut off, a workspace whose tokens or scores are others, runs that this version would train otherwise, and
    a bundle without a single result.
    """
    bundle = Bundle.open(folder)
    bundle.check()
    study, size = validated(Study, bundle.facts["study"], str(folder)), str(bundle.facts["size"])
    data = _data(bundle, shop)
    runs = runs_of(study, arms_of(study, size))
    trainings = trainings_of(runs, data)
    together = {one.key: one for several in ensembles_of(study.ensembles, trainings).values() for one in several}
    _check_keys(bundle, {one.key for one in trainings.values()} | set(together))
    place = results or folder / RESULTS
    found = _outcomes(bundle, place)
    _keep_all(bundle, place, trainings, together, found)
    there = [run for run in runs if _is_there(trainings[run.id], found)]
    if not there:
        raise ArtifactError("this bundle has no result yet", where=str(place), fix=f"python {folder}/run.py")
    whole = len(there) == len(runs) and set(together) <= set(found)
    made = train_runs(
        shop, f"experiments/{study.name}-{size}/runs", there, data,
        ensembles=study.ensembles if whole else {},
    )  # fmt: skip
    return Collected(
        study, size, data, made,
        missing=tuple(run.id for run in runs if run not in there),
        failed=tuple(run.id for run in there if found[trainings[run.id].key]["status"] == "failed"),
        warnings=tuple(_warnings(bundle, found.values())), request=bundle.facts["request"],
    )  # fmt: skip


def _keep_all(
    bundle: Bundle,
    place: Path,
    trainings: Mapping[str, Training],
    together: Mapping[str, Together],
    found: Mapping[str, Mapping[str, Any]],
) -> None:
    """Keep every result that is there, as if its run or ensemble had been trained or measured here."""
    for training in {one.key: one for one in trainings.values()}.values():
        if training.key in found:
            _keep(bundle, place, training, found[training.key])
    for key, one in together.items():
        if key in found and found[key]["status"] == "finished":
            one.keep(_measures(place, found[key], next(iter(trainings.values())).data))


def _data(bundle: Bundle, shop: Workshop) -> StudyData:
    """What the study reads, as it is in this workspace. Raises ArtifactError where that is not what was packed."""
    for name, fingerprint in bundle.facts["data"]["artifacts"].items():
        here = Artifact(shop.root / name).manifest.fingerprint
        if here != fingerprint:
            raise ArtifactError(
                f"{name} is not what this bundle was packed from", expected=f"fingerprint {fingerprint}",
                found=f"fingerprint {here}", where=str(shop.root),
                fix="collect it in the workspace that packed it, with the same documents and scores",
            )  # fmt: skip
    names = bundle.facts["data"]["names"]
    return StudyData(root=shop.root, **{**names, "tokens": tuple(names["tokens"])})


def _check_keys(bundle: Bundle, keys: set[str]) -> None:
    """Raise ArtifactError where this version would train or measure a run of the bundle otherwise."""
    for line in bundle.facts["runs"]:
        if line["key"] not in keys:
            raise ArtifactError(
                f"this version of gradatim would train {line['id']} otherwise than the bundle does",
                expected=f"a run with the key {line['key']}", found=f"bundle of version {bundle.facts['gradatim']}",
                where=str(bundle.folder), fix="collect it with the version that packed it, or pack and train anew",
            )  # fmt: skip


def _outcomes(bundle: Bundle, place: Path) -> dict[str, dict[str, Any]]:
    """The results that are there, by key."""
    found = {line["key"]: _outcome(bundle, place / line["id"]) for line in bundle.facts["runs"]}
    return {key: one for key, one in found.items() if one is not None}


def _outcome(bundle: Bundle, folder: Path) -> dict[str, Any] | None:
    """A run's result, checked; None where it has none."""
    path = folder / RESULT
    if not path.is_file():
        return None
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise _refused("is damaged", "a JSON file", "text that is none", path) from None
    if not isinstance(facts, dict) or not is_sealed(facts):
        raise _refused("was edited or cut off", "what the runner wrote", "another seal", path)
    for name, expected in (("bundle", bundle.fingerprint), ("code", bundle.code), ("run", folder.name)):
        if facts[name] != expected:
            raise _refused(f"is of another {name}", expected, str(facts[name]), path)
    for name, sha in facts["files"].items():
        if not (folder / name).is_file() or digest((folder / name).read_bytes()) != sha:
            raise _refused(f"has another {name} than it was written with", f"SHA-256 {sha}", "another file", folder)
    return facts


def _refused(what: str, expected: str, found: str, where: Path) -> ArtifactError:
    return ArtifactError(
        f"the result of a run {what}", expected=expected, found=found, where=str(where),
        fix="copy it again from the machine that made it, or remove its folder: the run is then missing",
    )  # fmt: skip


def _is_there(training: Training, found: Mapping[str, Any]) -> bool:
    """Whether a run has a result, and all that it learned from."""
    return training.key in found and all(_is_there(teacher, found) for teacher in training.teachers)


def _keep(bundle: Bundle, place: Path, training: Training, outcome: Mapping[str, Any]) -> None:
    """Write a run's result to where the workspace keeps those of runs that were trained here."""
    run, arm, folder = training.run, training.run.arm, place / outcome["run"]
    resolved = resolve(training.plan)
    result = RunResult(
        run_id=run.id, arm=arm.name, seed=run.seed, identity=training.key, status="finished", steps=resolved.steps,
        tokens=resolved.tokens, flops=arm.flops, parameters=parameter_count(arm.settings.model),
        reading=Reading.model_validate(bundle.run(outcome["run"])["reading"]),
    )  # fmt: skip
    if outcome["status"] == "failed":
        result = as_failed(result, outcome["reason"])
    else:
        measures = _measures(place, outcome, training.data)
        write_table(training.documents, measures.documents)
        result = with_measures(result.model_copy(update={"curve": curve_of(folder)}), measures)
    write_text(training.kept, result.model_dump_json(indent=1) + "\n")


def _measures(place: Path, outcome: Mapping[str, Any], data: StudyData) -> Measures:
    """What a result's nats come to. Raises ArtifactError for those of other documents."""
    sets = sorted((name, one) for name, one in data.heldout_sets().items() if name != BEST)
    counts = [0 if one.lengths is None else len(one.lengths) for _, one in sets]
    path = place / outcome["run"] / NATS
    nats = np.load(path, allow_pickle=False)
    if nats.shape != (len(outcome["weights"]), sum(counts)):
        raise _refused("is of other held-out documents", f"{sum(counts):,} documents", str(nats.shape), path)
    cuts = np.cumsum(counts)[:-1]
    rows = (np.split(row, cuts) for row in nats)
    names = [name for name, _ in sets]
    return measures_of(
        {weights: dict(zip(names, row, strict=True)) for weights, row in zip(outcome["weights"], rows, strict=True)},
        data,
    )


def _warnings(bundle: Bundle, outcomes: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Where results were made with other versions than those of the lock."""
    lock, seen = bundle.facts["lock"], dict[str, None]()
    for one in outcomes:
        for name, version in one["machine"]["versions"].items():
            if version != lock[name]:
                seen[f"{name} {version}, packed with {lock[name]}"] = None
    yield from (f"results were made with {line}: they may differ in their last bits" for line in seen)
