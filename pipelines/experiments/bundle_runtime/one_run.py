"""One run of a bundle: trained by `trainer_hooks.trainer.train`, measured, and its result written.

`results/RUN` gets the nats of every held-out document under each kind of weights, the trainer's metrics, and at last
`result.json`, sealed: without it the run is not done. What was trained so far is in `work/RUN`, from where it goes on.
"""

import fcntl
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from corpus.errors import EnvironmentProblem, TaskError
from corpus.whole_files import atomic_path, write_text
from pipelines.experiments.bundle_arrays import PackedOrder, Spans, unpacked
from pipelines.experiments.bundle_format import (
    HELDOUT,
    NATS,
    PIECE_LENGTHS,
    PIECE_STARTS,
    RESULT,
    TOKENS,
    Bundle,
    digest,
    order_file,
    sealed,
)
from pipelines.experiments.bundle_runtime.machine import machine_facts
from pipelines.experiments.heldout_nats import Floats, nats_by_set, weights_of
from trainer_hooks.determinism import reproducible
from trainer_hooks.evaluation import HeldOut
from trainer_hooks.loading import load_model
from trainer_hooks.metrics import METRICS
from trainer_hooks.model_config import ModelConfig
from trainer_hooks.objectives.ensemble import Ensemble
from trainer_hooks.parallel import Parallel
from trainer_hooks.plan import Plan
from trainer_hooks.throughput import Progress
from trainer_hooks.trainer import train

RAW = "raw"
SAID_EVERY = 10.0
"""Seconds between lines of progress."""


def do_run(bundle: Bundle, name: str, *, device: str | None) -> bool:
    """Train, measure and write a run, or measure an ensemble; whether it is done: not when it was asked to stop.

    A run whose loss stops being finite is done, too: its result says that it failed, and why. Raises
    EnvironmentProblem while another process has the same run.
    """
    if bundle.is_done(name) and bundle.outcome(name)["status"] == "failed":
        return True  # as it would again
    run, chosen, speed = bundle.run(name), Parallel().device(device), _Speed()
    plan = Plan.model_validate(_with_teachers(run, bundle))
    with _alone(bundle.work(name)):
        try:
            _check_needed(bundle, run)
            if "ensemble" not in run and not _trained(bundle, run, plan, chosen, speed):
                return False
            found, outcome = _measured(bundle, run, plan, chosen), {"status": "finished", "reason": ""}
        except TaskError as error:
            found, outcome = {}, {"status": "failed", "reason": f"{error.what}: {error.found}"}
        _write(bundle, name, {**outcome, "machine": machine_facts(chosen), "speed": speed.facts()}, found)
    return True


def packed_order(bundle: Bundle, fingerprint: str) -> PackedOrder:
    """An order of the bundle by its fingerprint."""
    starts, lengths, numbers = (
        unpacked((bundle.folder / path).read_bytes()).astype(np.int64)
        for path in (PIECE_STARTS, PIECE_LENGTHS, order_file(fingerprint))
    )
    return PackedOrder(Spans(np.cumsum(starts), lengths), numbers, fingerprint)


def heldout_sets(bundle: Bundle, kind: str) -> dict[str, HeldOut]:
    """The bundle's held-out sets by name: `heldout`, or the smaller `curve`."""
    found = {}
    for one in bundle.json(HELDOUT)[kind]:
        tokens, lengths = (unpacked((bundle.folder / one[key]).read_bytes()) for key in ("tokens", "lengths"))
        found[one["name"]] = HeldOut(tokens, one["n_bytes"], lengths.astype(np.int64))
    return found


def _trained(bundle: Bundle, run: Mapping[str, Any], plan: Plan, device: torch.device, speed: "_Speed") -> bool:
    done = train(
        packed_order(bundle, run["order"]), [unpacked((bundle.folder / TOKENS).read_bytes())],
        heldout_sets(bundle, "curve"), ModelConfig.model_validate(run["model"]), plan, bundle.work(run["id"]),
        device=device.type, on_step=speed,
    )  # fmt: skip
    return done.stopped is None


