"""Token shards laid out in reading order, for storage where random reads are slow: front to back, they are the order.

Reading an order jumps from document to document; a disk or an object store that seeks slowly is better served by
a copy of the tokens that lies as it is read. The copy is token shards like any others, with an order of its own, which
reads them in turn and gives the same stream.

How it is used: `tokens = reorder(shop, order)`, then `in_turn(shop, order, tokens)`.
"""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.artifacts import Artifact
from corpus.errors import ArtifactError, ConfigError
from corpus.tokens import docs_path
from curriculum.order import ORDER_SCHEMA, Order, write_order_files
from curriculum.order_shards import open_shards
from pipelines.build import Workshop
from pipelines.stages.ordered_shards import Cut, GatherWork, ScatterWork, shard_name
from pipelines.tasks import Work

TOKENS_PER_SHARD = 1 << 26  # 128 MB of uint16


def reorder(shop: Workshop, order: Order, *, tokens_per_shard: int = TOKENS_PER_SHARD) -> Artifact:
    """Make token shards that hold an order's visits one after the other: an artifact of tokens, `ordered/<order>`.

    A document that is visited twice lies there twice. Meanwhile `ordered/<order>.scattered` takes as much room again,
    and is removed in the end; a killed run goes on with the tasks that are left.

    Args:
        tokens_per_shard: a shard holds at most so many tokens, or one visit that is longer. A task holds a shard
            twice in memory.

    Raises: ConfigError for shards of no tokens; ArtifactError for tokens that changed since the order was made.
    """
    if tokens_per_shard < 1:
        raise ConfigError("a shard holds at least one token", found=f"tokens_per_shard: {tokens_per_shard:,}")
    arrays = open_shards(order, shop.root)
    if len(dtypes := {array.dtype.name for array in arrays}) > 1:
        raise ArtifactError("token shards of several dtypes cannot become one stream", found=", ".join(sorted(dtypes)))
    name, config = f"ordered/{PurePosixPath(order.artifact.name).name}", {"tokens_per_shard": tokens_per_shard}
    scattered = f"{name}.scattered"
    inputs = [order.artifact, *(Artifact(folder) for folder in dict.fromkeys(path.parent for path in arrays.paths))]
    cut = Cut(order.artifact.folder, tokens_per_shard)
    scatter: dict[str, Work] = {shard_name(i): ScatterWork(cut, path, i) for i, path in enumerate(arrays.paths)}
    gather: dict[str, Work] = {
        shard_name(i): GatherWork(cut, shop.root / scattered, i)
        for i in range(len(cut.borders(cut.visits().ends)) - 1)
    }  # fmt: skip
    if not shop.finished(name, "tokens", config=config, inputs=inputs):
        shop.build_tasks(scattered, "scattered", config=config, inputs=inputs, work=scatter)
    tokens = shop.build_tasks(name, "tokens", config=config, inputs=inputs, work=gather)
    shutil.rmtree(shop.root / scattered, ignore_errors=True)
    return tokens


def in_turn(shop: Workshop, order: Order, tokens: Artifact) -> Artifact:
    """The order that reads reordered tokens from front to back, `<order>.ordered`: the same stream as the order's.

    Sources, phases, visits, scores and reasons are the order's; it is named, with the tokens, among the inputs.
    """
    paths = tokens.files(".npy")
    shards = [f"{tokens.name}/{path.name}" for path in paths]
    sizes = [pq.read_metadata(docs_path(path)).num_rows for path in paths]
    name = f"{order.artifact.name}.ordered"

    def make(folder: Path) -> dict[str, Any]:
        return write_order_files(folder, _laid_out(order, sizes), name=name, shards=shards)

    return shop.build_here(name, "order", config={"shards": shards}, inputs=[order.artifact, tokens], make=make)


def _laid_out(order: Order, sizes: Iterable[int]) -> Iterator[pa.RecordBatch]:
    """The visits of an order, with their places in shards that hold so many of them each."""
    first = 0
    for number, size in enumerate(sizes):
        rows = order.visits(first, first + size)
        first += size
        length = rows["length"].to_numpy().astype(np.int64)
        places = {
            "shard": np.full(size, number, np.int32),
            "doc": np.arange(size, dtype=np.int32),
            "start": np.cumsum(length) - length,
        }
        columns = [places.get(name, rows[name]) for name in ORDER_SCHEMA.names]
        yield from pa.table(columns, schema=ORDER_SCHEMA).to_batches()
