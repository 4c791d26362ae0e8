"""The bridge to datatrove, both ways: its steps run as our stages, our raters run in its pipelines.

`Datatrove` runs one filter or formatter by name over record batches. The documents it drops carry its reason,
and the texts it changes are taken over. `rater_step` makes a datatrove step of any rater, which puts its scores
into each document's metadata.

In a recipe:  stages: [{datatrove: GopherRepetitionFilter, args: {dup_line_frac: 0.25}}]
"""

import importlib
import inspect
import json
import pkgutil
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from corpus.config import nearest
from corpus.errors import ConfigError, EnvironmentProblem
from corpus.fingerprints import canonical
from pipelines.stages.base import Reasons, Stage
from raters.base import Rater

if TYPE_CHECKING:
    from datatrove.data import Document
    from datatrove.pipeline.base import PipelineStep

_PACKAGES = ("datatrove.pipeline.filters", "datatrove.pipeline.formatters")
_FIELDS = ("url", "date", "lang", "source")  # document columns a step sees, in the metadata where its readers put them


class Datatrove(Stage):
    """Run a datatrove filter or formatter over documents."""

    step: str = Field(description="class name, such as URLFilter, or its full dotted path")
    args: dict[str, Any] = Field(default={}, description="its constructor's arguments")

    version: ClassVar[int] = 1

    @model_validator(mode="after")
    def _plain_arguments(self) -> "Datatrove":
        canonical(self.args)
        return self

    def process(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, Reasons]:
        """Documents in and out, `text` and `n_bytes` renewed where the step changed them.

        Reasons read `datatrove:<class>: <its reason>`. Raises ConfigError for an unknown step or wrong arguments.
        """
        step = _step(self.step, canonical(self.args))
        name = type(step).__name__
        texts = batch.column("text").to_pylist()
        kept, dropped = _run(step, texts, _metadata(batch), batch.column("id").to_pylist())
        reasons = [_reason(name, dropped.get(i, "")) if i not in kept else None for i in range(batch.num_rows)]
        after = [kept.get(i, text) for i, text in enumerate(texts)]
        for i, text in enumerate(after):
            if not text:
                reasons[i] = reasons[i] or _reason(name, "nothing left of the text")
                after[i] = texts[i]
        return _with_texts(batch, after) if after != texts else batch, pa.array(reasons, pa.string())

    def identity(self) -> dict[str, Any]:
        """The settings and the version of datatrove, whose rules change between releases."""
        from importlib.metadata import version

        return {**super().identity(), "datatrove": version("datatrove")}


def known_steps() -> dict[str, str]:
    """The filters and formatters of the installed datatrove: class name to module."""
    return {name: module for package in _PACKAGES for module in _modules(package) for name in _classes(module)}


def find_step(name: str) -> type[Any]:
    """The class of a step. Raises ConfigError naming the nearest known step, EnvironmentProblem without datatrove."""
    _quiet()
    module, _, short = name.rpartition(".")
    module = module or known_steps().get(short, "")
    if not module.startswith("datatrove."):
        raise ConfigError(f"datatrove has no filter or formatter {name!r}{nearest(short, known_steps())}")
    try:
        found = getattr(importlib.import_module(module), short)
    except (ImportError, AttributeError) as error:
        hint = nearest(short, known_steps())
        raise ConfigError(f"datatrove step {name!r} cannot be imported{hint}", found=str(error)) from error
    if not (isinstance(found, type) and hasattr(found, "run")):
        raise ConfigError(f"{name!r} is not a datatrove step", expected="a filter or a formatter", found=repr(found))
    return found


def rater_step(rater: Rater, *, name: str = "", batch_size: int = 1_000) -> "PipelineStep":
    """A datatrove step that rates documents and lets all of them pass.

    Args:
        rater: any rater; scores it reads must come from a step before it.
        name: what the step is called in datatrove's logs and statistics (default: its first score).
        batch_size: documents rated together.

    It reads `text`, and `source`, `url`, `lang` and other document columns from the metadata, where readers of
    datatrove put them. Each score lies in `document.metadata` under its name, None where it was not rated. Raises
    EnvironmentProblem without datatrove.
    """
    _quiet()
    from pipelines.stages.datatrove_step import RaterStep

    return RaterStep(rater, name or f"Rater of {rater.scores[0].name}", batch_size)


