"""Checkpoints: all that is needed to continue exactly, written beside the training, whole or not there.

A checkpoint is a folder `step-00000120` of safetensors files and `state.json`. torch.distributed.checkpoint writes the
tensors: each rank its own parts, in a thread, from copies, so that training waits only while they are copied; and it
reads them back at any number of ranks. They are stored as safetensors because DCP's own format keeps a pickle, and
nothing here is ever unpickled. `state.json` holds the rest (step, loader, averages, hooks) and a checksum of each file;
it is written last, and then the folder gets its name.

Tensors are named `model|NAME`, `optimizer|PARAMETER|FIELD`, `average|NAME|KEY` and `hook|NUMBER-KIND|KEY`; those of the
model, of the optimizer and the rest lie in files of their own, so that weights can be read without the others.
"""

import errno
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save

from corpus.errors import ArtifactError
from corpus.fingerprints import file_checksum
from corpus.whole_files import disk_full, saying_when_full, write_text
from trainer_hooks.averaging import RunningAverage, unique_tensors
from trainer_hooks.hooks.base import Hook
from trainer_hooks.model import Decoder
from trainer_hooks.optimizers.state import prepare_state
from trainer_hooks.parallel import Parallel

# A single process is meant; the warning comes from the writing thread, where no context could silence it.
warnings.filterwarnings("ignore", message="torch.distributed is disabled")

STATE = "state.json"
UNFINISHED, DAMAGED = ".unfinished", ".damaged"
MODEL, OPTIMIZER = "model", "optimizer"
_FILE_OF = {MODEL: 1, OPTIMIZER: 2}
_REST = 3
Tensors = dict[str, torch.Tensor]
State = dict[str, Any]


