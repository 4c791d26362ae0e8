"""Load a model of ours for reading: from an export, a run folder with its averages, or a single checkpoint.

What evaluates, compares or teaches needs weights and a shape, whatever wrote them. A run folder holds several sets
of weights under names: `raw` are those of its newest checkpoint, the others are its averages.

    model, config, tokenizer = load_model(Path("runs/climb"), weights="ema")
    weights_in(Path("runs/climb"))                           # {"raw": .../step-00000488, "ema": .../ema.safetensors}
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from corpus.config import load_yaml, nearest, validated
from corpus.errors import ArtifactError, ConfigError
from trainer_hooks.averaging import unique_tensors
from trainer_hooks.checkpoints import STATE, checkpoints_in
from trainer_hooks.model import Decoder
from trainer_hooks.model_config import ModelConfig
from trainer_hooks.run_identity import PLAN_FILE
from trainer_hooks.stored_weights import StoredWeights, open_weights

RAW = "raw"
TOKENIZER, HF_CONFIG = "tokenizer.json", "config.json"


class LoadedModel(NamedTuple):
    """A model in evaluation mode with float32 weights, its shape, and its tokenizer's file, where one lies by it."""

    model: Decoder
    config: ModelConfig
    tokenizer: Path | None


def load_model(path: Path, weights: str | None = None, device: str | torch.device = "cpu") -> LoadedModel:
    """Load a model. The random numbers of the process are left as they were.

    Args:
        path: an export folder (config.json of a Llama or Qwen3), a run folder (plan.yaml), a checkpoint's folder in a
            run, or the file of an average in a run.
        weights: which weights of a run: `raw` (the default) or the name of an average.

    Raises ArtifactError where there is no such model or its weights do not fit its shape, ConfigError for weights
    that the folder does not have or a shape that the decoder does not know.
    """
    known = weights_in(path)
    name = weights or RAW
    if name not in known:
        raise ConfigError(f"{path} has no weights {name!r}{nearest(name, known)}", fix="name one of them, or `all`")
    config = _config_of(path)
    with torch.random.fork_rng(devices=[]):
        model = Decoder(config, seed=None)
    with open_weights(known[name]) as stored:
        model.set_progress(_progress(stored))
        _fill(model, stored)
    return LoadedModel(model.to(device).eval(), config, _tokenizer_of(path))


def weights_in(path: Path) -> dict[str, Path]:
    """The sets of weights at a path, by name, each a file or a folder of safetensors; `raw` comes first.

    Raises ArtifactError where there are none.
    """
    if (path / PLAN_FILE).exists():
        checkpoints = list(checkpoints_in(path / "checkpoints").values())
        averages = {file.stem: file for file in sorted((path / "averages").glob("*.safetensors"))}
        if checkpoints or averages:
            return ({RAW: checkpoints[-1]} if checkpoints else {}) | averages
    elif (path / STATE).exists() or (path / HF_CONFIG).exists() or (path.suffix == ".safetensors" and path.exists()):
        return {RAW: path}
    raise ArtifactError(
        f"there is no model at {path}",
        expected=f"an export folder ({HF_CONFIG}), a run folder ({PLAN_FILE}) with a finished checkpoint, "
        "a checkpoint, or an average's file",
        found=", ".join(sorted(one.name for one in path.iterdir())[:5]) if path.is_dir() else "nothing of the kind",
    )


