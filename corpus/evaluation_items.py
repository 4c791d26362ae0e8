"""Items of evaluations, as texts by field: what training text must not hold.

A file is JSONL (also .gz), one item a line, in any form that benchmarks come as:

| a line has | fields |
|---|---|
| `id`, `text` | text |
| any of the names of FIELDS, such as `question`, `passage`, `options`, `answer` | as named; lists are joined by lines |
| `query`, `choices`, `gold` | question, options, answer |
| `context_options`, `continuation` | question (each context with the continuation) |
| `sentence_good`, `sentence_bad` | text, options |
| `request`, `doc_id`, `idx` (one line a continuation) | question, options, by document |
| `arguments`, `doc_id` | question, options |

`trainer_hooks.evals` reads the same files as questions to be answered; here they are only words. A line may name its
evaluation (`eval`, `task_name`, `task` or `dataset`), else the file does. A line that cannot be used is an error: an
item that was left out in silence would be left in the corpus.

How it is used:  items = EvaluationItems.read([Path("arc_easy.jsonl")])
"""

import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

from corpus.errors import InputError
from corpus.fingerprints import fingerprint

PROMPTS = ("question", "text")
"""Fields that say what is asked; an evaluation is recognised by them."""
FIELDS = {
    "question": "question", "prompt": "question", "query": "question", "problem": "question", "goal": "question",
    "instruction": "question", "ctx": "question", "text": "text", "sentence": "text", "passage": "passage",
    "context": "passage", "premise": "passage", "support": "passage", "article": "passage", "input": "passage",
    "options": "options", "choices": "options", "endings": "options", "answer": "answer", "answers": "answer",
    "solution": "answer", "output": "answer", "canonical_solution": "answer", "completion": "answer",
}  # fmt: skip
"""Names that a line may use, and what they are called here."""

_EVALUATION_NAMES = ("eval", "task_name", "task", "dataset")
_ITEM_NAMES = ("id", "doc_id", "task_id", "pairID", "pair_id", "qid", "question_id")


@dataclass(frozen=True)
class EvaluationItem:
    """One item: its evaluation, its name there, and its texts by field (question, passage, options, answer, text)."""

    evaluation: str
    name: str
    fields: Mapping[str, str]


@dataclass(frozen=True)
class EvaluationItems:
    """The items of some evaluations, in the order of their files."""

    items: tuple[EvaluationItem, ...]

    @classmethod
    def read(cls, paths: Iterable[Path]) -> "EvaluationItems":
        """Read files of items. Raises InputError for one that is missing, damaged or empty, and for a bad line."""
        return cls(tuple(item for path in paths for item in _read(path)))

    @cached_property
    def identity(self) -> str:
        """A fingerprint of what the items say, 16 hex digits; neither their order nor their files matter."""
        return fingerprint(sorted((item.evaluation, item.name, sorted(item.fields.items())) for item in self.items))

    @cached_property
    def counts(self) -> dict[str, int]:
        """Items by evaluation, by name."""
        names = [item.evaluation for item in self.items]
        return {name: names.count(name) for name in sorted(set(names))}


def item_of(data: Mapping[str, Any], evaluation: str, number: str) -> EvaluationItem:
    """The item of a line that holds a whole one; `number` names it where the line does not. Raises ValueError."""
    name = next((str(data[key]) for key in _ITEM_NAMES if data.get(key) is not None), number)
    fields = _fields(data)
    fields = {field: text for field, text in fields.items() if text.strip()}
    if not fields:
        raise ValueError(f"no text that is known by name; its keys are {', '.join(sorted(map(str, data))[:8])}")
    return EvaluationItem(_evaluation(data, evaluation), name, fields)


