"""The pool: every rated document with its tokens and scores, from which each weighting selects its subset.

It is one table, a row a document, small enough to hold (numbers only): where its tokens lie, and its score columns
as they were rated. Documents that are held out for validation are marked and never selected.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corpus.artifacts import Artifact
from corpus.config import nearest
from corpus.errors import ConfigError, InputError
from corpus.keyed_random import keyed_hashes, keyed_uniforms
from corpus.scores import check_aligned
from corpus.shards import read_table
from corpus.tokens import read_docs, read_token_shard
from pipelines.proxies import write_heldout_shard
from pipelines.weigh.settings import Validation
from raters.reference_sample import columns_of
from raters.token_count import N_TOKENS

HELD_OUT = "held_out"


def rated(
    documents: Artifact, artifacts: Sequence[Artifact], wanted: Sequence[str] = (), excluded: Sequence[str] = ()
) -> dict[str, Artifact]:
    """The score columns to weigh, each with the artifact that holds it, artifact by artifact.

    Args:
        documents: the rated documents.
        artifacts: all score artifacts there are; composites among them are passed over.
        wanted: columns, or none for all but token counts; excluded: columns to leave out.

    Raises ConfigError when a named column is not there, or fewer than two are left.
    """
    own = [item for item in artifacts if documents.ref in item.manifest.inputs and not _is_composite(item)]
    columns = columns_of(sorted(own, key=lambda item: item.name))
    for name in (*wanted, *excluded):
        if name not in columns:
            raise ConfigError(
                f"there is no score {name!r} of the documents {documents.name}{nearest(name, columns)}",
                fix=f"gradatim rate {documents.name} --rater ...",
            )
    left_out = {N_TOKENS, *excluded}
    chosen = {name: item for name, item in columns.items() if (name in wanted if wanted else name not in left_out)}
    if len(chosen) < 2:
        raise ConfigError(
            "there are not two scores to weigh against each other",
            found=f"{', '.join(chosen) or 'no score'} of the documents {documents.name}",
            fix=f"gradatim rate {documents.name} --rater signals --rater measures",
        )
    return chosen


def _is_composite(artifact: Artifact) -> bool:
    return bool(artifact.manifest.config.get("rater", {}).get("rater") == "composite")


def pool_table(tokens: Artifact, columns: dict[str, Artifact], validation: Validation, seed: int) -> pa.Table:
    """The pool, in the order of shards: `id, source, shard, doc, start, length, n_bytes, held_out`, then the scores.

    Raises SchemaError when a sidecar is not aligned, ConfigError for a validation source that is not there.
    """
    parts = [_shard_rows(number, path, columns, validation, seed) for number, path in enumerate(tokens.files(".npy"))]
    pool = pa.concat_tables(parts).combine_chunks()
    sources = pc.unique(pool["source"]).to_pylist()
    for name in (*validation.sources, *validation.target):
        if name not in sources:
            raise ConfigError(f"there is no source {name!r} to validate on{nearest(name, sources)}")
    return pool


def _shard_rows(number: int, path: Path, columns: dict[str, Artifact], validation: Validation, seed: int) -> pa.Table:
    docs = read_docs(path)
    ids, sources = docs["id"], np.array(docs["source"].to_pylist(), object)
    measured = np.isin(sources, list(validation.sources)) if validation.sources else np.ones(len(sources), np.bool_)
    held = measured & (keyed_uniforms(seed, ids.to_pylist()) < validation.share)
    table = pa.table(
        {
            "id": ids, "source": docs["source"], "shard": pa.array(np.full(len(sources), number, np.int32)),
            "doc": pa.array(np.arange(len(sources), dtype=np.int32)), "start": docs["start"], "length": docs["length"],
            "n_bytes": docs["n_bytes"], HELD_OUT: pa.array(held),
        }
    )  # fmt: skip
    for name, artifact in columns.items():
        sidecar = artifact.folder / f"{path.stem}.parquet"
        scores = read_table(sidecar, ["id", name])
        check_aligned(ids, scores["id"], str(sidecar))
        table = table.append_column(name, scores[name])
    return table


def write_validation(pool: pa.Table, tokens: Artifact, settings: Validation, seed: int, folder: Path) -> dict[str, Any]:
    """Write one token shard a source, `<source>-00000-000.npy`, of its held-out documents in the order of a keyed hash.

    Whole documents are taken until `max_tokens` are reached. Returns tokens by source. Raises InputError for a source
    without held-out tokens.
    """
    shards = [read_token_shard(path) for path in tokens.files(".npy")]
    held = pool.filter(pool[HELD_OUT])
    totals: dict[str, int] = {}
    for source in settings.sources or sorted(pc.unique(pool["source"]).to_pylist()):
        rows = held.filter(pc.equal(held["source"], source))
        if not rows.num_rows:
            raise InputError(
                f"no document of {source!r} was held out to validate on",
                found=f"{pc.sum(pc.equal(pool['source'], source)).as_py():,} documents",
                fix=f"raise validation.share above {settings.share:g}, or leave {source} out of validation.sources",
            )
        rows = rows.take(pa.array(np.argsort(keyed_hashes(seed + 1, rows["id"].to_pylist()), kind="stable")))
        ends = np.cumsum(rows["length"].to_numpy(), dtype=np.int64)
        rows = rows.slice(0, int(np.searchsorted(ends, settings.max_tokens)) + 1)
        write_heldout_shard(folder / f"{source}-00000-000.npy", rows, shards)
        totals[source] = int(ends[rows.num_rows - 1])
    return {"tokens": sum(totals.values()), "tokens_by_source": totals}
