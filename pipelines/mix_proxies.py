"""What proxies of a mixture read: a pool of every source's first tokens, and the mixture drawn from it.

A proxy of T tokens can read at most T of one source, so the pool holds so many of each, in pieces of a sequence's
length: small, whatever the size of the corpus. Which documents are in it follows from a hash of their ids. A mixture is
drawn from it as for any run (`mixtures.draw`), and shuffled; two proxies read the same pieces as far as their shares
allow.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from corpus.artifacts import Artifact
from corpus.config import nearest
from corpus.errors import InputError
from corpus.fingerprints import fingerprint
from corpus.keyed_random import keyed_hashes, keyed_uniforms
from corpus.shards import read_table
from corpus.tokens import DOCS_SCHEMA, read_docs, read_token_shard
from curriculum.arrange import arrange
from curriculum.policies.shuffled import Shuffled
from curriculum.visits import candidates
from mixtures.allocate import allocate
from mixtures.available import available
from mixtures.config import MixtureConfig
from mixtures.draw import draw
from pipelines.proxies import Proxy, in_pieces, write_heldout_shard
from trainer_hooks.plan import Plan

POOL = "pool.parquet"
UNBOUNDED = 1e6
Wanted = Callable[[list[str]], npt.NDArray[np.bool_]]


@dataclass(frozen=True, kw_only=True)
class MixProxy(Proxy):
    """A proxy whose shares are those of sources.

    Args:
        names: the sources, in the order of the shares; pool: the artifact they are drawn from. How often a source is
            read is bounded by the design, not here.
    """

    names: tuple[str, ...]
    pool: str

    def identity(self) -> dict[str, Any]:
        """What decides this run's result."""
        return {**super().identity(), "names": self.names}

    def visits(self) -> tuple[pa.Table, str, pa.Table]:
        """The mixture, exact to the token, in pieces of a sequence's length, shuffled by the run's seed."""
        assert self.shares is not None, "a mixture has shares"
        pool = read_table(self.root / self.pool / POOL)
        shards = [path.name for path in Artifact(self.root / self.tokens).files(".npy")]
        table = candidates([(name, _docs_of(pool, number)) for number, name in enumerate(shards)])
        config = MixtureConfig.model_validate(
            {
                "sources": dict(zip(self.names, self.shares, strict=True)), "tokens": tokens_read(self.plan),
                "max_visits": UNBOUNDED, "allow_many_visits": True,
            }
        )  # fmt: skip
        drawn = draw(table, allocate(available(table, config), config), self.seed)
        chosen = drawn.select(["source", "length"])
        subset = fingerprint([list(self.names), list(self.shares), self.seed])
        return arrange(drawn, Shuffled(seed=self.seed)), subset, chosen.set_column(0, "source", _text(chosen["source"]))


def tokens_read(plan: Plan) -> int:
    """Tokens that an order must hold for a plan: its whole steps, and one token to predict at the end."""
    from trainer_hooks.resolution import resolve

    return resolve(plan).tokens + 1


def first_documents(
    tokens: Artifact, per_source: int, seed: int, sources: Sequence[str] = (), wanted: Wanted | None = None
) -> pa.Table:
    """The documents of each source with the lowest keyed hashes, until they hold `per_source` tokens or are all.

    Shards are read one after the other and only what may be among them is kept: memory does not grow with the corpus.

    Args:
        sources: those to look at (default: all); wanted: which of some ids may be taken.

    Returns: `shard` (number), `doc`, and the columns of DOCS_SCHEMA, by source and hash.

    Raises: InputError for a named source that no shard holds.
    """
    kept: dict[str, pa.Table] = {}
    for number, path in enumerate(tokens.files(".npy")):
        docs = read_docs(path)
        rows = pa.array(np.arange(docs.num_rows, dtype=np.int32))
        docs = docs.append_column("doc", rows).append_column("shard", pa.array(np.full(len(rows), number, np.int32)))
        if wanted is not None:
            docs = docs.filter(pa.array(wanted(docs["id"].to_pylist())))
        for name in pc.unique(docs["source"]).to_pylist():
            if sources and name not in sources:
                continue
            new = docs.filter(pc.equal(docs["source"], name))
            new = new.append_column("hash", pa.array(keyed_hashes(seed, new["id"].to_pylist())))
            both = pa.concat_tables([kept[name], new]) if name in kept else new
            both = both.take(pc.sort_indices(both, [("hash", "ascending"), ("id", "ascending")])).combine_chunks()
            ends = np.cumsum(both["length"].to_numpy(), dtype=np.int64)
            kept[name] = both.slice(0, int(np.searchsorted(ends, per_source)) + 1)
    for name in sources:
        if name not in kept:
            raise InputError(f"no token shard of {tokens.name} holds the source {name!r}{nearest(name, kept)}")
    if not kept:
        raise InputError(f"the token shards of {tokens.name} hold no documents")
    return pa.concat_tables([kept[name] for name in sorted(kept)]).drop_columns(["hash"]).combine_chunks()