@dataclass
class Training:
    """The objects whose state is a training run's state."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    averages: Mapping[str, RunningAverage] = field(default_factory=dict)
    hooks: Sequence[Hook] = ()

    def tensors(self) -> Tensors:
        """Every tensor of the state by its name in a checkpoint; they are the objects' own."""
        found = {f"{MODEL}|{name}": value for name, value in unique_tensors(self.model).items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                found[f"{OPTIMIZER}|{name}|{key}"] = value
        for name, average in self.averages.items():
            found |= {f"average|{name}|{key}": value for key, value in average.tensors().items()}
        for label, hook in self._labelled():
            found |= {f"hook|{label}|{key}": value for key, value in hook.tensors().items()}
        return found

    def facts(self) -> State:
        """The rest of the state, as plain JSON values."""
        extra = getattr(self.optimizer, "extra_state", None)
        return {
            "optimizer": extra() if extra else {},
            "averages": {name: average.state() for name, average in self.averages.items()},
            "hooks": {label: hook.state() for label, hook in self._labelled()},
        }

    def restore(self, facts: State, tensors: Tensors) -> None:
        """Go on from a checkpoint, whose model and optimizer are in place already.

        An average or a hook that the checkpoint does not know begins here: an edited plan may add one.
        """
        for name, average in self.averages.items():
            if name in facts["averages"]:
                average.load(facts["averages"][name], _below(tensors, f"average|{name}|"))
        for label, hook in self._labelled():
            if label in facts["hooks"]:
                hook.load(facts["hooks"][label], _below(tensors, f"hook|{label}|"))

    def _labelled(self) -> list[tuple[str, Hook]]:
        return [(f"{number}-{hook.kind}", hook) for number, hook in enumerate(self.hooks)]


class Checkpoints:
    """The checkpoints of a run's folder: written in the background, found, read, and removed when they are old."""

    def __init__(self, folder: Path, parallel: Parallel, kept: Callable[[list[int]], set[int]]) -> None:
        """Use `folder`; `kept` says which of the finished steps, in rising order, stay."""
        self.folder, self._parallel, self._kept = folder, parallel, kept
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def save(self, step: int, training: Training, state: State) -> None:
        """Copy the state after `step` steps and write it in the background; `state` is plain JSON data.

        The checkpoint before it is finished first. Raises as `finish`.
        """
        self.finish()
        path = checkpoint_path(self.folder, step)
        temporary = path.with_name(f".{path.name}{UNFINISHED}")
        if self._parallel.first:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        self._parallel.wait()
        tensors = training.tensors()
        files = {name: _FILE_OF.get(name.split("|")[0], _REST) for name in tensors}
        writer = HuggingFaceStorageWriter(str(temporary), fqn_to_index_mapping=files, save_distributed=True)
        alone = self._parallel.world == 1
        with _explained(self.folder):
            written: Any = async_save(tensors, storage_writer=writer, process_group=self._parallel.group, no_dist=alone)
        facts = {**state, **training.facts(), "step": step, "world": self._parallel.world}
        self._writing = self._thread.submit(self._complete, written, temporary, path, facts)

    def finish(self) -> None:
        """Return when what is being written is whole. Raises EnvironmentProblem when the disk is full."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def prune(self) -> None:
        """Remove leftovers of interrupted writes and the checkpoints that do not stay; on the first rank."""
        if not self._parallel.first:
            return
        for leftover in self.folder.glob(f".step-*{UNFINISHED}"):
            shutil.rmtree(leftover)
        found = checkpoints_in(self.folder)
        kept = self._kept(list(found))
        for step, path in found.items():
            if step not in kept:
                (path / STATE).unlink()  # without its state a half-removed checkpoint is not one
                shutil.rmtree(path)

    def load(self, training: Training, damaged: Callable[[Path, str], None]) -> State | None:
        """Restore the newest whole checkpoint into existing objects and return its state; None where there is none.

        A damaged one is set aside under another name, `damaged` is told, and the one before it is taken.

        Raises ArtifactError when there are checkpoints and none is whole, or names and shapes are not the run's.
        """
        problems: list[str] = []
        for step in reversed(self._parallel.told(list(checkpoints_in(self.folder)))):
            path = checkpoint_path(self.folder, step)
            problem = self._parallel.told(damage(path) if self._parallel.first else None)
            if problem is None:
                return _read(path, training, self._parallel)
            problems.append(problem)
            if self._parallel.first:
                aside = path.with_name(path.name + DAMAGED)
                shutil.rmtree(aside, ignore_errors=True)
                path.replace(aside)
                damaged(aside, problem)
        if problems:
            raise ArtifactError(
                "no checkpoint of this run is whole",
                expected="one whole checkpoint to go on from",
                found="; ".join(problems),
                where=str(self.folder),
                fix=f"remove {self.folder} to begin again",
            )
        return None

    def _complete(self, written: "Future[Any]", temporary: Path, path: Path, facts: State) -> None:
        with _explained(self.folder):
            written.result()
            if not self._parallel.first:
                return
            for file in temporary.iterdir():
                _settle(file)
            sums = {file.name: file_checksum(file) for file in sorted(temporary.iterdir())}
            text = json.dumps({**facts, "checksums": sums}, indent=1, sort_keys=True)
            write_text(temporary / STATE, text + "\n")
            shutil.rmtree(path, ignore_errors=True)
            temporary.replace(path)
            _flush_folder(self.folder)
            self.prune()


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint after `step` steps lies."""
    return folder / f"step-{step:08d}"


def checkpoints_in(folder: Path) -> dict[int, Path]:
    """The finished checkpoints of a folder, by step, in rising order."""
    paths = [path.parent for path in folder.glob(f"step-*/{STATE}")]
    return {int(path.name.removeprefix("step-")): path for path in sorted(paths) if path.name[5:].isdigit()}


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint: a file that is missing or has other content; None when it is whole."""
    try:
        state: State = json.loads((path / STATE).read_text())
        sums = dict(state["checksums"])
    except (OSError, ValueError, KeyError) as error:
        return f"{path.name}: {STATE} cannot be read ({type(error).__name__})"
    for name, checksum in sums.items():
        if not (path / name).exists():
            return f"{path.name}: {name} is missing"
        if file_checksum(path / name) != checksum:
            return f"{path.name}: {name} has other content than when it was written"
    return None


def weights_checksums(path: Path) -> list[str]:
    """xxh3-64 of the files that hold a checkpoint's model, from its state; one a rank that wrote it."""
    sums: dict[str, str] = json.loads((path / STATE).read_text())["checksums"]
    return [sums[name] for name in sorted(sums) if f"-model-{_FILE_OF[MODEL]:05d}-of-" in name]


def _read(path: Path, training: Training, parallel: Parallel) -> State:
    state: State = json.loads((path / STATE).read_text())
    if isinstance(training.model, Decoder):
        training.model.set_progress(state["tokens"])
    load_extra = getattr(training.optimizer, "load_extra_state", None)
    if load_extra:
        load_extra(state["optimizer"])  # before its tensors: it may decide which there are
    prepare_state(training.optimizer)
    reader = HuggingFaceStorageReader(str(path))
    saved = reader.read_metadata().state_dict_metadata
    tensors = training.tensors()
    _check(path, {name: tuple(meta.size) for name, meta in saved.items()}, tensors)  # type: ignore[union-attr]
    for name, meta in saved.items():  # what averages and hooks have gathered since they began
        if name not in tensors or tuple(tensors[name].shape) != tuple(meta.size):  # type: ignore[union-attr]
            tensors[name] = torch.empty(meta.size, dtype=meta.properties.dtype)  # type: ignore[union-attr]
    wanted = {name: tensors[name] for name in saved}
    load(wanted, storage_reader=HuggingFaceStorageReader(str(path)), no_dist=parallel.world == 1)
    training.restore(state, wanted)
    return state


def _check(path: Path, saved: dict[str, tuple[int, ...]], tensors: Tensors) -> None:
    """Model and optimizer must hold exactly what was saved: a tensor left out would be a silent reset."""
    own = {
        name: tuple(value.shape) for name, value in tensors.items() if name.startswith((f"{MODEL}|", f"{OPTIMIZER}|"))
    }
    there = {name: shape for name, shape in saved.items() if name.startswith((f"{MODEL}|", f"{OPTIMIZER}|"))}
    if own != there:
        differing = sorted(name for name in {**own, **there} if own.get(name) != there.get(name))
        raise ArtifactError(
            "this checkpoint holds another state than the run's",
            expected=", ".join(f"{name} {own.get(name, 'absent')}" for name in differing[:3]),
            found=", ".join(f"{name} {there.get(name, 'absent')}" for name in differing[:3]),
            where=str(path),
            fix="use the model and the optimizer the run began with, or another folder",
        )


def _settle(path: Path) -> None:
    """Put the header of a safetensors file in one order, so that equal states are equal files.

    The library writes the header's facts in the order of a hash map, another one each time.
    """
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) > size:
            raise ArtifactError("a safetensors header has another form than it used to", where=str(path))
        file.seek(8)
        file.write(text.ljust(size))
        file.flush()
        os.fsync(file.fileno())


def _below(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn a full disk, which DCP reports in an error of its own, into one that says so."""
    try:
        with saying_when_full(folder / STATE):
            yield
    except CheckpointException as error:
        if any(getattr(failure[0], "errno", None) == errno.ENOSPC for failure in error.failures.values()):
            raise disk_full(folder / STATE) from error
        raise


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
