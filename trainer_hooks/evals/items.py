"""Questions with several continuations, one of them right, made from the lines that benchmarks come as.

| a line has | form | options |
|---|---|---|
| `query`, `choices`, `gold` | llm-foundry and DCLM, multiple choice | the choices, after the query |
| `context_options`, `continuation`, `gold` | the same, schema tasks | one continuation after several contexts |
| `sentence_good`, `sentence_bad` | BLiMP | two sentences, the first is right |
| `doc_id`, `idx`, `request`, `label` | oe-eval's requests, one line a continuation | by document, in order of `idx` |
| `arguments`, `target` | samples logged by lm-eval, one line a question | its arguments |

A line may name the `document` its question was made from; comparisons then treat the questions of one document as
one draw.

    item_of({"query": "The sky is", "choices": ["blue", "glue"], "gold": 0}, task="sky", number="1").options
    (("The sky is", " blue"), ("The sky is", " glue"))
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from corpus.fingerprints import fingerprint

Text = tuple[str, str]
"""A context and its continuation."""


@dataclass(frozen=True)
class Item:
    """One question.

    Args:
        task, name: together its identity.
        options: contexts with their continuations; gold: the number of the right one.
        document: what it was made from, where that is known.
    """

    task: str
    name: str
    options: tuple[Text, ...]
    gold: int
    document: str | None = None

    def key(self) -> str:
        """A fingerprint of what is asked; equal names with other keys are other questions."""
        return fingerprint({"options": self.options, "gold": self.gold})


class Unusable(Exception):
    """A line that is no question; says why."""


def item_of(data: Mapping[str, Any], task: str, number: str) -> Item:
    """The question of a line that holds a whole one; `number` names it where the line does not. Raises Unusable."""
    name, document = str(data.get("id", number)), _document(data)
    if "sentence_good" in data:
        pair = [("", _text(data, key)) for key in ("sentence_good", "sentence_bad")]
        name = str(data.get("pairID", data.get("pair_id", name)))
        return _checked(str(data.get("UID", task)), name, document, pair, 0)
    if "choices" in data:
        query = _text(data, "query")
        return _checked(task, name, document, [spaced(query, one) for one in _texts(data, "choices")], data.get("gold"))
    if "context_options" in data:
        continuation = _text(data, "continuation")
        options = [spaced(one, continuation) for one in _texts(data, "context_options")]
        return _checked(task, name, document, options, data.get("gold"))
    if "arguments" in data:
        options = _logged_arguments(data["arguments"])
        return _checked(task, str(data.get("doc_id", name)), document, options, _gold(data.get("target"), options))
    raise Unusable(f"none of the known forms; its keys are {', '.join(sorted(data)[:6])}")


def spaced(context: str, continuation: str) -> Text:
    """A blank between the two, where neither has one; it belongs to the continuation."""
    apart = not context or context[-1].isspace() or continuation[:1].isspace()
    return context, continuation if apart else f" {continuation}"


class Requests:
    """The lines of a requests file, gathered into questions."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str], list[tuple[int, Mapping[str, Any]]]] = {}

    def add(self, number: int, data: Mapping[str, Any], task: str) -> None:
        """Take a line. A request is a context with a continuation, or the two in a list."""
        request = data["request"]
        if isinstance(request, list) and len(request) == 2:
            request = dict(zip(("context", "continuation"), request, strict=True))
        if not isinstance(request, dict):
            raise Unusable("request is not an object with context and continuation")
        option = _text(request, "context"), _text(request, "continuation")
        if "doc_id" not in data or not isinstance(data.get("idx"), int):
            raise Unusable("doc_id or a whole number idx is missing")
        key = str(data.get("task_name") or task), str(data["doc_id"])
        self._lines.setdefault(key, []).append((number, {**data, "option": option}))

    def items(self) -> Iterator[tuple[int, Callable[[], Item]]]:
        """For each question the number of its first line, and what makes it or raises Unusable."""
        for (task, name), lines in self._lines.items():
            yield lines[0][0], partial(_gathered, task, name, [data for _, data in lines])


def _gathered(task: str, name: str, lines: Sequence[Mapping[str, Any]]) -> Item:
    lines = sorted(lines, key=lambda line: line["idx"])
    numbers = [line["idx"] for line in lines]
    if numbers != list(range(len(lines))):
        raise Unusable(f"the requests of document {name} have idx {numbers}, not 0, 1, ...")
    if any(line.get("label") != lines[0].get("label") for line in lines):
        raise Unusable(f"the requests of document {name} disagree about the label")
    options = [line["option"] for line in lines]
    return _checked(task, name, _document(lines[0]), options, _gold(lines[0].get("label"), options))


def _gold(label: Any, options: Sequence[Text]) -> Any:
    """A right answer given by its number, a number as text, or its text."""
    if isinstance(label, str):
        equal = [i for i, (_, continuation) in enumerate(options) if continuation.strip() == label.strip()]
        if equal:
            return equal[0]
        if label.strip().isdigit():
            return int(label)
    return label


def _logged_arguments(arguments: Any) -> list[Text]:
    """lm-eval's `{"gen_args_0": {"arg_0": context, "arg_1": continuation}, ...}`, or a list of such pairs."""
    if isinstance(arguments, dict):
        pairs = [arguments.get(f"gen_args_{i}") for i in range(len(arguments))]
        arguments = [[pair.get("arg_0"), pair.get("arg_1")] if isinstance(pair, dict) else pair for pair in pairs]
    if not isinstance(arguments, list) or not arguments:
        raise Unusable("arguments hold no continuations")
    for pair in arguments:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(one, str) for one in pair):
            raise Unusable("arguments are not pairs of a context and a continuation")
    return [(context, continuation) for context, continuation in arguments]


def _checked(task: str, name: str, document: str | None, options: Sequence[Text], gold: Any) -> Item:
    if isinstance(gold, bool) or not isinstance(gold, int) or not 0 <= gold < len(options):
        raise Unusable(f"the right answer is {gold!r}, which is none of {len(options)} options")
    if any(not continuation for _, continuation in options):
        raise Unusable("a continuation is empty")
    if len(set(options)) < len(options):
        raise Unusable("two options are equal")
    return Item(task, name, tuple(options), gold, document)


def _document(data: Mapping[str, Any]) -> str | None:
    return None if data.get("document") is None else str(data["document"])


def _text(data: Mapping[str, Any], name: str) -> str:
    if not isinstance(data.get(name), str):
        raise Unusable(f"{name} is missing or no text")
    return str(data[name])


def _texts(data: Mapping[str, Any], name: str) -> list[str]:
    value = data.get(name)
    if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
        raise Unusable(f"{name} is not a list of texts")
    return value
