"""From a row with named fields, of JSON or of a table, to a page."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from corpus.config import Config
from pipelines.stages.readers.pages import Page, storable
from pipelines.tally import Tally


class FieldNames(Config):
    """Which field or column holds what; a name with dots looks into nested fields."""

    text: str = Field(default="text", description="the document's text; a row without it is dropped")
    id: str = Field(
        default="id", description="an id that is unique in the source; rows without one are known by their place"
    )
    url: str = "url"
    date: str = "date"
    lang: str = "lang"
    meta: tuple[str, ...] = Field(default=(), description="fields to keep in the document's meta, as text")

    def columns(self) -> list[str]:
        """The top-level columns these names read."""
        names = [self.text, self.id, self.url, self.date, self.lang, *self.meta]
        return sorted({name.partition(".")[0] for name in names} | set(names))


def page_of(row: Mapping[str, Any], names: FieldNames, name: str, place: int, tally: Tally) -> Page | None:
    """The page of one row, or None for a row without a text, which is counted. `place` is its line or row."""
    text = lookup(row, names.text)
    if not isinstance(text, str):
        kind = "no text" if text is None else "wrong type of text"
        tally.problem(
            kind, name, place, f"field {names.text!r} is {'missing or null' if text is None else type(text).__name__}"
        )
        tally.lose(kind)
        return None
    text, faults = storable(text)
    for fault in faults:
        tally.problem(fault, name, place, f"removed or replaced in field {names.text!r}")
    if not text.strip():
        tally.lose("empty text")
        return None
    own = _as_text(lookup(row, names.id))
    meta = {key: value for key in names.meta if (value := _as_text(lookup(row, key))) is not None}
    return Page(
        key=own or f"{name}:{place}",
        url=_as_text(lookup(row, names.url)),
        date=_as_text(lookup(row, names.date)),
        lang=_as_text(lookup(row, names.lang)),
        text=text,
        meta=meta or None,
    )


def lookup(row: Mapping[str, Any], name: str) -> Any:
    """The value of a field, by its full name or else step by step at the dots; None where there is none."""
    if name in row:
        return row[name]
    value: Any = row
    for key in name.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    return value


def _as_text(value: Any) -> str | None:
    """Scalars as text; lists and mappings, which no id or address is, as null."""
    if value is None or isinstance(value, list | Mapping):
        return None
    text = storable(str(value))[0]
    return text or None
