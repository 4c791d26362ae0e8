"""Which parameter is what to an optimizer: hidden matrices, embeddings, the head, and vectors, each a named group.

Hidden matrices (those of structured layers too) decay, and are what Muon, APOLLO and FRUGAL are about; vectors (norm
scales, biases) never decay; embeddings and the head decay as the settings say. A tied head is the embedding.

    for group in parameter_groups(model, settings):
        print(group["name"], group["weight_decay"], [name for name, _ in group["params"]])
"""

from collections.abc import Iterator
from typing import Any

from torch import nn

from trainer_hooks.optimizers.kinds import OptimizerSettings

MATRICES, TENSORS, EMBEDDINGS, HEAD, VECTORS = "matrices", "tensors", "embeddings", "head", "vectors"
_HEAD_MODULES = {"lm_head", "embed_out"}


def parameter_groups(model: nn.Module, settings: OptimizerSettings) -> list[dict[str, Any]]:
    """The groups of a model's trainable parameters, empty ones left out, in the form torch's optimizers take.

    Each has `name`, `params` (pairs of name and parameter) and `weight_decay`. Names are those of the model given:
    give the model itself, not what DistributedDataParallel wraps around it.
    """
    decay = {
        MATRICES: True,
        TENSORS: True,
        EMBEDDINGS: settings.decay_embeddings,
        HEAD: settings.decay_head,
        VECTORS: False,
    }
    members: dict[str, list[tuple[str, nn.Parameter]]] = {role: [] for role in decay}
    for role, name, parameter in roles(model):
        members[role].append((name, parameter))
    return [
        {"name": role, "params": params, "weight_decay": settings.weight_decay if decay[role] else 0.0}
        for role, params in members.items()
        if params
    ]


def roles(model: nn.Module) -> Iterator[tuple[str, str, nn.Parameter]]:
    """Role, name and parameter of everything that trains, in the model's order; tied parameters once.

    The roles: `embeddings` and `head` by where a parameter lies, all others by their dimensions: `vectors` below 2,
    `matrices` 2, `tensors` above.
    """
    embedded = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if id(parameter) in embedded:
            role = EMBEDDINGS
        elif parameter.ndim < 2:
            role = VECTORS
        elif not _HEAD_MODULES.isdisjoint(name.split(".")):
            role = HEAD
        else:
            role = MATRICES if parameter.ndim == 2 else TENSORS
        yield role, name, parameter
