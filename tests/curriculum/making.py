"""Small token shards, candidates and visits for the tests of orders and mixtures."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from hypothesis import settings

from corpus.documents import document_id
from corpus.tokens import DOCS_SCHEMA
from curriculum.order import encode_names
from curriculum.visits import VISIT_SCHEMA, candidates

properties = settings(max_examples=50, deadline=None)  # no deadline: machines are shared and imports are slow


def docs_table(lengths: Sequence[int], source: str, first: int = 0) -> pa.Table:
    """The document table of a shard whose documents have these lengths; ids follow from source and number."""
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]) if len(lengths) else []
    return pa.table(
        {
            "id": [document_id(source, str(first + i)) for i in range(len(lengths))],
            "start": pa.array(starts, pa.int64()),
            "length": pa.array(lengths, pa.int32()),
            "source": [source] * len(lengths),
            "n_bytes": pa.array(lengths, pa.int32()),
        },
        schema=DOCS_SCHEMA,
    )


def pool(sources: dict[str, Sequence[int]], seed: int = 0, scored: bool = True) -> pa.Table:
    """Candidates of one shard a source, given the documents' lengths, with scores drawn under a seed."""
    shards = [(name, docs_table(lengths, name)) for name, lengths in sources.items()]
    ids = [id for _, docs in shards for id in docs["id"].to_pylist()]
    values = np.random.default_rng(seed).integers(0, 5, len(ids)).astype(np.float32)  # few values: many ties
    return candidates(shards, pa.table({"id": ids, "edu": values if scored else pa.nulls(len(ids), pa.float32())}))


def visits_of(table: pa.Table, visit: int = 0, phase: str = "") -> pa.Table:
    """Each candidate once, as the given visit."""
    named = {"phase": encode_names(pa.array([phase] * table.num_rows, pa.string())), "component": table["source"]}
    made = {"visit": pa.array(np.full(table.num_rows, visit, np.int32)), **named}
    columns = [made.get(name) or table[name] for name in VISIT_SCHEMA.names]
    visits = pa.Table.from_arrays(columns, schema=VISIT_SCHEMA)
    for name in table.column_names:
        if name not in VISIT_SCHEMA.names:
            visits = visits.append_column(name, table[name])
    return visits.combine_chunks()


def shuffled_rows(table: pa.Table, seed: int) -> pa.Table:
    """The same rows in another order and in several chunks."""
    rows = np.random.default_rng(seed).permutation(table.num_rows)
    halves = np.array_split(rows, 3)
    return pa.concat_tables([table.take(pa.array(half)) for half in halves])
