"""Pack a study into one folder that trains on a machine with only Python, torch and numpy, and no network.

The folder has the tokens that runs read and are measured on, each run's order and plan, our own code, a lock of
versions and a runner (`pipelines.experiments.bundle_format` says where). A run of it ends in the bits in which the run
ends here, on the same machine with the same versions; runs with the same settings are packed once.

    packed = pack(data, study, "gpu", runs_of(study, arms), Path("cma_bundle"))
    print(packed.bytes, packed.parts)
    # elsewhere: python cma_bundle/run.py; then, here: pipelines.experiments.bundle_collect.collect(...)
"""

import json
import platform
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from corpus.artifacts import Artifact
from corpus.errors import ConfigError
from corpus.fingerprints import canonical as canonical_text
from corpus.version import VERSION
from curriculum.order import Order
from pipelines.experiments.arms import Run
from pipelines.experiments.bundle_arrays import Spans, gathered, packed, spans_of
from pipelines.experiments.bundle_code import RUNTIME, carries, code_files
from pipelines.experiments.bundle_format import (
    FORMAT,
    HELDOUT,
    MANIFEST,
    PIECE_LENGTHS,
    PIECE_STARTS,
    RUNNER,
    TOKENS,
    canonical,
    digest,
    order_file,
    run_file,
)
from pipelines.experiments.pool import StudyData
from pipelines.experiments.reading import reading_of, write_run_order
from pipelines.experiments.results import BEST
from pipelines.experiments.study import RAW, Study
from pipelines.experiments.teaching import Together, ensembles_of
from pipelines.experiments.training import Training, trainings_of
from trainer_hooks.evaluation import HeldOut
from trainer_hooks.resolution import resolve

MOST_BYTES = 60_000_000
"""What a bundle of the study `cma` at `gpu` size has to fit; other studies may take more."""


@dataclass(frozen=True)
class Packed:
    """A bundle that was written: `parts` has the bytes of tokens, orders, code and the rest, `runs` how many train."""

    folder: Path
    bytes: int
    parts: Mapping[str, int]
    runs: int
    fingerprint: str


def pack(
    data: StudyData,
    study: Study,
    size: str,
    runs: Sequence[Run],
    folder: Path,
    *,
    request: Mapping[str, Any] | None = None,
) -> Packed:
    """Write a bundle, whole or not at all.

    Args:
        runs: of the study at the size, teachers and members of ensembles among them.
        folder: is made. request: plain data that `collect` gives back, such as what the study was asked with.

    Raises ConfigError where the folder is there already, or a run has a hook that a bundle does not carry; MixtureError
    and OrderError as `reading.write_run_order`.
    """
    if folder.exists():
        raise ConfigError(f"{folder} is there already", fix="name another folder, or remove it")
    trainings = trainings_of(runs, data)
    units = _units(trainings.values())
    _check_hooks(units.values())
    together = {one.key: one for several in ensembles_of(study.ensembles, trainings).values() for one in several}
    temporary = folder.with_name(f".{folder.name}.packing")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        files = _Files(temporary)
        described = _write_runs(files, data, units)
        described += _write_ensembles(files, together.values(), {key: one.run.id for key, one in units.items()})
        _write_heldout(files, data)
        for name, content in code_files().items():
            files.add(f"code/{name}", content)
        files.add(RUNNER, (RUNTIME / "run.py").read_bytes())
        fingerprint = _seal(files, data, study, size, described, request or {})
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Packed(folder, sum(files.parts.values()), files.parts, len(units), fingerprint)


def _units(trainings: Iterable[Training]) -> dict[str, Training]:
    """What is trained, by key, what others learn from first; of equal runs the first names them all."""
    found: dict[str, Training] = {}
    for training in sorted(trainings, key=lambda one: one.depth):
        found.setdefault(training.key, training)
    return found


def _seal(
    files: "_Files", data: StudyData, study: Study, size: str, runs: list[dict[str, Any]], request: Mapping[str, Any]
) -> str:
    """Write the manifest, the last of the files; its fingerprint."""
    facts = {
        "format": FORMAT, "gradatim": VERSION, "study": study.model_dump(mode="json"), "size": size,
        "data": _described(data), "request": dict(request), "lock": _lock(), "runs": runs, "files": files.digests,
    }  # fmt: skip
    fingerprint = digest(canonical(facts))
    files.add(MANIFEST, json.dumps({**facts, "fingerprint": fingerprint}, indent=1).encode())
    return fingerprint


class _Files:
    """The files of a bundle as they are written: their digests, and the bytes of each kind."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.digests: dict[str, str] = {}
        self.parts = dict.fromkeys(("tokens", "orders", "held-out documents", "code", "runs"), 0)

    def add(self, name: str, content: bytes) -> None:
        """Write a file."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        if name != MANIFEST:
            self.digests[name] = digest(content)
        self.parts[_part(name)] += len(content)

    def add_json(self, name: str, content: Any) -> None:
        """Write plain data."""
        self.add(name, json.dumps(content, indent=1).encode())


def _part(name: str) -> str:
    if name == TOKENS:
        return "tokens"
    if name.startswith("data/held"):
        return "held-out documents"
    if name.startswith("data/"):
        return "orders"
    return "code" if name.startswith("code/") or name == RUNNER else "runs"


