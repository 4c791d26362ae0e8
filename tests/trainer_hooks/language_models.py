"""Small language models of transformers with random weights, and a tokenizer trained on a few real sentences."""

from pathlib import Path

import torch

from corpus.tokenizer import train_tokenizer

SENTENCES = (
    "The children who live in that house have a dog. No dog has ever barked there at night.",
    "Most glaciers melt in summer; some of them have melted since the winter of 1998.",
    "A teacher explains: water boils at 100 degrees, and it freezes at zero.",
    "These patients have not hidden themselves. This patient has not hidden herself.",
)
VOCABULARY = 320


def write_tokenizer(path: Path) -> Path:
    """Train a byte-level BPE on the sentences."""
    train_tokenizer(SENTENCES * 8, VOCABULARY, path)
    return path


def write_language_model(folder: Path, kind: str = "llama", seed: int = 0, **changes: object) -> torch.nn.Module:
    """Write a folder as transformers does, with the tokenizer in it, and return the model.

    `kind` is `llama`, `qwen3` or `gpt2`; weights are large enough that its likelihoods differ.
    """
    from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, Qwen3Config

    shape = {"vocab_size": VOCABULARY, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
             "num_key_value_heads": 1, "head_dim": 32, "intermediate_size": 96, "max_position_embeddings": 64,
             "rms_norm_eps": 1e-5, "rope_parameters": {"rope_theta": 5000.0, "rope_type": "default"}}  # fmt: skip
    if kind == "gpt2":
        config = GPT2Config(
            vocab_size=VOCABULARY, n_positions=128, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
        )
    else:
        config = {"llama": LlamaConfig, "qwen3": Qwen3Config}[kind](**{**shape, **changes})
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    write_tokenizer(folder / "tokenizer.json")
    return model