def source_tokens(tokens: Artifact, sources: Sequence[str] = ()) -> dict[str, int]:
    """Tokens of each source of token shards (default: of all), by name."""
    sums: dict[str, int] = {}
    for path in tokens.files(".npy"):
        table = read_docs(path).select(["source", "length"])
        for row in table.group_by("source").aggregate([("length", "sum")]).to_pylist():
            sums[row["source"]] = sums.get(row["source"], 0) + row["length_sum"]
    for name in sources:
        if name not in sums:
            raise InputError(f"no token shard of {tokens.name} holds the source {name!r}{nearest(name, sums)}")
    return {name: sums[name] for name in sorted(sources or sums)}


def held_out(seed: int, share: float) -> tuple[Wanted, Wanted]:
    """Which ids are trained on, and which are held out: a share of them, by their keyed hash."""
    return (lambda ids: keyed_uniforms(seed, ids) >= share), (lambda ids: keyed_uniforms(seed, ids) < share)


def pool_of(documents: pa.Table, sequence_length: int) -> pa.Table:
    """Documents as a pool: pieces of a sequence's length, `piece` numbering those of a document."""
    return in_pieces(documents, sequence_length).rename_columns({"visit": "piece"})


def write_heldout(documents: pa.Table, tokens: Artifact, folder: Path) -> dict[str, int]:
    """Write documents (as from `first_documents`) as a token shard a source; returns tokens by source."""
    shards = [read_token_shard(path) for path in tokens.files(".npy")]
    totals = {}
    for number, source in enumerate(sorted(pc.unique(documents["source"]).to_pylist())):
        rows = documents.filter(pc.equal(documents["source"], source))
        write_heldout_shard(folder / f"heldout-{number:05d}-000.npy", rows, shards)
        totals[source] = int(pc.sum(rows["length"]).as_py())
    return totals


def largest_token(documents: pa.Table, tokens: Artifact) -> int:
    """The largest token id of some documents."""
    shards, largest = [read_token_shard(path) for path in tokens.files(".npy")], 0
    numbers, starts = documents["shard"].to_numpy(), documents["start"].to_numpy()
    for number, start, length in zip(numbers, starts, documents["length"].to_numpy(), strict=True):
        largest = max(largest, int(shards[number][start : start + length].max()))
    return largest


def _docs_of(pool: pa.Table, shard: int) -> pa.Table:
    """The pool's pieces that lie in one shard, as its documents; the id of a piece is its document's and its number."""
    rows = pool.filter(pc.equal(pool["shard"], shard))
    ids = pc.binary_join_element_wise(rows["id"], rows["piece"].cast(pa.string()), ":")
    made: Mapping[str, Any] = {"id": ids, "n_bytes": pa.array(np.zeros(rows.num_rows, np.int32))}
    return pa.table({name: made.get(name, rows[name]) for name in DOCS_SCHEMA.names}, DOCS_SCHEMA)


def _text(names: pa.ChunkedArray) -> pa.ChunkedArray:
    return names.cast(pa.string())
