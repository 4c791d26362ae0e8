"""What is evaluated: a model of ours, or any causal language model in a local folder of transformers.

subject = open_subject(Path("runs/climb"), "ema")
likelihoods = subject.likelihoods(tokenizer=None, batch_tokens=8192, dtype=torch.float32)
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from corpus.config import load_yaml
from corpus.errors import ConfigError, InputError
from corpus.tokenizer import load_encoder
from trainer_hooks.evals.likelihood import Likelihoods, LogitModel
from trainer_hooks.loading import HF_CONFIG, RAW, TOKENIZER, load_model, weights_in
from trainer_hooks.model import Decoder
from trainer_hooks.objectives.ensemble import Ensemble
from trainer_hooks.run_identity import PLAN_FILE

OWN_KINDS = ("llama", "qwen3")


@dataclass(frozen=True)
class Subject:
    """A model under evaluation.

    Args:
        model: called as model(ids, targets), it returns a sum and each target's loss.
        vocabulary: ids it knows; context: the longest sequence it is told to serve.
        trained_length: the sequence length it was trained at, where its run is at hand.
        tokenizer: the file of its tokenizer, where one lies by it.
    """

    where: Path
    weights: str
    model: nn.Module
    vocabulary: int
    context: int
    trained_length: int | None
    tokenizer: Path | None

    def likelihoods(
        self, tokenizer: Path | None, context: int | None, batch_tokens: int, dtype: torch.dtype
    ) -> Likelihoods:
        """Prepare to score text; `tokenizer` and `context` replace the model's own.

        Raises ConfigError where no tokenizer is known or it has more ids than the model.
        """
        path = tokenizer or self.tokenizer
        if path is None:
            raise ConfigError(f"no tokenizer lies by {self.where}", fix=f"name one: --tokenizer path/to/{TOKENIZER}")
        encoder = load_encoder(path)
        if encoder.vocabulary > self.vocabulary:
            raise ConfigError(
                "this tokenizer has more ids than the model",
                expected=f"at most {self.vocabulary:,}",
                found=f"{encoder.vocabulary:,}",
                where=str(path),
                fix="name the tokenizer that the model was trained with: --tokenizer",
            )
        return Likelihoods(self.model, encoder, context or self.context, batch_tokens, dtype)


def open_subject(path: Path, weights: str | None, device: torch.device) -> Subject:
    """Load a model with the weights of that name. Raises as `trainer_hooks.loading.load_model`."""
    config = path / HF_CONFIG
    if config.exists() and json.loads(config.read_text(encoding="utf-8")).get("model_type") not in OWN_KINDS:
        return _of_transformers(path, device)
    model, shape, tokenizer = load_model(path, weights, device)
    length = load_yaml(path / PLAN_FILE)["resolved"]["plan"]["sequence_length"] if (path / PLAN_FILE).exists() else None
    return Subject(path, weights or RAW, model, shape.vocabulary, shape.context, length, tokenizer)


def together(subjects: Sequence[Subject]) -> Subject:
    """Several models of ours read as one, by their mean log-probabilities.

    Raises ConfigError for a model of transformers, or for models of several vocabularies.
    """
    members = [subject.model for subject in subjects]
    for subject in subjects:
        if not isinstance(subject.model, Decoder):
            raise ConfigError("only models of this project can be read as one", found=str(subject.where))
    first = subjects[0]
    context = min(subject.context for subject in subjects)
    lengths = {subject.trained_length for subject in subjects}
    return replace(
        first, weights="together", model=Ensemble([member for member in members if isinstance(member, Decoder)]),
        context=context, trained_length=lengths.pop() if len(lengths) == 1 else None,
    )  # fmt: skip


def names_of_weights(path: Path, asked: str) -> list[str]:
    """The weights that `asked` names: itself, or, for `all`, every set at the path."""
    return list(weights_in(path)) if asked == "all" else [asked]


def _of_transformers(path: Path, device: torch.device) -> Subject:
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(path, local_files_only=True, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise InputError("transformers cannot load this model", found=str(error), where=str(path)) from error
    tokenizer = path / TOKENIZER
    return Subject(
        where=path,
        weights=RAW,
        model=LogitModel(model.to(device).eval(), lambda ids: model(ids).logits),
        vocabulary=model.config.vocab_size,
        context=getattr(model.config, "max_position_embeddings", None) or 2048,
        trained_length=None,
        tokenizer=tokenizer if tokenizer.exists() else None,
    )
