"""Candidates and visits: the documents an order can draw from, and the readings of them it is made of.

A candidate is one document of the token shards with its score. A visit is the n-th reading of a candidate in a
run; a mixture draws the visits (`mixtures.mixture.draw`) and a policy arranges them (`curriculum.policies.arrange`).
All of it is tables and arrays: nothing here loops over documents in Python except the hash of their ids.
"""

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from corpus.errors import SchemaError
from corpus.keyed_random import keyed_hashes
from corpus.tokens import DOCS_SCHEMA
from curriculum.order import NAMES, ORDER_SCHEMA, OrderError, encode_names

CANDIDATE_SCHEMA = pa.schema(
    [
        pa.field("id", pa.large_string(), nullable=False),
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("doc", pa.int32(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("length", pa.int32(), nullable=False),
        pa.field("source", NAMES, nullable=False),
        pa.field("score", pa.float32()),
        pa.field("rephrased", pa.bool_(), nullable=False),
        pa.field("inherited", pa.bool_(), nullable=False),
    ]
)
VISIT_SCHEMA = pa.schema([*ORDER_SCHEMA, *(CANDIDATE_SCHEMA.field(name) for name in ("id", "rephrased", "inherited"))])
_MAX_GENERATIONS = 16
_IDS_AT_ONCE = 1 << 20


def candidates(
    shards: Sequence[tuple[str, pa.Table]], scores: pa.Table | None = None, parents: pa.Table | None = None
) -> pa.Table:
    """One row a document of the token shards, in the order of shards and of documents within them.

    Args:
        shards: name and document table (corpus.tokens.DOCS_SCHEMA) of each token shard.
        scores: columns `id` and `score` (float32; null: not rated); ids may be absent. None: nothing is rated.
        parents: columns `id` and `parent_id`, a row for each rephrasing; a null parent_id counts as no row.

    Returns: CANDIDATE_SCHEMA. A rephrasing without a score of its own gets that of its nearest rated ancestor
    (`inherited` is then true); `rephrased` marks every document with a parent.

    Raises: SchemaError for other columns, an id with two scores or two parents, a score that is not finite,
    a document without tokens, or parents that go round in a circle.
    """
    if not shards:
        raise SchemaError("there are no token shards to draw from", expected="one or more")
    documents = pa.concat_tables([_numbered(index, name, docs) for index, (name, docs) in enumerate(shards)])
    rated = _lookup(scores, "score", pl.Float32)
    finite = rated["score"].is_finite()
    if not finite.all():
        raise SchemaError(
            f"{(~finite).sum():,} scores are not finite numbers",
            expected="a number, or null where a document was not rated",
            found=f"id {rated.filter(~finite)['id'].to_list()[0]}",
        )
    parent = _lookup(parents, "parent_id", pl.String)
    ids = pl.DataFrame({"id": pl.from_arrow(documents["id"])}).with_row_index("row")
    own = ids.join(rated, on="id", how="left", maintain_order="left")["score"]
    ancestor = ids.join(parent, on="id", how="left", maintain_order="left").select("row", "parent_id")
    heirs = _inherit(ancestor.filter(own.is_null() & pl.col("parent_id").is_not_null()), rated, parent)
    score = own.to_numpy(writable=True)
    score[heirs["row"].to_numpy()] = heirs["score"].to_numpy()
    inherited = np.zeros(len(ids), np.bool_)
    inherited[heirs["row"].to_numpy()] = True
    found = {name: documents[name] for name in ("id", "shard", "doc", "start", "length")}
    return pa.table(
        {
            **found,
            "id": documents["id"].cast(pa.large_string()),
            "source": encode_names(documents["source"]),
            "score": pa.array(score, pa.float32(), from_pandas=True),
            "rephrased": ancestor["parent_id"].is_not_null().to_numpy(),
            "inherited": inherited,
        },
        schema=CANDIDATE_SCHEMA,
    ).combine_chunks()


def check_visits(visits: pa.Table) -> None:
    """Raise OrderError unless a table has the columns and types of VISIT_SCHEMA."""
    for field in VISIT_SCHEMA:
        if field.name not in visits.column_names or visits.schema.field(field.name).type != field.type:
            raise OrderError(
                "this table does not hold visits",
                expected=f"a column {field.name} of {field.type}",
                found=", ".join(f"{other.name} {other.type}" for other in visits.schema),
                fix="draw them from candidates with mixtures.mixture.draw",
            )


def visit_hashes(
    seed: int, ids: pa.ChunkedArray | pa.Array, visits: npt.NDArray[np.int32] | int
) -> npt.NDArray[np.uint64]:
    """A uint64 for each visit, shape (n,), from the seed, the document's id and the visit's number alone.

    The id is hashed by xxh3-64 under the seed; the visit is stirred in by the SplitMix64 finaliser, a bijection,
    so that two documents never collide in one epoch unless their ids' hashes do.
    """
    keys = chain.from_iterable(_slices(ids))
    mixed = keyed_hashes(seed, keys) + np.asarray(visits, np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return _stir(mixed)


def canonical_sort(visits: pa.Table, keys: Sequence[npt.NDArray[np.generic]]) -> npt.NDArray[np.uint32]:
    """Rows of a table of candidates or visits sorted by the keys, shape (n,), whatever order they came in.

    Rows equal in every key follow their id, shard, document and visit number: this happens only where hashes
    collide or a document lies in two shards, so the slow comparison of ids is made only then.
    """
    frame = pl.DataFrame({f"key{i}": key for i, key in enumerate(keys)})
    rows = frame.select(pl.arg_sort_by(frame.columns)).to_series().to_numpy()
    equal = np.ones(max(len(rows) - 1, 0), np.bool_)
    for key in keys:
        sorted_key = key[rows]
        equal &= sorted_key[1:] == sorted_key[:-1]
    if equal.any():
        names = [name for name in ("id", "shard", "doc", "visit") if name in visits.column_names]
        frame = frame.with_columns([pl.Series(name, visits[name]) for name in names])
        rows = frame.select(pl.arg_sort_by(frame.columns)).to_series().to_numpy()
    return rows


def multiset(table: pa.Table) -> tuple[int, int]:
    """How many visits a table holds, and the sum of their hashes modulo 2^64: equal for equal multisets.

    A visit is its shard, document, first token, length and number; its phase, score and place are left out.
    """
    total = np.full(table.num_rows, 0x243F6A8885A308D3, np.uint64)
    for name in ("shard", "doc", "start", "length", "visit"):
        total = _stir(total ^ table[name].to_numpy().astype(np.int64).view(np.uint64))
    return table.num_rows, int(total.sum(dtype=np.uint64))


def same_visits(a: pa.Table, b: pa.Table) -> bool:
    """Do two tables hold the same visits, each as often, in whatever order?"""
    return multiset(a) == multiset(b)


def _stir(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The SplitMix64 finaliser (Steele, Lea, Flood 2014): a bijection of 64-bit words that mixes every bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _slices(ids: pa.ChunkedArray | pa.Array) -> Iterator[list[str]]:
    for at in range(0, len(ids), _IDS_AT_ONCE):
        yield ids.slice(at, _IDS_AT_ONCE).to_pylist()


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


def _lookup(table: pa.Table | None, value: str, dtype: type[pl.DataType]) -> pl.DataFrame:
    """A table as one row an id, without nulls; the same row twice counts once."""
    if table is None:
        return pl.DataFrame(schema={"id": pl.String, value: dtype})
    if not {"id", value} <= set(table.column_names):
        raise SchemaError(f"expected the columns id and {value}", found=", ".join(table.column_names))
    frame = pl.DataFrame({name: pl.from_arrow(table[name]) for name in ("id", value)})
    frame = frame.with_columns(pl.col(value).cast(dtype)).drop_nulls()
    if frame["id"].is_duplicated().any():
        frame = frame.unique()
    twice = frame.filter(frame["id"].is_duplicated())
    if twice.height:
        raise SchemaError(
            f"{twice['id'].n_unique():,} documents have more than one {value}",
            found=f"id {sorted(twice['id'].to_list())[0]}",
        )
    return frame


def _inherit(pending: pl.DataFrame, rated: pl.DataFrame, parent: pl.DataFrame) -> pl.DataFrame:
    """Scores for (row, parent_id) from the nearest rated ancestor, as (row, score); rows without one are left out."""
    found = [pl.DataFrame(schema={"row": pending.schema["row"], "score": pl.Float32})]
    for _ in range(_MAX_GENERATIONS):
        if not pending.height:
            return pl.concat(found)
        tried = pending.join(rated, left_on="parent_id", right_on="id", how="left")
        found.append(tried.filter(pl.col("score").is_not_null()).select("row", "score"))
        rest = tried.filter(pl.col("score").is_null()).select("row", id="parent_id")
        pending = rest.join(parent, on="id", how="inner").select("row", "parent_id")
    raise SchemaError(
        "the parents of rephrasings go round in a circle, or over too many generations",
        expected=f"at most {_MAX_GENERATIONS} generations",
        found=f"id {sorted(pending['parent_id'].to_list())[0]} is still not an original",
    )
