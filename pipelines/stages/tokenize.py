"""From documents to token shards: encode each document; end-of-text closes every one."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from corpus.shards import read_batches
from corpus.tokenizer import load_encoder
from corpus.tokens import DOCS_SCHEMA, as_token_ids, docs_path, write_token_shard
from pipelines.tally import Tally


@dataclass(frozen=True)
class TokenizeWork:
    """Encode one document shard into a token shard of the same basename."""

    documents: Path
    tokenizer: Path

    def run(self, folder: Path, tally: Tally) -> Iterable[Path]:
        """Write `<shard>.npy` and `<shard>.docs.parquet` under `folder`; an empty shard is written too."""
        encoder = load_encoder(self.tokenizer)
        arrays: list[np.ndarray] = []
        rows: list[pa.RecordBatch] = []
        start = 0
        for batch in read_batches(self.documents, ["id", "source", "n_bytes", "text"]):
            encoded = [
                np.append(ids, np.uint32(encoder.end_of_text))
                for ids in encoder.encode(batch.column("text").to_pylist())
            ]
            lengths = np.array([len(ids) for ids in encoded], dtype=np.int64)
            starts = start + np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
            start += int(lengths.sum())
            arrays += encoded
            columns = [
                batch.column("id"), pa.array(starts), pa.array(lengths.astype(np.int32)), batch.column("source"),
                batch.column("n_bytes"),
            ]  # fmt: skip
            rows.append(pa.RecordBatch.from_arrays(columns, schema=DOCS_SCHEMA))
        docs = pa.Table.from_batches(rows, DOCS_SCHEMA)
        ids = np.concatenate(arrays) if arrays else np.zeros(0, np.uint32)
        shard = folder / f"{self.documents.stem}.npy"
        write_token_shard(shard, as_token_ids(ids, encoder.vocabulary), docs)
        tally.records_in += docs.num_rows
        tally.kept += docs.num_rows
        tally.totals["tokens"] += len(ids)
        tally.totals["bytes"] += sum(docs.column("n_bytes").to_pylist())
        return [shard, docs_path(shard)]


def texts_of(paths: Iterable[Path]) -> Iterator[str]:
    """The texts of document shards, in order."""
    for path in paths:
        for batch in read_batches(path, ["text"]):
            yield from batch.column("text").to_pylist()