def _fields(data: Mapping[str, Any]) -> dict[str, str]:
    if "sentence_good" in data:
        return {"text": _text(data["sentence_good"]), "options": _text(data.get("sentence_bad"))}
    if "context_options" in data:
        contexts = data["context_options"] if isinstance(data["context_options"], list) else [data["context_options"]]
        return {"question": "\n".join(f"{_text(one)} {_text(data.get('continuation'))}" for one in contexts)}
    if "arguments" in data:
        return _asked(_pairs(data["arguments"]))
    fields: dict[str, list[str]] = {}
    for name, field in FIELDS.items():
        if name in data:
            fields.setdefault(field, []).append(_text(data[name]))
    choices, gold = data.get("choices"), data.get("gold")
    if isinstance(choices, list) and isinstance(gold, int) and 0 <= gold < len(choices):
        fields.setdefault("answer", []).append(_text(choices[gold]))
    return {field: "\n".join(texts) for field, texts in fields.items()}


def _asked(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Contexts with continuations: each different context once, and the continuations."""
    contexts = dict.fromkeys(context for context, _ in pairs)
    return {"question": "\n".join(contexts), "options": "\n".join(continuation for _, continuation in pairs)}


def _pairs(arguments: Any) -> list[tuple[str, str]]:
    """lm-eval's `{"gen_args_0": {"arg_0": context, "arg_1": continuation}, ...}`, or a list of such pairs."""
    listed = list(arguments.values()) if isinstance(arguments, dict) else arguments
    if not isinstance(listed, list):
        raise ValueError("arguments hold no texts")
    plain = [[one.get("arg_0"), one.get("arg_1", "")] if isinstance(one, dict) else one for one in listed]
    if any(not isinstance(one, list) or len(one) != 2 for one in plain):
        raise ValueError("arguments are not pairs of a context and a continuation")
    return [(_text(context), _text(continuation)) for context, continuation in plain]


def _text(value: Any) -> str:
    """A text as it is; a list of texts (or of objects with a `text`) as lines; an object by its texts; a number."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(map(_text, value))
    if isinstance(value, dict):
        return _text(value["text"]) if "text" in value else "\n".join(_text(one) for one in value.values())
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, int | float):
        return str(value)
    raise ValueError(f"{type(value).__name__} where a text belongs")


def _evaluation(data: Mapping[str, Any], stem: str) -> str:
    return next((str(data[key]) for key in _EVALUATION_NAMES if isinstance(data.get(key), str)), stem)


def _read(path: Path) -> Iterator[EvaluationItem]:
    stem, found = path.name.split(".")[0], False
    requests: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for number, line in _lines(path):
        try:
            data = json.loads(line)
            if not isinstance(data, dict):
                raise ValueError("not a JSON object")
            if "request" in data:
                _add_request(requests, data, stem)
            else:
                yield item_of(data, stem, str(number))
        except ValueError as error:
            raise InputError(
                "this line holds no evaluation item", found=str(error), where=f"{path}, line {number}",
                expected=f"JSON with one of {', '.join(list(FIELDS)[:8])}, ...",
            ) from None  # fmt: skip
        found = True
    for (evaluation, name), pairs in requests.items():
        yield EvaluationItem(evaluation, name, _asked(pairs))
    if not found:
        raise InputError("there is no evaluation item in this file", where=str(path))


def _add_request(requests: dict[tuple[str, str], list[tuple[str, str]]], data: Mapping[str, Any], stem: str) -> None:
    request = data["request"]
    if isinstance(request, dict):
        request = [request.get("context"), request.get("continuation", "")]
    if not isinstance(request, list) or len(request) != 2 or "doc_id" not in data:
        raise ValueError("a request is a context and a continuation, with the doc_id it belongs to")
    key = _evaluation(data, stem), str(data["doc_id"])
    requests.setdefault(key, []).append((_text(request[0]), _text(request[1])))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1."""
    try:
        with _opened(path) as file:
            yield from ((number, line) for number, line in enumerate(file, start=1) if line.strip())
    except FileNotFoundError:
        raise InputError(f"there is no file {path}", expected="evaluation items, one JSON object a line") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError("cannot read these evaluation items", found=str(error), where=str(path)) from error


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8")
    return path.open(encoding="utf-8")
