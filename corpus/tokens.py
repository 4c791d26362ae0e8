"""Token shards: a real `.npy` of token ids and, beside it, a Parquet table saying which document is where.

`web-00000.npy` is one-dimensional, uint16 (vocabularies up to 65,536) or uint32. `web-00000.docs.parquet`
holds one row a document: `id, start, length, source, n_bytes`. The end-of-text token closes each document and
is counted in its length. Arrays are memory-mapped, so a shard costs no memory until it is read.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from corpus.errors import ArtifactError
from corpus.shards import atomic_path, read_table, write_table

DOCS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("length", pa.int32(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("n_bytes", pa.int32(), nullable=False),
    ]
)
Ids = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


def as_token_ids(ids: npt.NDArray[Any], vocabulary: int) -> Ids:
    """Ids in the smallest dtype that holds every id of a vocabulary: uint16 or uint32."""
    return ids.astype(np.uint16) if vocabulary <= 2**16 else ids.astype(np.uint32)


def docs_path(shard: Path) -> Path:
    """Where the document table of a token shard lies: `web-00000.npy` -> `web-00000.docs.parquet`."""
    return shard.with_suffix(".docs.parquet")


def write_token_shard(shard: Path, ids: Ids, docs: pa.Table) -> None:
    """Write both files of a shard, each atomically, the array first.

    `ids` has shape (n,); `docs` follows DOCS_SCHEMA and must cover the array without gaps or overlaps.
    """
    lengths = docs.column("length").to_numpy()
    starts = docs.column("start").to_numpy()
    assert docs.schema.equals(DOCS_SCHEMA), docs.schema
    assert int(lengths.sum()) == len(ids), "the documents do not cover the tokens"
    assert np.array_equal(starts, np.concatenate([[0], np.cumsum(lengths)[:-1]])[: len(starts)]), (
        "gaps between documents"
    )
    with atomic_path(shard) as temporary, temporary.open("wb") as file:
        np.save(file, ids)
    write_table(docs_path(shard), docs)


def read_token_shard(shard: Path) -> Ids:
    """Memory-map a shard's token ids, shape (n,). Raises ArtifactError for a file that is not such an array."""
    try:
        ids: Ids = np.load(shard, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ArtifactError("cannot read a token shard", found=str(error), where=str(shard)) from error
    if ids.ndim != 1 or ids.dtype not in (np.uint16, np.uint32):
        raise ArtifactError("this is not a token shard", found=f"{ids.dtype}, shape {ids.shape}", where=str(shard))
    return ids


def read_docs(shard: Path) -> pa.Table:
    """The document table of a token shard."""
    return read_table(docs_path(shard))