@lru_cache(maxsize=16)
def _step(name: str, arguments: str) -> Any:
    """Make a step, once a process; `arguments` are canonical JSON."""
    kind = find_step(name)
    if kind.__name__ == "SamplerFilter":
        raise ConfigError(
            "SamplerFilter draws by call order, so its result would depend on the workers",
            fix="take a share with the recipe's own sampling, which draws by document id",
        )
    values = {key: _tuples(value) for key, value in json.loads(arguments).items()}
    try:
        inspect.signature(kind.__init__).bind(None, **values)
        step = kind(**values)
    except (TypeError, ValueError, ImportError) as error:
        ours = ("self", "exclusion_writer")
        parameters = [key for key in inspect.signature(kind.__init__).parameters if key not in ours]
        raise ConfigError(
            f"datatrove step {name} cannot be made with these arguments",
            expected=", ".join(parameters) or "no arguments",
            found=str(error),
            where="args of the datatrove stage",
        ) from error
    if hasattr(step, "tldextractor"):
        step.tldextractor = _suffixes()
    return step


def _suffixes() -> Any:
    """The packaged list of public suffixes: the live one would change results from day to day, and needs a network."""
    from tldextract import TLDExtract

    return TLDExtract(suffix_list_urls=())


def _run(
    step: Any, texts: list[str], metadata: list[dict[str, Any]], ids: list[str]
) -> tuple[dict[int, str], dict[int, str]]:
    """Pass documents through a step's own `run`; returns the texts kept and the reasons given, by position."""
    from datatrove.data import Document

    documents = [Document(text=text, id=id, metadata=meta) for text, id, meta in zip(texts, ids, metadata, strict=True)]
    place = {id(document): i for i, document in enumerate(documents)}
    reasons: dict[int, str] = {}
    if hasattr(step, "exclusion_writer"):
        step.exclusion_writer = _Reasons(reasons, place)
    kept = {place[id(document)]: document.text for document in step.run(iter(documents))}
    return kept, reasons


class _Reasons:
    """Stands where datatrove writes excluded documents, and notes why each was."""

    def __init__(self, reasons: dict[int, str], place: dict[int, int]) -> None:
        self._reasons, self._place = reasons, place

    def __enter__(self) -> "_Reasons":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, document: "Document", rank: int = 0, **_: Any) -> None:
        """Take the reason that the filter left in the metadata."""
        self._reasons[self._place[id(document)]] = str(document.metadata.get("filter_reason", ""))


def _metadata(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = batch.select([n for n in _FIELDS if n in batch.schema.names]).to_pylist()
    return [{key: value for key, value in row.items() if value is not None} | _language(row) for row in rows]


def _language(row: dict[str, Any]) -> dict[str, Any]:
    """datatrove's own name for the column."""
    return {"language": row["lang"]} if row.get("lang") else {}


def _with_texts(batch: pa.RecordBatch, texts: list[str]) -> pa.RecordBatch:
    renewed = {"text": pa.array(texts, pa.string())}
    renewed["n_bytes"] = pc.cast(pc.binary_length(renewed["text"]), pa.int32())
    for name, column in renewed.items():
        place = batch.schema.get_field_index(name)
        if place >= 0:
            batch = batch.set_column(place, batch.schema.field(place), column)
    return batch


def _reason(name: str, detail: str) -> str:
    return f"datatrove:{name}: {detail}" if detail else f"datatrove:{name}"


def _tuples(value: Any) -> Any:
    """YAML has lists where datatrove's signatures have tuples."""
    nested = isinstance(value, list) and value and isinstance(value[0], list)
    return tuple(_tuples(item) for item in value) if nested else value


def _modules(package: str) -> Iterator[str]:
    try:
        folder = importlib.import_module(package)
    except ImportError as error:
        raise _missing(error) from error
    for module in pkgutil.iter_modules(folder.__path__):
        yield f"{package}.{module.name}"


def _classes(module: str) -> list[str]:
    loaded = importlib.import_module(module)
    own = [item for item in vars(loaded).values() if isinstance(item, type) and item.__module__ == module]
    return [item.__name__ for item in own if hasattr(item, "run") and not inspect.isabstract(item)]


def _quiet() -> None:
    """Keep datatrove's log off the terminal: it goes through loguru, and adds handlers of its own."""
    try:
        from loguru import logger
    except ImportError as error:
        raise _missing(error) from error
    logger.disable("datatrove")


def _missing(error: ImportError) -> EnvironmentProblem:
    return EnvironmentProblem("datatrove is not installed", found=str(error), fix="pip install 'gradatim[web]'")
