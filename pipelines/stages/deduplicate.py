"""Exact and near duplicates: sketches per shard, one SQL text to find pairs, and the best member kept.

A sketch row is (band, key, key2, id). Band -1 is the whole text (xxh3-128), bands 0 and up are MinHash bands
over 5-word shingles: two documents that share any band are duplicates (14 bands of 8 rows: half are found at
a Jaccard similarity of 0.7, nearly all at 0.8, as in FineWeb, arXiv 2406.17557). Pairs are joined into groups,
and a group keeps its member of the highest score, ties by id: the same one whatever the order of work.
Groups are transitive, so a chain of near-duplicates is one group.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash
from pydantic import Field

from corpus.config import Config
from corpus.errors import InputError
from corpus.shards import read_batches
from pipelines.stages.shard_work import write_one
from pipelines.tally import Tally

SKETCH_SCHEMA = pa.schema(
    [
        pa.field("band", pa.int32(), nullable=False),
        pa.field("key", pa.int64(), nullable=False),
        pa.field("key2", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
    ]
)
PAIR_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("leader", pa.string()),
        pa.field("exact", pa.bool_()),
        pa.field("score", pa.float32()),
        pa.field("leader_score", pa.float32()),
    ]
)
DUPLICATE_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("keep_id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
    ]
)
EXACT_BAND = -1

# One row for each document that shares a key with a better one. Runs on DuckDB and on Spark alike.
PAIRS_SQL = """
WITH keyed AS (
    SELECT s.band, s.key, s.key2, s.id, c.composite AS score
    FROM sketches s JOIN scores c ON s.id = c.id
), led AS (
    SELECT band, id, score,
           first_value(id) OVER (PARTITION BY band, key, key2 ORDER BY score DESC NULLS LAST, id) AS leader,
           first_value(score) OVER (PARTITION BY band, key, key2 ORDER BY score DESC NULLS LAST, id) AS leader_score
    FROM keyed
)
SELECT id, leader, max(CASE WHEN band = -1 THEN 1 ELSE 0 END) = 1 AS exact,
       max(score) AS score, max(leader_score) AS leader_score
FROM led WHERE id <> leader
GROUP BY id, leader
ORDER BY id, leader
"""


# Ids that more than one document has: the same record in two files. Bands look like one document to such a pair.
REPEATED_SCHEMA = pa.schema([pa.field("id", pa.string()), pa.field("n", pa.int64())])
REPEATED_SQL = """
SELECT id, count(*) AS n FROM sketches WHERE band = -1 GROUP BY id HAVING count(*) > 1 ORDER BY id
"""


class MinHashSettings(Config):
    """How near-duplicates are found; both exact and near duplicates are removed."""

    bands: int = Field(14, ge=1, description="bands of the sketch: more finds less similar pairs")
    rows: int = Field(8, ge=1, description="hashes a band: more asks for more similarity")
    ngram: int = Field(5, ge=1, description="words in a shingle")
    seed: int = 1


@dataclass(frozen=True)
class SketchWork:
    """Sketch one document shard."""

    documents: Path
    settings: MinHashSettings

    def run(self, folder: Path, tally: Tally) -> Iterable[Path]:
        """Write `<shard>` under `folder`: sketch rows in document order, the exact row first."""
        tables = [self._sketch(batch) for batch in read_batches(self.documents, ["id", "text"])]
        table = pa.concat_tables(tables) if tables else SKETCH_SCHEMA.empty_table()
        return write_one(folder / self.documents.name, table, tally)

    def _sketch(self, batch: pa.RecordBatch) -> pa.Table:
        from raters.text.minhash import band_keys

        s = self.settings
        hashes = band_keys(batch.column("text"), bands=s.bands, rows=s.rows, ngram=s.ngram, seed=s.seed)
        near = hashes.values.view(np.int64)
        digests = [xxhash.xxh3_128_digest(text.encode("utf-8")) for text in batch.column("text").to_pylist()]
        exact = np.frombuffer(b"".join(digests), dtype=np.int64).reshape(-1, 2)
        width = s.bands + 1
        keys = np.concatenate([exact[:, :1], near], axis=1)
        keys2 = np.concatenate([exact[:, 1:], np.zeros_like(near)], axis=1)
        bands = np.tile(np.arange(EXACT_BAND, s.bands, dtype=np.int32), batch.num_rows)
        ids = batch.column("id").take(pa.array(np.repeat(np.arange(batch.num_rows), width)))
        columns = [pa.array(bands), pa.array(keys.ravel()), pa.array(keys2.ravel()), ids]
        # A text without a word has no near-duplicates: only its exact row stays.
        has_words = np.repeat(hashes.present, width) | (bands == EXACT_BAND)
        return pa.Table.from_arrays(columns, schema=SKETCH_SCHEMA).filter(pa.array(has_words))


def refuse_repeated(repeated: pa.Table) -> None:
    """Raise InputError when documents of different files share an id (rows of REPEATED_SCHEMA)."""
    if repeated.num_rows:
        raise InputError(
            f"{repeated.num_rows:,} document ids occur in more than one input file",
            expected="each record once, whatever file it is in",
            found=", ".join(repeated.column("id").to_pylist()[:3]),
            fix="leave out the files that repeat others, or give them another source",
        )


def duplicate_table(pairs: pa.Table) -> pa.Table:
    """From pairs (PAIR_SCHEMA) to the documents to remove: id, the kept member's id, and exact or near.

    A removed document is `exact` when its whole text equals that of the member it was paired with.
    """
    groups = _Groups()
    score: dict[str, float] = {}
    exact: set[str] = set()
    for row in pairs.to_pylist():
        groups.join(row["id"], row["leader"])
        score[row["id"]] = _sortable(row["score"])
        score[row["leader"]] = _sortable(row["leader_score"])
        if row["exact"]:
            exact.add(row["id"])
    best: dict[str, str] = {}
    for name in sorted(score, key=lambda name: (-score[name], name)):
        best.setdefault(groups.root(name), name)
    rows = [(name, best[groups.root(name)]) for name in sorted(score)]
    removed = [(name, keep) for name, keep in rows if name != keep]
    columns = [
        pa.array([name for name, _ in removed], pa.string()),
        pa.array([keep for _, keep in removed], pa.string()),
        pa.array(["exact" if name in exact else "near" for name, _ in removed], pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=DUPLICATE_SCHEMA)


def _sortable(score: float | None) -> float:
    return float("-inf") if score is None else score


class _Groups:
    """Union-find over ids; the root of a group is an arbitrary member, used only to tell groups apart."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def root(self, name: str) -> str:
        while (parent := self._parent.setdefault(name, name)) != name:
            self._parent[name] = self._parent[parent]
            name = parent
        return name

    def join(self, a: str, b: str) -> None:
        self._parent[self.root(a)] = self.root(b)
