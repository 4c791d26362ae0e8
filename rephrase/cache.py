"""Outputs kept by what was asked, so that no text is generated twice and a killed run resumes to the same bytes.

A key names everything that shapes an output (model, prompt, decoding, document, chunk, rollout) and nothing
that must not: paths, hosts, batch sizes, worker counts, thresholds. Values are raw outputs: rejected ones
stay, and gates judge them anew each time. Sampling is not reproducible across groupings of requests, so
reproducibility comes from here, not from a seed.

One file a generated batch, named by its keys, written beside its place and renamed: a kill leaves a whole
file or none. Files of one generator and request form share a folder, so opening a cache reads only those.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from corpus.errors import ArtifactError
from corpus.fingerprints import canonical, fingerprint
from corpus.shards import atomic_path
from rephrase.generator import Generation

_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("finish_reason", pa.string(), nullable=False),
        pa.field("n_in", pa.int32(), nullable=False),
        pa.field("n_out", pa.int32(), nullable=False),
        pa.field("choices", pa.map_(pa.string(), pa.float64())),  # null, too, in files older than this column
    ]
)


def cache_key(*, generator: Mapping[str, str], request_hash: str, document_id: str, chunk: str, rollout: int) -> str:
    """The key of one output: 32 hex digits, xxh3-128 of canonical JSON over all that shapes it.

    The document id is in it on purpose: two documents with one text get an output each.
    """
    asked = {
        "generator": dict(generator),
        "request": request_hash,
        "document": document_id,
        "chunk": xxhash.xxh3_128_hexdigest(chunk.encode("utf-8")),
        "rollout": rollout,
    }
    return xxhash.xxh3_128_hexdigest(canonical(asked).encode("utf-8"))


class GenerationCache:
    """Outputs of one generator and one request form, in a folder that many processes may share.

    Args:
        folder: the root of all caches; made when the first batch is stored.
        generator: the generator's identity.
        request_hash: identity of the style's request form.
    """

    def __init__(self, folder: Path, *, generator: Mapping[str, str], request_hash: str) -> None:
        self._folder = folder / fingerprint({"generator": dict(generator), "request": request_hash})
        self._known: dict[str, Generation] | None = None

    def find(self, keys: Sequence[str]) -> dict[str, Generation]:
        """The stored outputs among `keys`. Raises ArtifactError for a file that cannot be read."""
        if self._known is None:
            self._known = {}
            for path in sorted(self._folder.glob("*.parquet")):
                self._known.update(_read(path))
        return {key: self._known[key] for key in keys if key in self._known}

    def store(self, outputs: Mapping[str, Generation]) -> None:
        """Keep a batch of outputs: all of them after this returns, or none if the process dies before."""
        if not outputs:
            return
        self.find([])
        assert self._known is not None
        name = xxhash.xxh3_64_hexdigest("\n".join(outputs).encode())
        values = outputs.values()
        columns = [
            pa.array(list(outputs), pa.string()),
            pa.array([value.text for value in values], pa.string()),
            pa.array([value.finish_reason for value in values], pa.string()),
            pa.array([value.n_in for value in values], pa.int32()),
            pa.array([value.n_out for value in values], pa.int32()),
            pa.array(
                [value.choices and list(value.choices.items()) for value in values], _SCHEMA.field("choices").type
            ),
        ]
        with atomic_path(self._folder / f"{name}.parquet") as temporary:
            pq.write_table(pa.Table.from_arrays(columns, schema=_SCHEMA), temporary, compression="zstd")
        self._known.update(outputs)


def _read(path: Path) -> dict[str, Generation]:
    try:
        table = pq.read_table(path, schema=_SCHEMA)
    except (pa.ArrowInvalid, OSError) as error:
        raise ArtifactError(
            "a stored batch of model outputs cannot be read",
            found=" ".join(str(error).split())[:200],
            where=str(path),
            fix="delete this file; its outputs are generated again",
        ) from error
    return {
        row["key"]: Generation(
            row["text"], row["finish_reason"], row["n_in"], row["n_out"], row["choices"] and dict(row["choices"])
        )
        for row in table.to_pylist()
    }
