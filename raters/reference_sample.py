"""A keyed sample of documents that frozen tables are fitted on, so that memory does not grow with the corpus.

It keeps the k documents whose seeded hash of the id is smallest ("bottom-k"): a uniform sample without replacement
that depends neither on the order of arrival nor on how the corpus is cut, and two samples merge into the sample of
both. A corpus of at most k documents is its own sample, so what is fitted on it is exact.

How far a sample's ranks lie from the corpus's: with probability p no quantile is off by more than
sqrt(ln(2 / (1 - p)) / 2k) (Dvoretzky, Kiefer and Wolfowitz, with Massart's constant): 0.0036 for 200,000 and 99 %.

Run it:  sample = sample_sidecars([scores], ["education"]);  fit(sample.columns["education"], "quantile")
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corpus.artifacts import Artifact
from corpus.config import nearest
from corpus.errors import ConfigError
from corpus.keyed_random import keyed_hashes
from corpus.scores import check_aligned
from corpus.shards import read_schema, read_table
from raters.normalise import Floats, floats

SAMPLE_DOCUMENTS = 200_000
_ORDER = [("hash", "ascending"), ("id", "ascending")]


@dataclass(frozen=True)
class Sample:
    """The sampled rows, in the order of their hashes.

    Args:
        table: `id` and the sampled columns.
        n_corpus: documents that were sampled from.
    """

    table: pa.Table
    n_corpus: int

    @property
    def columns(self) -> dict[str, Floats]:
        """Every number column as float64, null as NaN."""
        numbers = [field.name for field in self.table.schema if pa.types.is_floating(field.type)]
        return {name: floats(self.table.column(name)) for name in numbers}

    @property
    def quantile_error(self) -> float:
        """The most by which any rank of the sample is off, with 99 % confidence; 0 for a whole corpus."""
        return 0.0 if self.table.num_rows == self.n_corpus else quantile_error(self.table.num_rows)


class ReferenceSample:
    """Collects the k documents of smallest hash. Ids are unique, as everywhere.

    Args:
        k: documents to keep; up to twice as many are held.
        seed: of the hash.
    """

    def __init__(self, k: int = SAMPLE_DOCUMENTS, seed: int = 0) -> None:
        if k < 1:
            raise ConfigError("a sample needs at least one document", found=f"{k:,}")
        self.k, self.seed, self.n_corpus = k, seed, 0
        self._kept: list[pa.Table] = []
        self._rows = 0
        self._limit = np.uint64(2**64 - 1)  # no document with a larger hash can still enter

    def add(self, rows: pa.Table | pa.RecordBatch) -> None:
        """Offer documents: `id` and the columns to sample, the same ones in every call."""
        table = rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
        self.n_corpus += table.num_rows
        hashes = keyed_hashes(self.seed, table.column("id").to_pylist())
        entering = np.flatnonzero(hashes <= self._limit)
        self._keep(table.take(entering).append_column("hash", pa.array(hashes[entering])))

    def merge(self, other: "ReferenceSample") -> None:
        """Take in another sample of the same size and seed, over other documents."""
        assert (self.k, self.seed) == (other.k, other.seed), "samples of unlike size or seed do not merge"
        self.n_corpus += other.n_corpus
        for table in other._kept:
            self._keep(table)

    def sample(self) -> Sample:
        """The sample of all documents offered so far. Raises ConfigError before any was."""
        if not self._kept:
            raise ConfigError("there is no document to fit on")
        self._prune()
        return Sample(self._kept[0].drop_columns(["hash"]), self.n_corpus)

    def _keep(self, table: pa.Table) -> None:
        if not table.num_rows and self._kept:
            return
        self._kept.append(table)
        self._rows += table.num_rows
        if self._rows > 2 * self.k:
            self._prune()

    def _prune(self) -> None:
        held = pa.concat_tables(self._kept)
        best = pc.sort_indices(held, sort_keys=_ORDER)[: self.k]
        kept = held.take(best).combine_chunks()
        self._kept, self._rows = [kept], kept.num_rows
        if self._rows == self.k:
            self._limit = np.uint64(kept.column("hash")[-1].as_py())


def quantile_error(k: int, confidence: float = 0.99) -> float:
    """The most by which any rank of a sample of k is off, with this confidence."""
    return math.sqrt(math.log(2 / (1 - confidence)) / (2 * k))


def sample_sidecars(
    sidecars: Sequence[Artifact],
    names: Sequence[str],
    *,
    documents: Artifact | None = None,
    document_columns: Sequence[str] = (),
    k: int = SAMPLE_DOCUMENTS,
    seed: int = 0,
) -> Sample:
    """Sample score columns from sidecars of the same documents, shard by shard.

    Args:
        sidecars: score artifacts over the same shards; names: the columns wanted, each in one of them.
        documents, document_columns: also sample these columns of the documents themselves.

    Raises ConfigError for a column that no sidecar holds, SchemaError for sidecars that are not aligned.
    """
    holders = columns_of(sidecars)
    for name in names:
        if name not in holders:
            raise ConfigError(f"there is no score {name!r}{nearest(name, holders)}")
    wanted: dict[str, list[str]] = {}
    for name in names:
        wanted.setdefault(holders[name].name, []).append(name)
    artifacts = {artifact.name: artifact for artifact in sidecars}
    taken: list[tuple[Artifact, list[str]]] = [(artifacts[name], columns) for name, columns in wanted.items()]
    if documents is not None and document_columns:
        taken.append((documents, list(document_columns)))
    collected = ReferenceSample(k, seed)
    for paths in zip(*(artifact.files() for artifact, _ in taken), strict=True):
        tables = [read_table(path, ["id", *columns]) for path, (_, columns) in zip(paths, taken, strict=True)]
        collected.add(_side_by_side(tables, [str(path) for path in paths]))
    return collected.sample()


def columns_of(sidecars: Sequence[Artifact]) -> Mapping[str, Artifact]:
    """Which artifact holds each score column. Raises ConfigError when two hold a column of one name."""
    found: dict[str, Artifact] = {}
    for artifact in sidecars:
        files = artifact.files()
        for name in read_schema(files[0]).names if files else ():
            if name != "id" and name in found:
                raise ConfigError(
                    f"two raters give a score called {name!r}", found=f"{found[name].name} and {artifact.name}",
                    fix="leave one of them out, or rename the column if it is yours",
                )  # fmt: skip
            if name != "id":
                found[name] = artifact
    return found


def _side_by_side(tables: Sequence[pa.Table], where: Sequence[str]) -> pa.Table:
    joined = tables[0]
    for table, path in zip(tables[1:], where[1:], strict=True):
        check_aligned(joined.column("id"), table.column("id"), path)
        for name in table.schema.names[1:]:
            joined = joined.append_column(name, table.column(name))
    return joined
