"""A rater as a step of a datatrove pipeline; imported only where datatrove is in use."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from corpus.documents import DOCUMENT_SCHEMA
from corpus.errors import SchemaError
from raters.base import Rater, checked_rate, counts_of


class RaterStep(PipelineStep):  # type: ignore[misc]
    """Rates documents in batches and puts the scores into their metadata; drops none."""

    type = "RATER"

    def __init__(self, rater: Rater, name: str, batch_size: int) -> None:
        self.name = name
        super().__init__()
        self._rater, self._batch_size = rater, batch_size

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yield the documents in their order, rated."""
        documents = iter(data or ())
        while batch := list(islice(documents, self._batch_size)):
            with self.track_time("batch"):
                scores = checked_rate(self._rater, as_batch(batch, self._rater.needs))
            for name, count in counts_of(scores).items():
                self.stat_update(name, value=count)
            for document, row in zip(batch, scores.to_pylist(), strict=True):
                document.metadata.update(row)
                self.stat_update("rated")
                yield document


def as_batch(documents: Sequence[Document], needs: Sequence[str]) -> pa.RecordBatch:
    """`id` and the columns a rater needs: document columns as our stages have them, and scores given before.

    A document column that the metadata lacks is null. Raises SchemaError for a score that none of them has.
    """
    names = ["id", *(name for name in needs if name != "id")]
    return pa.record_batch([_column(documents, name) for name in names], names=names)


def _column(documents: Sequence[Document], name: str) -> pa.Array:
    if name == "id":
        return _strings([str(document.id) for document in documents])
    if name in ("text", "n_bytes"):
        texts = _strings([document.text for document in documents])
        return texts if name == "text" else pc.binary_length(texts).cast(pa.int32())
    if name == "meta":  # the metadata is full of other things: none of it was put there for our `meta`
        return pa.nulls(len(documents), DOCUMENT_SCHEMA.field(name).type)
    if name in DOCUMENT_SCHEMA.names:
        other = "language" if name == "lang" else name  # datatrove's own name
        found = [document.metadata.get(name, document.metadata.get(other)) for document in documents]
        return _strings([None if value is None else str(value) for value in found])
    if not any(name in document.metadata for document in documents):
        raise SchemaError(
            f"no document has the score {name!r} that a rater reads",
            expected="a rater earlier in the pipeline that gives it",
            found=f"metadata with {', '.join(sorted(documents[0].metadata)) or 'nothing'}",
        )
    return pa.array([document.metadata.get(name) for document in documents], pa.float32())


def _strings(values: list[Any]) -> pa.Array:
    """Strings as Arrow holds them; what is not Unicode (half of a surrogate pair) becomes a question mark."""
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        return pa.array([value and value.encode("utf-8", "replace").decode() for value in values], pa.string())
