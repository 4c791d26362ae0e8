"""The documents of a study as one table: what each is called, which original it comes from, what may be read of it.

Sources keep their names, or have them under the role they play in the study: `enwiki` as `old` is `old/enwiki`, so a
mixture's key `old` stands for it. A document and its rephrasings have one root, the id of the original, by whose hash
they are held out, or let into a limited pool, together.

How it is used: `document_table(...)`, then `limited(...)` and `pieces(...)`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corpus.artifacts import Artifact
from corpus.config import nearest
from corpus.errors import ConfigError
from corpus.keyed_random import keyed_hashes
from corpus.shards import read_table
from corpus.tokens import read_docs
from curriculum.order import codes_and_names, encode_names
from curriculum.visits import CANDIDATE_SCHEMA, place_digests
from mixtures.available import owned_sources
from pipelines.candidates import Scores, candidate_table
from pipelines.experiments.columns import DOCUMENT, DOCUMENT_TOKENS, PAIRED, turned
from pipelines.experiments.heldout import held_out
from pipelines.experiments.study import Pool
from pipelines.mix_proxies import pool_of
from pipelines.token_source import TokenSource

HELD_OUT = "held_out"
_SEED = 0x706F6F6C  # of the hash that says which documents a limited pool holds
_GENERATIONS = 16


def document_table(
    sources: Sequence[TokenSource],
    scores: Scores,
    held: Mapping[str, Sequence[str]],
    documents: Sequence[Artifact],
    roles: Mapping[str, Sequence[str]],
    share: float,
) -> pa.Table:
    """Every document: a candidate with the study's columns, and `id`, `n_bytes`, `root` and `held_out`.

    Args:
        scores: found under the names of `held`, as `columns.bound_columns` gives them.
        documents: those that the tokens were made of, for the parents of rephrasings.
        roles: as in `pipelines.experiments.pool.prepare`. share: of documents held out.

    Raises: ConfigError for a source in two artifacts, and as `names_in_study` and `columns.turned`.
    """
    by_source = [[read_docs(path) for path in source.tokens.files(".npy")] for source in sources]
    _check_sources(sources, by_source)
    docs = pa.concat_tables(table for tables in by_source for table in tables)
    table = turned(candidate_table(sources, scores), sources, held)
    root = _roots(docs["id"].to_pylist(), documents)
    table = table.append_column("id", docs["id"]).append_column("root", pa.array(root, pa.string()))
    table = table.append_column("n_bytes", docs["n_bytes"])
    return _named(table.append_column(HELD_OUT, pa.array(held_out(root, share))), roles)


def _roots(ids: Sequence[str], documents: Sequence[Artifact]) -> list[str]:
    """The id of each document's original: its own where it is no rephrasing, shape (n,)."""
    parents: dict[str, str] = {}
    for item in documents:
        for path in item.files():
            table = read_table(path, ["id", "parent_id"])
            table = table.filter(pc.is_valid(table["parent_id"]))
            parents.update(zip(table["id"].to_pylist(), table["parent_id"].to_pylist(), strict=True))
    roots = list(ids)
    for _ in range(_GENERATIONS if parents else 0):  # circles were refused when the candidates were made
        roots = [parents.get(root, root) for root in roots]
    return roots


def _check_sources(sources: Sequence[TokenSource], docs: Sequence[Sequence[pa.Table]]) -> None:
    """Raise ConfigError for a source that two artifacts hold: its documents would be counted twice."""
    owner: dict[str, str] = {}
    for source, tables in zip(sources, docs, strict=True):
        made_of = source.tokens.manifest.inputs[0].name
        for name in sorted({name for table in tables for name in pc.unique(table["source"]).to_pylist()}):
            if owner.setdefault(name, made_of) != made_of:
                raise ConfigError(
                    f"the source {name!r} is in two artifacts of documents",
                    found=f"{owner[name]} and {made_of}",
                    fix="name one of them: a study reads each source from one artifact",
                )