def _measured(bundle: Bundle, run: Mapping[str, Any], plan: Plan, device: torch.device) -> dict[str, dict[str, Floats]]:
    """Nats of the held-out documents, by weights and set."""
    sets, models = heldout_sets(bundle, "heldout"), weights_of(bundle.work(run["id"]), device)
    if "ensemble" in run:
        members = [load_model(bundle.work(name), RAW, device).model for name in run["needs"]]
        models = iter([(str(run["ensemble"]), Ensemble(members))])
    with reproducible(plan.threads, plan.deterministic):
        found = {weights: nats_by_set(model, sets, plan) for weights, model in models}
    for weights, by_set in found.items():
        if not all(np.isfinite(nats).all() for nats in by_set.values()):
            raise TaskError("the held-out loss is not finite", found=f"of {weights} weights")
    return found


def _with_teachers(run: Mapping[str, Any], bundle: Bundle) -> dict[str, Any]:
    """The run's plan; where it learns from other runs, with their folders as its teachers."""
    plan = dict(run["plan"])
    if teachers := plan["objective"].get("teachers"):
        moved = [{**teacher, "path": str(bundle.work(teacher["path"]))} for teacher in teachers]
        plan["objective"] = {**plan["objective"], "teachers": moved}
    return plan


def _check_needed(bundle: Bundle, run: Mapping[str, Any]) -> None:
    for name in run["needs"]:
        result = bundle.outcome(name)
        if result["status"] == "failed":
            what = "its member" if "ensemble" in run else "its teacher"
            raise TaskError(f"{what} {name} failed", found=result["reason"])


def _write(bundle: Bundle, name: str, facts: Mapping[str, Any], found: Mapping[str, Mapping[str, Floats]]) -> None:
    """Write a result; what was trained with must be what was packed, to the end."""
    bundle.check()
    folder, metrics = bundle.result(name), bundle.work(name) / METRICS
    rows = [np.concatenate([by_set[one] for one in sorted(by_set)]) for by_set in found.values()]
    with atomic_path(folder / NATS) as temporary, temporary.open("wb") as file:
        np.save(file, np.stack(rows) if rows else np.empty((0, 0)))
    with atomic_path(folder / METRICS) as temporary:
        temporary.write_bytes(metrics.read_bytes() if metrics.exists() else b"")
    files = {one: digest((folder / one).read_bytes()) for one in (NATS, METRICS)}
    result = {"bundle": bundle.fingerprint, "code": bundle.code, "run": name, **facts, "weights": list(found),
              "files": files}  # fmt: skip
    write_text(folder / RESULT, json.dumps(sealed(result), indent=1) + "\n")


class _Speed:
    """Prints a line of progress now and then, and remembers how fast the run went."""

    def __init__(self) -> None:
        self._said = 0.0
        self._last: Progress | None = None

    def __call__(self, progress: Progress) -> None:
        self._last = progress
        if time.monotonic() - self._said < SAID_EVERY and progress.step < progress.steps:
            return
        self._said = time.monotonic()
        mfu = "" if progress.mfu is None else f"  MFU {progress.mfu:.0%}"
        print(
            f"  step {progress.step:,}/{progress.steps:,}  loss {progress.loss:.4f}  lr {progress.rate:.2e}"
            f"  {progress.tokens_per_s:,.0f} tokens/s{mfu}  {progress.seconds_left / 60:.1f} min left",
            flush=True,
        )

    def facts(self) -> dict[str, Any] | None:
        """How fast the last steps were: about the machine, and part of no result."""
        last = self._last
        return None if last is None else {"tokens_per_s": round(last.tokens_per_s), "mfu": last.mfu}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Inside the block no other process has this run."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise EnvironmentProblem(
                f"another process trains {folder.name}", fix="give each its own share: --part 1/2, --part 2/2"
            ) from None
        yield