def llama_model_config(data: Mapping[str, Any], where: str) -> ModelConfig:
    """The decoder's shape from transformers' config.json of a Llama or a Qwen3.

    Raises ConfigError for another kind of model, or a feature that the decoder does not have.
    """
    rope = data.get("rope_parameters") or {}
    foreign = {
        "model_type": data.get("model_type") not in ("llama", "qwen3"),
        "hidden_act": data.get("hidden_act", "silu") != "silu",
        "attention_bias": bool(data.get("attention_bias")),
        "mlp_bias": bool(data.get("mlp_bias")),
        "use_sliding_window": bool(data.get("use_sliding_window")),
        "rope_scaling": bool(data.get("rope_scaling")) or rope.get("rope_type", "default") != "default",
    }
    for field in (field for field, differs in foreign.items() if differs):
        raise ConfigError(
            f"the decoder has no such {field}",
            expected="a Llama or Qwen3 without biases, window or scaled positions",
            found=str(data.get(field, rope)),
            where=where,
        )
    heads = data["num_attention_heads"]
    shape = {
        "vocabulary": data["vocab_size"],
        "hidden": data["hidden_size"],
        "layers": data["num_hidden_layers"],
        "heads": heads,
        "kv_heads": data.get("num_key_value_heads") or heads,
        "head_size": data.get("head_dim") or data["hidden_size"] // heads,
        "intermediate": data["intermediate_size"],
        "context": data["max_position_embeddings"],
        "tied": data.get("tie_word_embeddings", False),
        "rope_theta": rope.get("rope_theta", data.get("rope_theta", 10000.0)),
        "norm_eps": data["rms_norm_eps"],
    }
    if data["model_type"] == "qwen3":
        shape["qk_norm"] = True
    return validated(ModelConfig, shape, where)


def _config_of(path: Path) -> ModelConfig:
    if (path / HF_CONFIG).exists():
        return llama_model_config(json.loads((path / HF_CONFIG).read_text(encoding="utf-8")), str(path / HF_CONFIG))
    plan = _run_of(path) / PLAN_FILE
    if not plan.exists():
        raise ArtifactError(
            f"nothing says what shape the model of {path} has",
            expected=f"{plan}, as a run folder has it",
            fix="give the run folder, or an export",
        )
    return validated(ModelConfig, load_yaml(plan).get("model"), str(plan))


def _run_of(path: Path) -> Path:
    """The run folder that a path is or is in: checkpoints and averages lie two floors down."""
    return path if (path / PLAN_FILE).exists() else path.resolve().parent.parent


def _tokenizer_of(path: Path) -> Path | None:
    """Beside an export's weights; in a run's export; or in the workspace whose `runs/` holds the run."""
    run = _run_of(path)
    places = (path / TOKENIZER, run / "export" / TOKENIZER, run.resolve().parent.parent / "tokenizer" / TOKENIZER)
    return next((place for place in places if place.exists()), None)


def _progress(stored: StoredWeights) -> int:
    """The tokens that weights were trained on, which a model whose layers a dense matrix guides has to be told.

    A checkpoint says so; without one the weights must be from after that matrix has left.
    """
    state = stored.where / STATE
    if state.exists():
        return int(json.loads(state.read_text(encoding="utf-8"))["tokens"])
    guided = next((name for name in stored if name.endswith(".dense")), None)
    if guided:
        raise ConfigError(
            "a dense matrix still guides these weights, and what they compute depends on how far they are",
            expected="a checkpoint, or weights from after the guided_tokens of feed_forward",
            found=guided,
            where=str(stored.where),
        )
    return sys.maxsize


@torch.no_grad()
def _fill(model: Decoder, stored: StoredWeights) -> None:
    own = unique_tensors(model)
    shapes = {name: tuple(value.shape) for name, value in own.items()}
    found = {name: facts.shape for name, facts in stored.facts.items()}
    if model.config.tied:
        found.pop("lm_head.weight", None)
    differing = sorted(name for name in {**shapes, **found} if shapes.get(name) != found.get(name))
    if differing:
        name = differing[0]
        raise ArtifactError(
            f"these weights are not those of this model: {', '.join(differing[:3])}",
            where=str(stored.where),
            expected=f"{name} {list(shapes[name])}" if name in shapes else f"no {name}",
            found=f"{list(found[name])}" if name in found else "no such tensor",
        )
    for name, value in own.items():
        value.copy_(stored[name])