def names_in_study(names: Sequence[str], roles: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """What each of some sources is called in a study: `old/enwiki` for enwiki where it plays the role old.

    Raises: ConfigError for a role without a source, or a source with two roles.
    """
    role_of: dict[str, str] = {}
    for role, given in roles.items():
        owned = owned_sources(dict.fromkeys(names), list(given), empty_allowed=True)
        for name, found in owned.items():
            if not found:
                raise ConfigError(
                    f"the role {role!r} is given to {name!r}, and no document is of that source{nearest(name, names)}",
                    where=f"--role {role}={name}",
                )
            for source in found:
                if role_of.setdefault(source, role) != role:
                    raise ConfigError(f"the source {source!r} plays two roles, {role_of[source]} and {role}")
    return {name: f"{role_of[name]}/{name}" if name in role_of else name for name in names}


def _named(table: pa.Table, roles: Mapping[str, Sequence[str]]) -> pa.Table:
    codes, names = codes_and_names(table["source"])
    new = names_in_study(names, roles)
    renamed = encode_names(pa.array([new[name] for name in names], pa.string()).take(pa.array(codes)))
    place = table.schema.get_field_index("source")
    return table.set_column(place, CANDIDATE_SCHEMA.field("source"), renamed)


def without_unscored(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """The documents without those that lack a score or label which others of their source have."""
    codes, names = codes_and_names(table["source"])
    keep = np.ones(table.num_rows, np.bool_)
    for column in columns:
        has = pc.is_valid(table[column]).to_numpy()
        scored = np.bincount(codes, has, len(names)) > 0
        keep &= has | ~scored[codes]
    return table.filter(pa.array(keep))


def cut_to(table: pa.Table, longest: int | None) -> pa.Table:
    """The documents from their beginnings, at most `longest` tokens of each; None: all of them."""
    if longest is None:
        return table
    length = np.minimum(table["length"].to_numpy(), longest).astype(np.int32)
    return table.set_column(table.schema.get_field_index("length"), CANDIDATE_SCHEMA.field("length"), pa.array(length))


def limited(table: pa.Table, pool: Pool) -> pa.Table:
    """Documents from their beginnings, as many as the pool may hold: those with the lowest hashes of their originals.

    So a document and its rephrasings are in it together, as far as limits by source allow.
    """
    whole = table.append_column(DOCUMENT_TOKENS, table["length"])
    cut = cut_to(whole, pool.longest)
    codes, names = codes_and_names(cut["source"])
    length = cut["length"].to_numpy().astype(np.int64)
    line = np.lexsort([cut["digest"].to_numpy(), keyed_hashes(_SEED, cut["root"].to_pylist())])
    for limit, groups in ((pool.per_source, range(len(names))), (pool.tokens, (None,))):
        if limit is None:
            continue
        kept = np.zeros(len(length), np.bool_)
        for group in groups:
            rows = line if group is None else line[codes[line] == group]
            kept[rows[np.cumsum(length[rows]) <= limit]] = True
        line = line[kept[line]]
    return cut.take(pa.array(np.sort(line)))


def pieces(table: pa.Table, sequence_length: int) -> pa.Table:
    """The pool: a row a piece, with a digest of its own."""
    parents = pc.unique(table.filter(table["rephrased"])["root"])
    table = table.append_column(
        PAIRED, pc.and_(pc.is_in(table["id"], value_set=parents), pc.invert(table["rephrased"]))
    )
    table = table.append_column(DOCUMENT, table["digest"]).drop_columns(["id", "root", "n_bytes", HELD_OUT])
    cut = pool_of(table, sequence_length)
    digest = place_digests(cut[DOCUMENT].to_numpy(), cut["piece"].to_numpy())
    names = [*CANDIDATE_SCHEMA.names, *(name for name in table.column_names if name not in CANDIDATE_SCHEMA.names)]
    cut = cut.set_column(cut.schema.get_field_index("digest"), "digest", pa.array(digest)).select(names)
    fields = [*CANDIDATE_SCHEMA, *(cut.schema.field(name) for name in names[len(CANDIDATE_SCHEMA) :])]
    return pa.Table.from_arrays([cut[field.name] for field in fields], schema=pa.schema(fields)).combine_chunks()
