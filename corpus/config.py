"""Configuration models: frozen, closed, each field described once, quantities written as people write them.

`30B`, `64K`, `2M` are counts (K, M, B, T are powers of a thousand); `15%` and `0.15` are shares. An unknown
key is an error that names the nearest valid one, and every problem of a file is reported at once, with its
dotted path. YAML is loaded safely: no tags, no code, no duplicate keys.
"""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from corpus.errors import ConfigError

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_COUNT = re.compile(r"\s*(\d[\d_,]*(?:\.\d+)?)\s*([KMBT]?)\s*", re.IGNORECASE)


class Config(BaseModel):
    """The base of every configuration model: immutable, and closed to keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def parse_count(value: Any) -> Any:
    """Turn `30B`, `64K`, `1.5M` or a whole number into an int; other types pass through to pydantic's own check.

    Raises ValueError (which pydantic reports with the field's path) for text that is not a count.
    """
    if not isinstance(value, str):
        return value
    match = _COUNT.fullmatch(value)
    if not match:
        raise ValueError(f"{value!r} is not a count; write for example 2M, 64K, 30B or 1000")
    exact = float(match[1].replace("_", "").replace(",", "")) * _UNITS[match[2].upper()]
    if abs(exact - round(exact)) > 1e-6:
        raise ValueError(f"{value!r} is not a whole number")
    return round(exact)


def parse_share(value: Any) -> Any:
    """Turn `15%` or a number into a float; a bare number above 1 is refused, because it may mean per cent."""
    if isinstance(value, str):
        text = value.strip()
        try:
            # rounded once, so that 1.1% is 0.011; float("1.1") / 100 is 0.011000000000000001
            value = float(f"{text[:-1].rstrip()}e-2" if text.endswith("%") else text)
        except ValueError:
            raise ValueError(f"{text!r} is not a share; write for example 15% or 0.15") from None
    if isinstance(value, int | float) and not isinstance(value, bool) and not 0 <= value <= 1:
        meant = f"; write {value:g}% if you mean per cent" if 1 < value <= 100 else ""
        raise ValueError(f"{value} is not a share between 0 and 1{meant}")
    return value


Count = Annotated[int, BeforeValidator(parse_count), Field(ge=0)]
Share = Annotated[float, BeforeValidator(parse_share)]

Model = TypeVar("Model", bound=BaseModel)


class _SafeLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key written twice, where YAML would keep the last one in silence."""


def _unique_mapping(loader: _SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    twice = sorted({str(key) for key in keys if keys.count(key) > 1})
    if twice:
        raise yaml.constructor.ConstructorError(None, None, f"key {twice[0]!r} is written twice", node.start_mark)
    return loader.construct_mapping(node, deep=True)


_SafeLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping safely. Raises ConfigError for a missing file, bad syntax, or anything but a mapping."""
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_SafeLoader)  # noqa: S506 (a SafeLoader)
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}", fix="check the path, or run `gradatim run --help`") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError("this file is not valid YAML", found=" ".join(str(error).split()), where=str(path)) from None
    if not isinstance(data, dict):
        raise ConfigError("this file is not a mapping of keys to values", where=str(path))
    return data


def apply_overrides(data: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return data with `a.b=c` overrides applied; values are read as YAML, list items by index (`stages.0`).

    Raises ConfigError for an override without `=` or one that leads through something that is not a mapping.
    """
    for override in overrides:
        dotted, equals, text = override.partition("=")
        keys = dotted.strip().split(".")
        if not equals or not all(keys):
            raise ConfigError(f"cannot read --set {override}", expected="--set section.key=value")
        value = parsed(text, f"--set {override}")
        data = _with(data, keys, value, override)
    return data


def parsed(text: str, option: str) -> Any:
    """The value of an option, read as YAML. Raises ConfigError for text that is none, naming the option."""
    try:
        return yaml.load(text, Loader=_SafeLoader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"the value of {option} is not valid YAML", found=" ".join(str(error).split())) from None


def _with(node: Any, keys: list[str], value: Any, override: str) -> Any:
    if not keys:
        return value
    key, rest = keys[0], keys[1:]
    if isinstance(node, list) and key.isdigit() and int(key) < len(node):
        return [_with(item, rest, value, override) if i == int(key) else item for i, item in enumerate(node)]
    if node is None or isinstance(node, dict):
        return {**(node or {}), key: _with((node or {}).get(key), rest, value, override)}
    raise ConfigError(f"--set {override} leads through a value that holds no keys", found=f"{node!r} before .{key}")


def validated(model: type[Model], data: Any, where: str) -> Model:
    """Build a model from plain data; raises one ConfigError that lists every problem with its dotted path."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = [_problem(model, item) for item in error.errors()]
    what = (
        problems[0]
        if len(problems) == 1
        else f"{len(problems)} settings cannot be used\n    " + "\n    ".join(problems)
    )
    raise ConfigError(what, where=where)


def nearest(name: str, names: Iterable[str]) -> str:
    """A hint `; did you mean 'x'?` naming the closest of `names`, or the list of them when none is close."""
    known = sorted(names)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"


def _problem(model: type[BaseModel], item: Any) -> str:
    path = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        parent = _model_at(model, item["loc"][:-1])
        known = [field.alias or name for name, field in parent.model_fields.items()] if parent else []
        return f"unknown key {path!r}{nearest(str(item['loc'][-1]), known) if known else ''}"
    if item["type"] == "union_tag_invalid":
        known = [tag.strip(" '") for tag in item["ctx"]["expected_tags"].split(",")]
        return f"{path!r}: there is no kind {item['ctx']['tag']!r}{nearest(item['ctx']['tag'], known)}"
    if item["type"] == "missing":
        return f"{path!r} is missing"
    return (
        f"{path!r}: {item['msg'].removeprefix('Value error, ')}" if path else item["msg"].removeprefix("Value error, ")
    )


def _model_at(model: type[BaseModel], path: tuple[Any, ...]) -> type[BaseModel] | None:
    """Follow an error's path through nested models, lists, mappings and tagged unions."""
    candidates: list[type[BaseModel]] = [model]
    for key in path:
        following: list[type[BaseModel]] = []
        for candidate in candidates:
            if key in candidate.model_fields:
                following += _models_in(candidate.model_fields[key].annotation)
        tagged = [m for m in (following or candidates) if _tag(m) == key]
        candidates = tagged or following or candidates
    return candidates[0] if candidates else None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models_in(part)]


def _tag(model: type[BaseModel]) -> str | None:
    kind = model.model_fields.get("kind")
    values = get_args(kind.annotation) if kind else ()
    return str(values[0]) if values else None
