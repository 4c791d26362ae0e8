"""What a document is: one fixed Arrow schema, its ids, and the check every writer passes.

The schema is never inferred. `text` is never null or empty and always valid UTF-8; `meta` is for users and
is not read by our own code. A rephrasing is a document whose `parent_id` names the one it was made from.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from corpus.errors import SchemaError


def names_to(value: pa.DataType) -> pa.DataType:
    """The type of a column that maps names to values: lists of {key, value}, which more readers know than maps."""
    return pa.list_(pa.struct([("key", pa.string()), ("value", value)]))


DOCUMENT_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("url", pa.string()),
        pa.field("date", pa.string()),
        pa.field("lang", pa.string()),
        pa.field("n_bytes", pa.int32(), nullable=False),
        pa.field("parent_id", pa.string()),
        pa.field("style", pa.string()),
        pa.field("generator", pa.string()),
        pa.field("meta", names_to(pa.string())),
    ]
)


def document_id(source: str, key: str) -> str:
    """The id of a document: 32 hex digits, xxh3-128 of its source and its key within the source.

    The key is what makes the document findable at its origin: file name and record offset, or the id
    it already had. A NUL byte parts the two, so ("ab", "c") and ("a", "bc") differ.
    """
    return xxhash.xxh3_128_hexdigest(f"{source}\x00{key}".encode("utf-8", "surrogatepass"))


def documents(rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """Build a checked batch of documents from mappings; missing nullable fields become null.

    `n_bytes` is filled in from the text. Raises SchemaError as `check_documents` does.
    """
    columns: dict[str, list[Any]] = {name: [row.get(name) for row in rows] for name in DOCUMENT_SCHEMA.names}
    columns["n_bytes"] = [len(row["text"].encode("utf-8")) for row in rows]
    columns["meta"] = [sorted(row["meta"].items()) if row.get("meta") else None for row in rows]
    arrays = [pa.array(columns[field.name], field.type) for field in DOCUMENT_SCHEMA]
    batch = pa.RecordBatch.from_arrays(arrays, schema=DOCUMENT_SCHEMA)
    check_documents(batch)
    return batch


def check_documents(batch: pa.RecordBatch | pa.Table) -> None:
    """Raise SchemaError unless a batch is made of documents: schema, no nulls where none may be, no empty text."""
    if not batch.schema.equals(DOCUMENT_SCHEMA):
        raise SchemaError(
            "this table does not hold documents",
            expected=_describe(DOCUMENT_SCHEMA),
            found=_describe(batch.schema),
        )
    for field in DOCUMENT_SCHEMA:
        nulls = batch.column(field.name).null_count
        if not field.nullable and nulls:
            raise SchemaError(f"{nulls:,} documents have no {field.name}", expected="a value in every row")
    empty = pc.sum(pc.equal(pc.binary_length(batch.column("text")), 0)).as_py() or 0
    if empty:
        raise SchemaError(f"{empty:,} documents have an empty text", expected="at least one character")


def _describe(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)