def _write_runs(files: _Files, data: StudyData, units: Mapping[str, Training]) -> list[dict[str, Any]]:
    """Write what each run reads and how it trains; a line for the manifest of each."""
    names = {key: unit.run.id for key, unit in units.items()}
    visits: dict[str, Spans] = {}
    described = []
    with tempfile.TemporaryDirectory(prefix="gradatim-pack-") as scratch:
        for unit, order in _orders(list(units.values()), Path(scratch)):
            if order.fingerprint not in visits:
                visits[order.fingerprint] = _visits(order, data)
            described.append(_write_run(files, unit, order, names))
    spans, numbers = spans_of(list(visits.values()))
    tokens, pieces = gathered(spans, data.token_arrays())
    files.add(TOKENS, packed(tokens, planes=False))
    files.add(PIECE_STARTS, packed(np.diff(pieces.start, prepend=0)))
    files.add(PIECE_LENGTHS, packed(pieces.length))
    for fingerprint, order_numbers in zip(visits, numbers, strict=True):
        files.add(order_file(fingerprint), packed(order_numbers))
    return described


def _orders(units: Sequence[Training], scratch: Path) -> Iterator[tuple[Training, Order]]:
    """Each run with its order; runs that read the same have one."""
    made: dict[str, Order] = {}
    for unit in units:
        settings = unit.run.arm.settings
        reading = canonical_text([settings.mixture, unit.identity["order"], resolve(unit.plan).tokens, unit.run.seed])
        if reading not in made:
            made[reading] = write_run_order(unit.data, unit.run, scratch / str(len(made)))
        yield unit, made[reading]


def _visits(order: Order, data: StudyData) -> Spans:
    """What an order visits, by positions that count through all shards."""
    begins = np.cumsum([0, *map(len, data.token_arrays())])
    table = order.table(["shard", "start", "length"])
    shard, start, length = (table[name].to_numpy().astype(np.int64) for name in ("shard", "start", "length"))
    return Spans(begins[shard] + start, length)


def _write_run(files: _Files, unit: Training, order: Order, names: Mapping[str, str]) -> dict[str, Any]:
    run, arm = unit.run, unit.run.arm
    plan = unit.plan.model_dump(mode="json")
    needs = [names[teacher.key] for teacher in unit.teachers]
    if needs:
        plan["objective"]["teachers"] = [
            {"path": name, "weights": RAW} for name in needs
        ]  # the runner has their folders
    about = {
        "id": run.id, "arm": arm.name, "seed": run.seed, "key": unit.key, "tokens": arm.tokens, "flops": arm.flops,
        "needs": needs,
    }  # fmt: skip
    reading = reading_of(unit.data, run, order).model_dump(mode="json")
    model = arm.settings.model.model_dump(mode="json")
    files.add_json(
        run_file(run.id), {**about, "plan": plan, "model": model, "order": order.fingerprint, "reading": reading}
    )
    return about


def _write_ensembles(files: _Files, ensembles: Iterable[Together], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Write what is measured as one, after its members; `names` are those of the runs by their keys."""
    described = []
    for together in ensembles:
        first = together.members[0]
        about = {
            "id": f"ensemble-{together.name}.s{first.run.seed}", "arm": first.run.arm.name, "seed": first.run.seed,
            "key": together.key, "tokens": 0, "flops": 0.0, "needs": [names[one.key] for one in together.members],
        }  # fmt: skip
        plan = first.plan.model_dump(mode="json")
        files.add_json(run_file(str(about["id"])), {**about, "plan": plan, "ensemble": together.name})
        described.append(about)
    return described


def _write_heldout(files: _Files, data: StudyData) -> None:
    """Write what is measured on at the end, a set a source, and while training."""
    kinds = {"heldout": data.heldout_sets(), "curve": data.curve_sets()}
    kinds["heldout"].pop(BEST, None)  # its documents are in the others
    described: dict[str, list[dict[str, Any]]] = {}
    for kind, sets in kinds.items():
        for number, (name, one) in enumerate(sorted(sets.items())):
            places = {key: f"data/held-{kind}-{number}-{key}.xz" for key in ("tokens", "lengths")}
            files.add(places["tokens"], packed(one.tokens, planes=False))
            files.add(places["lengths"], packed(_lengths(one)))
            described.setdefault(kind, []).append({"name": name, "n_bytes": one.n_bytes, **places})
    files.add_json(HELDOUT, described)


def _lengths(one: HeldOut) -> npt.NDArray[np.int64]:
    assert one.lengths is not None, "held-out sets of studies know their documents"
    return one.lengths


def _described(data: StudyData) -> dict[str, Any]:
    """The names of what a study reads, and the fingerprints of the artifacts, by which another workspace is told."""
    names = {name: value for name, value in asdict(data).items() if name != "root"}
    artifacts = (data.tokenizer, *data.tokens, data.pool, data.heldout, data.curve)
    return {"names": names, "artifacts": {name: Artifact(data.root / name).manifest.fingerprint for name in artifacts}}


def _lock() -> dict[str, str]:
    return {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}


def _check_hooks(units: Iterable[Training]) -> None:
    for unit in units:
        for settings in unit.plan.hooks:
            if not carries(type(settings.make()).__module__):
                raise ConfigError(
                    f"the hook {settings.kind!r} of the arm {unit.run.arm.name} reads tables that no bundle has",
                    fix="train this study without a bundle: gradatim experiment run",
                )  # fmt: skip
