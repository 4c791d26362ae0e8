"""What a complete run writes of its averages: a file of weights each, and the facts of its merge beside it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from corpus.whole_files import atomic_path, write_text
from trainer_hooks.averaging import unique_tensors
from trainer_hooks.checkpoints import checkpoints_in, weights_checksums
from trainer_hooks.parallel import whole
from trainer_hooks.run import SCHEDULE_FREE, Run
from trainer_hooks.tensor_file import write_tensor_file


def write_averages(run: Run, checkpoints: Path) -> dict[str, Path]:
    """Write `averages/NAME.safetensors` and NAME.json for each average, on the first rank; the files by name.

    Every rank makes the same call: the parts of a tensor come together one tensor at a time.

    Args:
        checkpoints: the folder of the run's checkpoints, whose checksums the facts name.
    """
    own = [SCHEDULE_FREE] if SCHEDULE_FREE in run.variants and SCHEDULE_FREE not in run.averages else []
    written = {}
    for name in [*run.averages, *own]:
        written[name] = run.folder / "averages" / f"{name}.safetensors"
        tensors = _tensors(run, name)
        if not run.parallel.first:
            for value in tensors.values():
                whole(value)
            continue
        shapes = {key: (tuple(value.shape), value.dtype) for key, value in tensors.items()}
        with atomic_path(written[name]) as temporary:
            write_tensor_file(temporary, shapes, _each_whole(tensors))
        facts = _facts(run, name, checkpoints) if name in run.averages else {"kind": name, "dtype": "float32"}
        write_text(written[name].with_suffix(".json"), json.dumps(facts, indent=1) + "\n")
    return written


def _tensors(run: Run, name: str) -> dict[str, torch.Tensor]:
    """An average's tensors, of those that the model still has, by name."""
    own, average = unique_tensors(run.model), run.averaged(name).average()
    return {key: average[key] for key in sorted(average) if key in own}


def _each_whole(tensors: dict[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    for key, value in tensors.items():
        yield key, whole(value)


def _facts(run: Run, name: str, checkpoints: Path) -> dict[str, Any]:
    """An average's scheme and marks, and of marks that are checkpoints their weights and checksums."""
    average, found = run.resolved.averages[name], checkpoints_in(checkpoints)
    facts = {
        "settings": average.average.model_dump(mode="json"), "dtype": "float32",
        "first": average.first, "every": average.every, "until": average.until,
    }  # fmt: skip
    if not average.saves(average.until):
        return facts
    final, merged = average.final(), []
    for mark, coefficient in zip(final.marks, final.coefficients, strict=True):
        step = int(mark) // run.resolved.step_tokens
        sums = weights_checksums(found[step]) if step in found else None
        merged.append({"step": step, "tokens": int(mark), "coefficient": float(coefficient), "weights_xxh3": sums})
    return {**facts, "checkpoints": merged}
