"""Whether a machine will do for a bundle's runs: versions, disk, and what the work comes to."""

import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from pipelines.experiments.bundle_format import WORK, Bundle
from trainer_hooks.model_config import ModelConfig
from trainer_hooks.model_size import parameter_count
from trainer_hooks.plan import Plan
from trainer_hooks.resolution import resolve
from trainer_hooks.throughput import peak_flops

ASSUMED_MFU = 0.35
"""Only for the time that is printed beforehand; while it trains, the runner measures."""


def versions() -> dict[str, str]:
    """Of what results depend on."""
    return {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}


def machine_facts(device: torch.device) -> dict[str, Any]:
    """What a result says about where it was made."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {"versions": versions(), "device": device.type, "name": name, "threads": torch.get_num_threads()}


def differing_versions(bundle: Bundle) -> list[str]:
    """What is here in another version than the bundle was packed with: the same run may then end in other bits."""
    lock: Mapping[str, str] = bundle.facts["lock"]
    return [
        f"{name} {here} is not the {lock[name]} this bundle was packed with: results may differ in their last bits"
        for name, here in versions().items() if here != lock[name]
    ]  # fmt: skip


def left_of(bundle: Bundle, chosen: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What is to be done of the chosen runs: those without a result, and those whose weights others still need."""
    left = {run["id"] for run in chosen if not bundle.is_done(run["id"])}
    for run in reversed(chosen):  # what is needed comes first
        if run["id"] in left:
            left |= set(run["needs"])
    return [run for run in chosen if run["id"] in left]


def report(bundle: Bundle, chosen: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Lines about a bundle and what is to be trained of it."""
    study, left = f"{bundle.facts['study']['name']} ({bundle.facts['size']})", left_of(bundle, chosen)
    yield f"{study}, bundle {bundle.fingerprint[:16]}: every file is as it was packed"
    yield "versions: " + ", ".join(f"{name} {here}" for name, here in versions().items())
    yield from (f"  {line}" for line in differing_versions(bundle))
    for run in chosen:
        state = "to do" if run in left else "done"
        yield f"  {run['id']:<40} {run['tokens']:>15,} tokens  {run['flops']:>9.2e} FLOPs  {state}"
    tokens, flops = (sum(run[name] for run in left) for name in ("tokens", "flops"))
    yield f"to do: {len(left)} of {len(chosen)} runs, {tokens:,} tokens, {flops:.3g} FLOPs"
    yield _time_line(flops)
    needed, free = disk_needed(bundle, chosen), free_disk(bundle)
    yield f"disk: about {needed / 1e9:,.2f} GB at a time, {free / 1e9:,.2f} GB free"


def _time_line(flops: float) -> str:
    if not torch.cuda.is_available():
        return "device: cpu; its speed is printed while it trains"
    device = torch.device("cuda")
    name, peak = torch.cuda.get_device_name(device), peak_flops(device)
    if peak is None:
        return f"device: {name}; its speed is printed while it trains"
    hours = flops / (peak * ASSUMED_MFU) / 3600
    return f"device: {name}; {hours:.1f} hours if {ASSUMED_MFU:.0%} of its peak is reached"


def disk_report(bundle: Bundle, chosen: Sequence[Mapping[str, Any]]) -> str | None:
    """What is wrong with the disk; None where there is room."""
    needed, free = disk_needed(bundle, chosen), free_disk(bundle)
    if needed <= free:
        return None
    return f"there is too little room for checkpoints: {needed / 1e9:,.2f} GB needed, {free / 1e9:,.2f} GB free"


def free_disk(bundle: Bundle) -> int:
    """Bytes free where checkpoints go, those that are there included."""
    own = bundle.folder / WORK
    used = sum(path.stat().st_size for path in own.rglob("*") if path.is_file()) if own.is_dir() else 0
    return shutil.disk_usage(bundle.folder).free + used


def disk_needed(bundle: Bundle, chosen: Sequence[Mapping[str, Any]]) -> int:
    """Bytes of checkpoints at a time: of the largest run, and of all whose weights others need."""
    left = left_of(bundle, chosen)
    sizes = {run["id"]: checkpoint_bytes(bundle.run(run["id"])) for run in left}
    kept = sum(sizes[name] for name in {need for run in left for need in run["needs"]})
    return max(sizes.values(), default=0) + kept


def checkpoint_bytes(run: Mapping[str, Any]) -> int:
    """The most that a run's checkpoints take: weights, two moments and every average, in each one that is kept."""
    if "ensemble" in run:
        return 0
    resolved = resolve(Plan.model_validate(run["plan"]))
    marks = {mark for average in resolved.averages.values() for mark in average.marks if average.saves(mark)}
    kept = len(marks) + resolved.plan.keep.last + 1  # one is being written
    tensors = 3 + len(resolved.averages)
    return 4 * parameter_count(ModelConfig.model_validate(run["model"])) * tensors * kept
