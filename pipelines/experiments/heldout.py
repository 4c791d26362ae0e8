"""The documents kept out of training, which losses are measured on: a token shard a source, and a table of documents.

Which documents they are follows from a hash of the id of the original: a rephrasing is held out with its parent, and a
larger corpus keeps the ones there were. A document is measured from its beginning, and so far that a set holds at
least twenty of them: a loss on two books has no spread. The best ones by score are a set of their own.

How it is used: `write_heldout(...)` once; then `heldout_sets(artifact)` and `heldout_table(artifact)`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from corpus.artifacts import Artifact
from corpus.errors import InputError
from corpus.keyed_random import keyed_hashes, keyed_uniforms
from corpus.shards import read_table, write_table
from corpus.tokenizer import load_encoder
from corpus.tokens import Ids, read_docs, read_token_shard
from pipelines.experiments.results import BEST
from pipelines.experiments.study import Measured
from pipelines.proxies import write_heldout_shard

if TYPE_CHECKING:
    from trainer_hooks.evaluation import HeldOut

LEAST_DOCUMENTS = 20
TABLE = "documents.parquet"
_SEED = 0x68656C64  # apart from the seeds of runs
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("score", pa.float32()),
        pa.field("tenth", pa.int32(), nullable=False),  # of the scored documents by score, 0 the worst; -1 not scored
        pa.field("best", pa.bool_(), nullable=False),
        pa.field("n_tokens", pa.int32(), nullable=False),
        pa.field("n_bytes", pa.int32(), nullable=False),
    ]
)


def held_out(roots: Sequence[str], share: float) -> npt.NDArray[np.bool_]:
    """Which of n documents are kept out of training, by the ids of their originals; shape (n,)."""
    return keyed_uniforms(_SEED, roots) < share


def write_heldout(
    rows: pa.Table, shards: Sequence[Ids], tokenizer: Path, measured: Measured, limit: int, folder: Path
) -> dict[str, Any]:
    """Write held-out documents: `heldout-<number>-000.npy` for each source, and the table; returns the totals.

    Args:
        rows: of the held-out documents `id`, `source`, `shard`, `start`, `length` (tokens that may be measured),
            `n_bytes`, `rephrased`, and `score` where there is one.
        shards: token ids of each shard. tokenizer: what made them.
        limit: tokens of each source at most.
    """
    sizes = token_bytes(tokenizer)
    parts = []
    for number, source in enumerate(sorted(pc.unique(rows["source"]).to_pylist())):
        own = _first(rows.filter(pc.equal(rows["source"], source)), limit)
        own = own.set_column(own.schema.get_field_index("n_bytes"), "n_bytes", _bytes(own, shards, sizes))
        write_heldout_shard(folder / f"heldout-{number:05d}-000.npy", own, shards)
        parts.append(own)
    table = _table(pa.concat_tables(parts).combine_chunks(), measured)
    write_table(folder / TABLE, table)
    by_source = table.group_by("source", use_threads=False).aggregate([("n_tokens", "sum")]).to_pylist()
    return {
        "documents": table.num_rows, "tokens": int(pc.sum(table["n_tokens"]).as_py()),
        "tokens_by_source": {row["source"]: row["n_tokens_sum"] for row in by_source},
    }  # fmt: skip


def heldout_table(artifact: Artifact) -> pa.Table:
    """A row a document (SCHEMA), in the order of the sets by source and of the documents in each."""
    return read_table(artifact.folder / TABLE)


def heldout_sets(artifact: Artifact) -> "dict[str, HeldOut]":
    """A set for each source and, where documents are scored, BEST: the best ones, whatever their source."""
    from trainer_hooks.evaluation import HeldOut

    paths = artifact.files(".npy")
    sets = {read_docs(path)["source"][0].as_py(): HeldOut.from_shards([path]) for path in paths}
    table = heldout_table(artifact)
    best = table["best"].to_numpy(zero_copy_only=False)
    if best.any():
        tokens = np.concatenate([np.asarray(read_token_shard(path)) for path in paths])
        lengths = table["n_tokens"].to_numpy().astype(np.int64)
        n_bytes = int(table["n_bytes"].to_numpy()[best].sum())
        sets[BEST] = HeldOut(tokens[np.repeat(best, lengths)], n_bytes, lengths[best])
    return sets


def token_bytes(tokenizer: Path) -> npt.NDArray[np.int64]:
    """The bytes that each token of a byte-level tokenizer stands for, shape (vocabulary,); 0 for end of text."""
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_file(str(tokenizer))
    found = np.zeros(loaded.get_vocab_size(), np.int64)
    for token, number in loaded.get_vocab().items():
        found[number] = len(token)  # a character stands for a byte
    found[load_encoder(tokenizer).end_of_text] = 0
    return found


def _first(rows: pa.Table, limit: int) -> pa.Table:
    """Documents in the order of a hash of their ids until they hold `limit` tokens, none more than a twentieth."""
    hashes = keyed_hashes(_SEED + 1, rows["id"].to_pylist())
    rows = rows.take(pa.array(np.argsort(hashes, kind="stable")))
    length = np.minimum(rows["length"].to_numpy(), max(limit // LEAST_DOCUMENTS, 2)).astype(np.int32)
    rows = rows.set_column(rows.schema.get_field_index("length"), "length", pa.array(length))
    return rows.slice(0, int(np.searchsorted(np.cumsum(length), limit, side="right")))


def _bytes(rows: pa.Table, shards: Sequence[Ids], sizes: npt.NDArray[np.int64]) -> pa.Array:
    places = zip(*(rows[name].to_pylist() for name in ("shard", "start", "length")), strict=True)
    return pa.array([int(sizes[shards[shard][start : start + n]].sum()) for shard, start, n in places], pa.int32())


def _table(rows: pa.Table, measured: Measured) -> pa.Table:
    """The table of documents, with tenths by score and the best of the originals; equal scores follow a hash."""
    n = rows.num_rows
    tenth, best = np.full(n, -1, np.int32), np.zeros(n, np.bool_)
    score = rows["score"] if "score" in rows.column_names else pa.nulls(n, pa.float32())
    line = np.lexsort([keyed_hashes(_SEED + 2, rows["id"].to_pylist()), score.fill_null(0.0).to_numpy()])
    line = line[pc.is_valid(score).to_numpy(zero_copy_only=False)[line]]
    if len(line):
        tenth[line] = 10 * np.arange(len(line)) // len(line)
        originals = line[~rows["rephrased"].to_numpy(zero_copy_only=False)[line]]
        best[originals[len(originals) - max(round(measured.best * len(originals)), 1) :]] = True
    made = {"score": score, "tenth": pa.array(tenth), "best": pa.array(best), "n_tokens": rows["length"]}
    columns = [made[name] if name in made else rows[name] for name in SCHEMA.names]
    return pa.Table.from_arrays(
        [column.cast(kind) for column, kind in zip(columns, SCHEMA.types, strict=True)], schema=SCHEMA
    )


def check_measured(held: pa.Table, sources: Sequence[str], share: float) -> None:
    """Raise InputError for a source that is to be measured on and of which no document was held out."""
    found = set(pc.unique(held["source"]).to_pylist())
    if not sources:
        raise InputError(
            "there is nothing to measure losses on: all documents are rephrasings",
            fix="name the documents that they were made from too, or name their source in measured.target",
        )
    for source in sources:
        if source not in found:
            raise InputError(
                f"no document of {source!r} was held out, so there is nothing to measure its loss on",
                found=f"a share of {share:g}", fix=f"raise measured.share, or name more documents of {source}",
            )  # fmt: skip
