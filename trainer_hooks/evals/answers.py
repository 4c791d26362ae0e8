"""Answers as a file, one line a question: what an evaluation leaves for comparisons, later and elsewhere.

A line holds the question's task, name and key, the right option, the log-likelihood, tokens and bytes of each option,
and, to be read by people, which option each rule chooses.

    write_answers(Path("evals/raw.jsonl"), answers)
    old, new = read_answers(Path("a.jsonl")), read_answers(Path("b.jsonl"))
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corpus.errors import InputError
from corpus.shards import write_text
from trainer_hooks.evals.choices import Answer
from trainer_hooks.evals.likelihood import Likelihood


def write_answers(path: Path, answers: Sequence[Answer]) -> None:
    """Write answers in their order, atomically."""
    write_text(path, "".join(json.dumps(_line(one), ensure_ascii=False, allow_nan=False) + "\n" for one in answers))


def read_answers(path: Path) -> list[Answer]:
    """Read what `write_answers` wrote. Raises InputError, naming the line, for any other file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("cannot read these answers", found=str(error), where=str(path)) from error
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            found.append(_answer(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                "this line is no answer",
                expected="a file that `gradatim evaluate --output` wrote",
                found=f"{type(error).__name__}: {error}",
                where=f"{path}, line {number}",
            ) from error
    if not found:
        raise InputError("there are no answers in this file", where=str(path))
    return found


def _line(one: Answer) -> dict[str, Any]:
    return {
        "task": one.task,
        "name": one.name,
        "key": one.key,
        "document": one.document,
        "gold": one.gold,
        "chosen": {rule: one.chosen(rule) for rule in one.rules},
        "log_p": [option.log_p for option in one.options],
        "tokens": [option.tokens for option in one.options],
        "n_bytes": [option.n_bytes for option in one.options],
        "neutral_log_p": one.neutral,
    }


def _answer(data: dict[str, Any]) -> Answer:
    options = zip(data["log_p"], data["tokens"], data["n_bytes"], strict=True)
    neutral = data["neutral_log_p"]
    return Answer(
        task=data["task"],
        name=data["name"],
        key=data["key"],
        gold=data["gold"],
        options=tuple(Likelihood(*option) for option in options),
        neutral=None if neutral is None else tuple(neutral),
        document=data["document"],
    )
