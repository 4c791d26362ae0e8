"""Export a model as a folder in Hugging Face layout that transformers and vLLM load as a Llama, or as a Qwen3.

Parameter names are theirs already, so this is a copy and a cast: model.safetensors, config.json,
generation_config.json, and the tokenizer the tokens were made with. The weights come from a checkpoint, an average or
merged checkpoints. Structured feed-forward layers become the dense matrices that they are the factors of.

    export_run(result, model_config, Path("tokenizer.json"), folder / "export", eos="<|endoftext|>")
"""

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors.torch import save_file

from corpus.config import nearest
from corpus.errors import ArtifactError, ConfigError
from corpus.shards import atomic_path, write_text
from trainer_hooks.averaging import unique_tensors
from trainer_hooks.feed_forward_kinds import Factored
from trainer_hooks.model import Decoder
from trainer_hooks.model_config import ModelConfig
from trainer_hooks.stored_weights import read_weights
from trainer_hooks.structured import FactoredLinear

if TYPE_CHECKING:
    from trainer_hooks.trainer import RunResult

RAW = "raw"
Dtype = Literal["float32", "bfloat16"]


def padded_vocabulary(size: int, multiple: int = 64) -> int:
    """The smallest multiple of `multiple` that holds `size` ids: matrices of even width run faster everywhere."""
    return -(-size // multiple) * multiple


def export_run(
    result: "RunResult",
    config: ModelConfig,
    tokenizer: Path,
    folder: Path,
    *,
    eos: str,
    dtype: Dtype = "float32",
    weights: str | None = None,
) -> Path:
    """Export a run's weights: the first of its averages, or the last checkpoint's where it has none.

    Args:
        weights: the name of an average, or `raw` for the last checkpoint's; None: as above.

    Raises ConfigError for a name that the run does not have, and as `export` does.
    """
    known = {**result.averages, RAW: result.checkpoint}
    name = weights or next(iter(known))
    if name not in known:
        raise ConfigError(f"the run has no weights {name!r}{nearest(name, known)}", where=str(result.folder))
    return export(known[name], config, tokenizer, folder, eos=eos, dtype=dtype)


def export(
    weights: Path, config: ModelConfig, tokenizer: Path, folder: Path, *, eos: str, dtype: Dtype = "float32"
) -> Path:
    """Write an export folder and return it.

    Args:
        weights: the decoder's parameters: a safetensors file, a checkpoint's folder, or any layout that
            `trainer_hooks.stored_weights` reads.
        tokenizer: a `tokenizer.json` of the tokenizers library; it is copied byte for byte.
        eos: the end-of-text token, as text; it must be in the tokenizer.
        dtype: the type of the stored weights.

    Raises ConfigError when the end-of-text token is unknown or the tokenizer has more ids than the model,
    ArtifactError when the weights are not those of such a model.
    """
    eos_id, size = _tokenizer_facts(tokenizer, eos)
    if size > config.vocabulary:
        raise ConfigError(
            "the tokenizer has more ids than the model",
            expected=f"at most {config.vocabulary}",
            found=str(size),
            where=str(tokenizer),
            fix="train with a larger vocabulary",
        )
    tensors = read_weights(weights)
    _check(tensors, config, weights)
    tensors = multiplied(tensors, config)
    folder.mkdir(parents=True, exist_ok=True)
    cast = {name: tensors[name].to(getattr(torch, dtype)).contiguous() for name in sorted(tensors)}
    with atomic_path(folder / "model.safetensors") as temporary:
        save_file(cast, temporary, metadata={"format": "pt"})
    with atomic_path(folder / "tokenizer.json") as temporary:
        shutil.copyfile(tokenizer, temporary)
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(config, eos))
    _write_json(folder / "generation_config.json", {"eos_token_id": eos_id, "pad_token_id": eos_id})
    _write_json(folder / "config.json", llama_config(config, eos_id, dtype))
    return folder


def multiplied(tensors: dict[str, torch.Tensor], config: ModelConfig) -> dict[str, torch.Tensor]:
    """The tensors with each pair of factors, if there are any, as the one dense matrix they make, float32."""
    whole = dict(tensors)
    for name in [name for name in tensors if isinstance(config.feed_forward, Factored) and name.endswith(".first")]:
        layer = name.removesuffix(".first")
        sizes = config.hidden, config.intermediate
        matrix = config.feed_forward.make(*(sizes[::-1] if layer.endswith("down_proj") else sizes))
        assert isinstance(matrix, FactoredLinear)
        with torch.no_grad():
            matrix.first.copy_(whole.pop(name))
            matrix.second.copy_(whole.pop(f"{layer}.second"))
        whole[f"{layer}.weight"] = matrix.product()
    return whole


def llama_config(config: ModelConfig, eos_id: int, dtype: Dtype = "float32") -> dict[str, Any]:
    """The decoder's shape as transformers' LlamaConfig writes it, or its Qwen3Config where heads have norms."""
    return {
        "architectures": ["Qwen3ForCausalLM" if config.qk_norm else "LlamaForCausalLM"],
        "model_type": "qwen3" if config.qk_norm else "llama",
        "dtype": dtype,
        "vocab_size": config.vocabulary,
        "hidden_size": config.hidden,
        "intermediate_size": config.intermediate,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.key_heads,
        "head_dim": config.head_size,
        "max_position_embeddings": config.context,
        "rms_norm_eps": config.norm_eps,
        "hidden_act": "silu",
        "rope_parameters": {"rope_theta": config.rope_theta, "rope_type": "default"},
        "tie_word_embeddings": config.tied,
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": None,
        "eos_token_id": eos_id,
        "pad_token_id": None,
        "use_cache": True,
    }


def _tokenizer_config(config: ModelConfig, eos: str) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": eos,
        "model_max_length": config.context,
        "clean_up_tokenization_spaces": False,
    }


def _tokenizer_facts(path: Path, eos: str) -> tuple[int, int]:
    """The end-of-text id and the number of ids of a tokenizer file."""
    from tokenizers import Tokenizer

    if not path.exists():
        raise ConfigError(f"there is no tokenizer {path}", expected="a tokenizer.json of the tokenizers library")
    tokenizer = Tokenizer.from_file(str(path))
    eos_id = tokenizer.token_to_id(eos)
    if eos_id is None:
        raise ConfigError(f"the tokenizer has no token {eos!r}", where=str(path), fix="name its end-of-text token")
    return int(eos_id), int(tokenizer.get_vocab_size(with_added_tokens=True))


def _check(tensors: dict[str, torch.Tensor], config: ModelConfig, where: Path) -> None:
    guided = [name for name in tensors if name.endswith(".dense")]
    if guided:
        raise ConfigError(
            "a dense matrix still guides these weights, and what they compute depends on how far they are",
            expected="weights from after the guided_tokens of feed_forward",
            found=guided[0],
            where=str(where),
            fix="export a later checkpoint",
        )
    with torch.device("meta"):
        finished = Decoder(config, seed=None)
        finished.set_progress(sys.maxsize)  # without a guide
    expected = {name: value.shape for name, value in unique_tensors(finished).items()}
    found = {name: value.shape for name, value in tensors.items()}
    if found != expected:
        differing = sorted(name for name in {**expected, **found} if expected.get(name) != found.get(name))
        raise ArtifactError(
            f"these weights are not those of this model: {', '.join(differing[:3])}",
            where=str(where),
            expected=f"{expected.get(differing[0])}",
            found=f"{found.get(differing[0])}",
        )


def _write_json(path: Path, value: dict[str, Any]) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")
