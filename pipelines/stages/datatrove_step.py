"""A rater as a step of a datatrove pipeline; imported only where datatrove is in use."""

from collections.abc import Iterator
from itertools import islice

import pyarrow as pa
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from pipelines.stages.datatrove_bridge import RateFunction


class RaterStep(PipelineStep):  # type: ignore[misc]
    """Rates documents in batches and puts the scores into their metadata; drops none."""

    type = "RATER"

    def __init__(self, name: str, rate: RateFunction, batch_size: int) -> None:
        self.name = name
        super().__init__()
        self._rate, self._batch_size = rate, batch_size

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Yield the documents in their order, rated."""
        documents = iter(data or ())
        while batch := list(islice(documents, self._batch_size)):
            with self.track_time("batch"):
                scores = self._rate(pa.array([document.text for document in batch], pa.string()))
            for document, row in zip(batch, scores.to_pylist(), strict=True):
                document.metadata.update(row)
                self.stat_update("rated")
                yield document
