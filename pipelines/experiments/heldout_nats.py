"""Nats of every held-out document under every kind of a run's weights: the part of measuring that needs the model.

Only torch, numpy and the trainer are imported, so that a bundle measures with the same code (`bundle_runtime`); losses
of sets are made of these numbers in `measuring`.

    for weights, model in weights_of(run_folder, device):
        found[weights] = nats_by_set(model, heldout_sets, plan)
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from trainer_hooks.determinism import matmul_dtype
from trainer_hooks.evaluation import HeldOut, document_nats
from trainer_hooks.loading import load_model, weights_in
from trainer_hooks.plan import Plan

Floats = npt.NDArray[np.float64]


def weights_of(run: Path, device: str | torch.device) -> Iterator[tuple[str, nn.Module]]:
    """Each kind of weights of a finished run: raw, then its averages in name order; one model at a time."""
    for name in weights_in(run):
        yield name, load_model(run, name, device).model


def nats_by_set(model: Any, sets: Mapping[str, HeldOut], plan: Plan) -> dict[str, Floats]:
    """Nats of each document by set, shape (documents,), computed as the plan says: its precision, its batches."""
    dtype = matmul_dtype(plan.precision, next(model.parameters()).device)
    return {
        name: document_nats(model, one, plan.sequence_length, plan.batch_sequences, dtype) for name, one in sets.items()
    }
