"""Export a model as a folder in Hugging Face layout that transformers and vLLM load as a Llama.

Parameter names are Llama's already, so this is a copy and a cast: model.safetensors, config.json,
generation_config.json, and the tokenizer the tokens were made with. The weights come from a checkpoint or
from an average, so raw and averaged weights export alike.

    export_run(result, model_config, Path("tokenizer.json"), folder / "export", eos="<|endoftext|>")
"""

import json
import shutil
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file

from corpus.errors import ArtifactError, ConfigError
from corpus.shards import atomic_path, write_text
from trainer_hooks.averaging import unique_tensors
from trainer_hooks.checkpoints import MODEL
from trainer_hooks.model import Decoder
from trainer_hooks.model_config import ModelConfig
from trainer_hooks.trainer import RunResult

Dtype = Literal["float32", "bfloat16"]


def padded_vocabulary(size: int, multiple: int = 64) -> int:
    """The smallest multiple of `multiple` that holds `size` ids: matrices of even width run faster everywhere."""
    return -(-size // multiple) * multiple


def export_run(
    result: RunResult, config: ModelConfig, tokenizer: Path, folder: Path, *, eos: str, dtype: Dtype = "float32"
) -> Path:
    """Export a finished run: its averaged weights where there are any, else the last checkpoint's."""
    return export(result.average or result.checkpoint / MODEL, config, tokenizer, folder, eos=eos, dtype=dtype)


def export(
    weights: Path, config: ModelConfig, tokenizer: Path, folder: Path, *, eos: str, dtype: Dtype = "float32"
) -> Path:
    """Write an export folder and return it.

    Args:
        weights: safetensors with the decoder's parameters, of a checkpoint or an average.
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
    tensors = load_file(weights)
    _check(tensors, config, weights)
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


def llama_config(config: ModelConfig, eos_id: int, dtype: Dtype = "float32") -> dict[str, Any]:
    """The decoder's shape as transformers' LlamaConfig writes it."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
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
    with torch.device("meta"):
        expected = {name: value.shape for name, value in unique_tensors(Decoder(config, seed=None)).items()}
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
