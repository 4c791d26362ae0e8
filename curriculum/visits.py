"""Candidates and visits: the documents an order can draw from, and the readings of them it is made of.

A candidate is one document of the token shards with its scores. A visit is the n-th reading of a candidate in a
run; a mixture draws the visits (`mixtures.draw.draw`) and a policy arranges them (`curriculum.arrange`). Which
component of the mixture a visit fills is kept with it; a visit may be a piece of its document, where a phase ends amid.
All of it is tables and arrays: nothing here loops over documents in Python.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from corpus.errors import SchemaError
from corpus.keyed_random import digests
from corpus.tokens import DOCS_SCHEMA
from curriculum.order import NAMES, encode_names

CANDIDATE_SCHEMA = pa.schema(
    [
        pa.field("digest", pa.int64(), nullable=False),
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("doc", pa.int32(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("length", pa.int32(), nullable=False),
        pa.field("source", NAMES, nullable=False),
        pa.field("rephrased", pa.bool_(), nullable=False),
        pa.field("inherited", pa.bool_(), nullable=False),
    ]
)
VISIT_SCHEMA = pa.schema(
    [
        *CANDIDATE_SCHEMA,
        pa.field("component", NAMES, nullable=False),
        pa.field("phase", NAMES, nullable=False),
        pa.field("visit", pa.int32(), nullable=False),
    ]
)
_MAX_GENERATIONS = 16


def candidates(
    shards: Sequence[tuple[str, pa.Table]], scores: pa.Table | None = None, parents: pa.Table | None = None
) -> pa.Table:
    """One row a document of the token shards, in the order of shards and of documents within them.

    Args:
        shards: name and document table (corpus.tokens.DOCS_SCHEMA) of each token shard.
        scores: `id` and any number of columns to order or draw by (scores in float32, levels and labels; null: not
            rated); ids may be absent. None: nothing is rated.
        parents: columns `id` and `parent_id`, a row for each rephrasing; a null parent_id counts as no row.

    Returns: CANDIDATE_SCHEMA and the columns of `scores`. A rephrasing without any score of its own gets those of its
    nearest rated ancestor (`inherited` is then true); `rephrased` marks every document with a parent.

    Raises: SchemaError for other columns, an id with two rows of scores or two parents, a score that is not finite,
    a document without tokens, or parents that go round in a circle.
    """
    if not shards:
        raise SchemaError("there are no token shards to draw from", expected="one or more")
    documents = pa.concat_tables([_numbered(index, name, docs) for index, (name, docs) in enumerate(shards)])
    rated = _lookup(scores if scores is not None else pa.table({"id": pa.array([], pa.string())}))
    for name in rated.columns[1:]:
        _refuse_not_finite(rated, name)
    parent = _lookup(parents, ("parent_id",)) if parents is not None else _NO_PARENTS
    ids = pl.DataFrame({"id": pl.from_arrow(documents["id"])}).with_row_index("row")
    ancestor = ids.join(parent, on="id", how="left", maintain_order="left").select("row", "parent_id")
    own = ids.join(rated.with_columns(_rated=True), on="id", how="left", maintain_order="left").drop("id")
    heirs = _inherit(ancestor.filter(own["_rated"].is_null() & pl.col("parent_id").is_not_null()), rated, parent)
    columns = own.drop("_rated").update(heirs, on="row", how="left", maintain_order="left").drop("row")
    inherited = np.zeros(len(ids), np.bool_)
    inherited[heirs["row"].to_numpy()] = True
    made = {
        **{name: documents[name] for name in ("shard", "doc", "start", "length")},
        "digest": digests(documents["id"]),
        "source": encode_names(documents["source"]),
        "rephrased": ancestor["parent_id"].is_not_null().to_numpy(),
        "inherited": inherited,
    }
    table = pa.table({name: made[name] for name in CANDIDATE_SCHEMA.names}, schema=CANDIDATE_SCHEMA)
    for name in columns.columns:
        table = table.append_column(name, _column(columns[name]))
    return table.combine_chunks()


def canonical_sort(visits: pa.Table, keys: Sequence[npt.NDArray[np.generic]]) -> npt.NDArray[np.uint32]:
    """Rows of a table of candidates or visits sorted by the keys, shape (n,), whatever order they came in.

    Rows equal in every key follow their digest, shard, document and visit number: this happens only where hashes
    collide or a document lies in two shards, so the longer comparison is made only then.
    """
    frame = pl.DataFrame({f"key{i}": key for i, key in enumerate(keys)})
    rows = frame.select(pl.arg_sort_by(frame.columns)).to_series().to_numpy()
    equal = np.ones(max(len(rows) - 1, 0), np.bool_)
    for key in keys:
        sorted_key = key[rows]
        equal &= sorted_key[1:] == sorted_key[:-1]
    if equal.any():
        names = [name for name in ("digest", "shard", "doc", "visit", "start") if name in visits.column_names]
        frame = frame.with_columns([pl.Series(name, visits[name]) for name in names])
        rows = frame.select(pl.arg_sort_by(frame.columns)).to_series().to_numpy()
    return rows


def multiset(table: pa.Table) -> tuple[int, int]:
    """How many visits a table holds, and the sum of their hashes modulo 2^64: equal for equal multisets.

    A visit is its shard, document, first token, length and number; its phase, score and place are left out.
    """
    columns = (table[name].to_numpy() for name in ("shard", "doc", "start", "length", "visit"))
    return table.num_rows, int(place_digests(*columns).view(np.uint64).sum(dtype=np.uint64))


def place_digests(*numbers: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """An int64 for each row of whole numbers, shape (n,), for things that have no id but a place of their own."""
    total = np.full(len(numbers[0]), 0x243F6A8885A308D3, np.uint64)
    for values in numbers:
        total = _stir(total ^ values.astype(np.int64).view(np.uint64))
    return total.view(np.int64)


def same_visits(a: pa.Table, b: pa.Table) -> bool:
    """Do two tables hold the same visits, each as often, in whatever order?"""
    return multiset(a) == multiset(b)


def _stir(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The SplitMix64 finaliser (Steele, Lea, Flood 2014): a bijection of 64-bit words that mixes every bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _numbered(index: int, name: str, docs: pa.Table) -> pa.Table:
    if not docs.schema.equals(DOCS_SCHEMA):
        raise SchemaError(
            "this is not the document table of a token shard",
            expected=", ".join(f"{field.name} {field.type}" for field in DOCS_SCHEMA),
            found=", ".join(f"{field.name} {field.type}" for field in docs.schema),
            where=name,
        )
    if docs.num_rows and pc.min(docs["length"]).as_py() < 1:
        raise SchemaError("a token shard lists documents without tokens", expected="a length of 1 or more", where=name)
    doc = pa.array(np.arange(docs.num_rows, dtype=np.int32))
    shard = pa.array(np.full(docs.num_rows, index, np.int32))
    return docs.drop_columns(["n_bytes"]).append_column("shard", shard).append_column("doc", doc)


_NO_PARENTS = pl.DataFrame(schema={"id": pl.String, "parent_id": pl.String})


def _lookup(table: pa.Table, values: Sequence[str] = ()) -> pl.DataFrame:
    """A table as one row an id, without rows that hold nothing; the same row twice counts once."""
    if not {"id", *values} <= set(table.column_names):
        raise SchemaError(f"expected the columns {', '.join(('id', *values))}", found=", ".join(table.column_names))
    names = ["id", *(values or (name for name in table.column_names if name != "id"))]
    if taken := set(names) & set(VISIT_SCHEMA.names):
        raise SchemaError(f"a score cannot be called {sorted(taken)[0]!r}: every visit has a column of that name")
    frame = pl.DataFrame({name: pl.from_arrow(table[name]) for name in names})
    if len(names) > 1:
        frame = frame.filter(~pl.all_horizontal(pl.col(names[1:]).is_null()), pl.col("id").is_not_null())
    if frame["id"].is_duplicated().any():
        frame = frame.unique()
    twice = frame.filter(frame["id"].is_duplicated())
    if twice.height:
        raise SchemaError(
            f"{twice['id'].n_unique():,} documents have more than one {' or '.join(names[1:])}",
            found=f"id {sorted(twice['id'].to_list())[0]}",
        )
    return frame


def _refuse_not_finite(rated: pl.DataFrame, name: str) -> None:
    if not rated[name].dtype.is_float():
        return
    wrong = rated.filter(~pl.col(name).is_finite())
    if wrong.height:
        raise SchemaError(
            f"{wrong.height:,} scores are not finite numbers",
            expected="a number, or null where a document was not rated",
            found=f"{name} of id {wrong['id'].to_list()[0]}",
        )


def _inherit(pending: pl.DataFrame, rated: pl.DataFrame, parent: pl.DataFrame) -> pl.DataFrame:
    """Scores for (row, parent_id) from the nearest rated ancestor, by row; rows without one are left out."""
    found = [pl.DataFrame(schema={"row": pending.schema["row"], **dict(list(rated.schema.items())[1:])})]
    for _ in range(_MAX_GENERATIONS):
        if not pending.height:
            return pl.concat(found)
        tried = pending.join(rated.with_columns(_rated=True), left_on="parent_id", right_on="id", how="left")
        found.append(tried.filter(pl.col("_rated").is_not_null()).drop("parent_id", "_rated"))
        rest = tried.filter(pl.col("_rated").is_null()).select("row", id="parent_id")
        pending = rest.join(parent, on="id", how="inner").select("row", "parent_id")
    raise SchemaError(
        "the parents of rephrasings go round in a circle, or over too many generations",
        expected=f"at most {_MAX_GENERATIONS} generations",
        found=f"id {sorted(pending['parent_id'].to_list())[0]} is still not an original",
    )


def _column(values: pl.Series) -> pa.Array | pa.ChunkedArray:
    """A column as Arrow, names encoded; minus zero becomes zero, so that equal scores are equal bytes."""
    if values.dtype.is_float():
        zero = pl.lit(0.0, dtype=values.dtype)
        return (
            values.alias("x")
            .to_frame()
            .select(pl.when(pl.col("x") == 0).then(zero).otherwise("x"))
            .to_series()
            .to_arrow()
        )
    return encode_names(values.cast(pl.String).to_arrow()) if values.dtype == pl.Categorical else values.to_arrow()
