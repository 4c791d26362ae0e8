"""Whole runs with each optimizer: stopped and continued to the same bits, also at another number of ranks."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from test_ranks import losses, on_ranks

from trainer_hooks.trainer import train

CONSTANT = {"average": None, "phases": [{"warmup": "12.5%"}, {"stable": "87.5%"}]}
RUNS: dict[str, dict[str, Any]] = {
    "adamw": {"optimizer": "adamw"},
    "muon": {"optimizer": {"kind": "muon", "ns_precision": "fp32"}},
    "apollo": {"optimizer": {"kind": "apollo", "every": 3}},
    "apollo_mini": {"optimizer": {"kind": "apollo_mini", "every": 3}},
    "frugal": {"optimizer": {"kind": "frugal", "every": 3}, "peak_lr": 0.0003},
    "schedule_free": {"optimizer": "schedule_free", **CONSTANT},
}


def run(workspace: Any, tiny: Any, folder: Path, name: str, stop_at: int | None = None) -> Any:
    """A run on one rank, or its rest; ends with an error after `stop_at` steps."""

    def on_step(progress: Any) -> None:
        if progress.step == stop_at:
            raise KeyboardInterrupt

    order = workspace.order, workspace.arrays, workspace.heldout, tiny.model
    return train(*order, tiny.plan(**RUNS[name]), folder, device="cpu", on_step=on_step)


def state_of(folder: Path) -> dict[str, Any]:
    """All tensors of a run's last checkpoint."""
    last = max((folder / "checkpoints").glob("step-*"))
    return {name: value for file in last.glob("*.safetensors") for name, value in load_file(file).items()}


@pytest.mark.parametrize("name", RUNS)
def test_a_stopped_run_continues_to_the_same_bits(workspace: Any, tiny: Any, tmp_path: Path, name: str) -> None:
    """Weights, optimizer state, losses and metrics; FRUGAL has gone on to other matrices by then."""
    run(workspace, tiny, tmp_path / "whole", name)
    with pytest.raises(KeyboardInterrupt):
        run(workspace, tiny, tmp_path / "parts", name, stop_at=13)
    assert run(workspace, tiny, tmp_path / "parts", name).resumed_from > 0
    whole, parts = state_of(tmp_path / "whole"), state_of(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert [key for key in whole if not whole[key].equal(parts[key])] == []
    files = [(tmp_path / part / "metrics.jsonl").read_bytes() for part in ("whole", "parts")]
    assert files[0] == files[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["apollo", "frugal", "schedule_free"])
def test_a_run_of_two_ranks_goes_on_alone(workspace: Any, tiny: Any, tmp_path: Path, name: str) -> None:
    """Sharded state is saved by two ranks under FSDP2 and loaded whole by one.

    FRUGAL has a small rate here: the sign of a gradient near 0 makes a whole step of what was a rounding.
    """
    run(workspace, tiny, tmp_path / "alone", name)
    on_ranks(2, workspace, tmp_path / "both", last=13, **RUNS[name])
    assert len(losses(tmp_path / "both")) == 14
    assert run(workspace, tiny, tmp_path / "both", name).resumed_from == 14
    assert losses(tmp_path / "both") == pytest.approx(losses(tmp_path / "alone"), rel=1e-5)
