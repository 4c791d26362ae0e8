"""Artifacts to and from the tables other people use: Hugging Face datasets, Polars, DuckDB, pandas.

Every table of an artifact is plain Parquet, so most needs no code of ours:

    datasets.load_dataset("parquet", data_files=str(workspace / "scores/prose/*.parquet"))
    polars.read_parquet(workspace / "orders/climb/order.parquet")
    duckdb.sql("SELECT source, sum(length) FROM 'orders/climb/order.parquet' GROUP BY source")

What that leaves are token shards, which are .npy files: `to_dataset` opens those too. In the other direction
`order_from_frame` writes a frame of visits, however it was edited, as an order that a loader reads:

    visits = polars.from_arrow(order.table()).filter(polars.col("score") > 0.2)
    order_from_frame(visits, workspace / "orders/climb_high", like=order, name="orders/climb_high")
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import xxhash

from corpus.artifacts import Artifact, begin, describe_part, finish, own_files
from corpus.errors import ArtifactError, EnvironmentProblem
from corpus.fingerprints import canonical, fingerprint
from corpus.shards import read_table
from corpus.tokens import read_docs, read_token_shard
from curriculum.order import NAMES, ORDER_SCHEMA, Order, OrderError, as_order, write_order_files

if TYPE_CHECKING:
    from datasets import Dataset


def to_dataset(artifact: Artifact, folder: str = ".") -> "Dataset":
    """An artifact as a Hugging Face dataset.

    Token artifacts give one row a document, in the order of their shards: `id`, `source`, `n_bytes` and `input_ids`
    (uint16 or uint32, with the closing end-of-text), mapped from the shards and not copied. Others give the rows of
    their Parquet files, read into memory.

    Args:
        folder: where in the artifact the files lie, such as `attempts` in rephrased documents.

    Raises: ArtifactError for an artifact without such files; EnvironmentProblem where `datasets` is not installed.
    """
    try:
        import datasets
    except ImportError:
        raise EnvironmentProblem("datasets is not installed", fix="pip install 'gradatim[hf]'") from None

    shards = artifact.files(".npy", folder) if artifact.manifest.kind == "tokens" else []
    tables = [_token_table(path) for path in shards] or [
        _without_codes(read_table(path)) for path in artifact.files(".parquet", folder)
    ]
    if not tables:
        raise ArtifactError(
            f"{artifact.name} has no table{'' if folder == '.' else f' in {folder}'} to open as a dataset",
            expected="Parquet files, or the .npy files of a token artifact",
            found=", ".join(part.file for part in artifact.manifest.parts) or "no files",
            where=str(artifact.folder),
        )
    return datasets.Dataset(datasets.table.InMemoryTable(pa.concat_tables(tables)))


def order_from_frame(frame: Any, folder: Path, *, like: Order, name: str | None = None) -> Artifact:
    """Write a frame of visits as an order artifact.

    A frame that still holds what `like` holds gives `like` again, byte for byte; any other gets an identity of its
    own content, and `like` among its inputs.

    Args:
        frame: a Polars or pandas frame, a DuckDB relation, a Hugging Face dataset or an Arrow table: the columns of
            ORDER_SCHEMA in any order, rows in reading order. Other columns are left out. It is held in memory.
        folder: where the artifact goes; name: its name in the workspace, `like`'s where nothing is said.
        like: the order whose token shards the visits point into.

    Raises: OrderError for columns that are missing, hold nulls or values that do not fit, or for no visits.
    """
    table = as_order(_visits(frame))
    made = like.artifact.manifest
    config, inputs, identity = made.config, list(made.inputs), made.fingerprint
    unchanged = table.equals(as_order(like.table()))
    if not unchanged:
        config = {"edited": made.fingerprint, "content": _content(table), "shards": like.shards}
        inputs.append(like.artifact.ref)
        identity = fingerprint({"kind": made.kind, "config": config})
    begin(folder, identity)
    totals = write_order_files(folder, table, name=name or made.name, shards=like.shards)
    return finish(
        folder, kind=made.kind, name=name or made.name, fingerprint=identity, config=config, inputs=inputs,
        parts=[describe_part(folder, path) for path in own_files(folder)],
        totals=made.totals if unchanged else totals, warnings=made.warnings if unchanged else (),
    )  # fmt: skip


def _token_table(shard: Path) -> pa.Table:
    docs, ids = read_docs(shard), read_token_shard(shard)
    ends = docs["start"].to_numpy() + docs["length"].to_numpy()
    offsets = pa.array(np.concatenate([np.zeros(1, np.int64), ends]))
    tokens = pa.LargeListArray.from_arrays(offsets, pa.array(ids.view(np.ndarray)))
    return docs.select(["id", "source", "n_bytes"]).append_column("input_ids", tokens)


def _without_codes(table: pa.Table) -> pa.Table:
    """The table with names in place of their codes, since each file has codes of its own."""
    plain = [field.type.value_type if pa.types.is_dictionary(field.type) else field.type for field in table.schema]
    schema = pa.schema(list(zip(table.column_names, plain, strict=True)))
    return table.cast(schema) if table.num_rows else schema.empty_table()


def _visits(frame: Any) -> pa.Table:
    """The columns of ORDER_SCHEMA out of any frame, in that schema's types, names as text."""
    if hasattr(frame, "with_format"):  # a Hugging Face dataset, whose rows may be a selection of its table's
        frame = frame.with_format("arrow")[:]
    table = frame if isinstance(frame, pa.Table) else pa.table(frame.collect() if hasattr(frame, "collect") else frame)
    columns = {}
    for field in ORDER_SCHEMA:
        if field.name not in table.column_names:
            continue  # `as_order` names what is missing
        kind = pa.string() if field.type == NAMES else field.type
        try:
            columns[field.name] = pa.chunked_array([_cast(chunk, kind) for chunk in table[field.name].chunks], kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise OrderError(
                f"the column {field.name} of this frame does not hold what an order's does",
                expected=f"values that {kind} holds",
                found=f"{table[field.name].type}: {str(error).splitlines()[0]}",
            ) from error
    return pa.table(columns)


def _cast(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Values in another type; codes of names (Polars keeps them as views, which Arrow cannot decode) as the names."""
    if isinstance(values, pa.DictionaryArray):
        values = pa.DictionaryArray.from_arrays(values.indices, values.dictionary.cast(kind)).dictionary_decode()
    return values.cast(kind)


def _content(table: pa.Table) -> str:
    """A checksum of the visits, whatever the chunks and buffers that hold them."""
    digest = xxhash.xxh3_64()
    for column in table.columns:
        values = column.combine_chunks()
        if isinstance(values, pa.DictionaryArray):
            digest.update(canonical(values.dictionary.to_pylist()).encode("utf-8", "surrogatepass"))
            values = values.indices
        digest.update(values.is_valid().to_numpy(zero_copy_only=False).tobytes())
        digest.update(values.fill_null(0).to_numpy().tobytes())
    return digest.hexdigest()
