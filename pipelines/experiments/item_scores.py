"""Scores of a model on files of questions, item by item, so that runs compare on the same ones.

Two rules each (`trainer_hooks.evals.choices`): `raw` takes the likeliest continuation, `per_byte` the likeliest for its
length. Questions that are longer than the model's context are left out, the same ones in all runs of a study.

    questions = open_questions([Path("arc_easy.jsonl")], tokenizer, context=1024)
    questions[0].scores(model, torch.float32)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from torch import nn

from corpus.errors import InputError
from corpus.tokenizer import Encoder, load_encoder
from pipelines.experiments.results import ItemScore
from trainer_hooks.evals.choices import Answer, answer
from trainer_hooks.evals.item_files import read_items
from trainer_hooks.evals.items import Item
from trainer_hooks.evals.likelihood import Likelihoods

METRICS = ("raw", "per_byte")


@dataclass(frozen=True)
class Questions:
    """A file of questions that can be asked."""

    file: str
    items: tuple[Item, ...]
    encoder: Encoder
    context: int

    def scores(self, model: nn.Module, dtype: torch.dtype) -> tuple[ItemScore, ...]:
        """A model's scores under each rule. Raises InputError where no question fits its context."""
        found = answer(Likelihoods(model, self.encoder, self.context, dtype=dtype), self.items).answers
        if not found:
            raise InputError(f"no question of {self.file} fits a context of {self.context:,} tokens")
        return tuple(self._score(found, metric) for metric in METRICS)

    def _score(self, answers: Sequence[Answer], metric: str) -> ItemScore:
        right = tuple(one.right(metric) for one in answers)
        chance = fmean(1 / len(one.options) for one in answers)
        return ItemScore(
            file=self.file, metric=metric, n=len(right), correct=right, accuracy=fmean(right), chance=chance
        )


def open_questions(files: Sequence[Path], tokenizer: Path, context: int) -> tuple[Questions, ...]:
    """Read files of questions with several options; those with one ask nothing that could be wrong.

    Raises InputError for a file that is missing or damaged, or has a line that is no question.
    """
    encoder, found = load_encoder(tokenizer), []
    for path in files:
        items = tuple(item for item in read_items(path, strict=True).items if len(item.options) > 1)
        if not items:
            raise InputError("no question of this file has a choice", expected="two options or more", where=str(path))
        found.append(Questions(path.name, items, encoder, context))
    return tuple(found)
