"""The candidates of a mixture or an order: the documents of token shards, with the scores that fit them.

Scores come from the sidecars of the workspace where the tokens were made, for the documents they were made of or for
those that these were taken from (pipelines/aligned_scores.py). A rephrasing that is not scored has its parent's.

How it is used: `candidate_table(sources, scores_of(sources, {"edu": ("edu/score",), "topic": ("meta.topic",)}))`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corpus.artifacts import Artifact, InputRef, artifacts_in
from corpus.config import nearest
from corpus.errors import ConfigError
from corpus.scores import Better
from corpus.shards import read_table
from corpus.tokens import read_docs
from curriculum.visits import candidates
from pipelines.aligned_scores import ScoreColumn, find_column, score_columns
from pipelines.synthetic import unpaired
from pipelines.token_source import TokenSource

FIELDS = ("url", "date", "lang", "style", "generator")
META = "meta."


@dataclass(frozen=True)
class Scores:
    """Scores and labels of the documents behind some token shards: found at once, read when they are asked for.

    Args:
        inputs: the sidecars that hold the scores.
        names: what the scores are called; columns: for each file of documents, the column that holds each.
        fields: what each label is called, and the field that holds it; files: of the documents that have them.
    """

    inputs: tuple[InputRef, ...] = ()
    names: tuple[str, ...] = ()
    columns: tuple[tuple[Path, Mapping[str, ScoreColumn]], ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    @cached_property
    def table(self) -> pa.Table | None:
        """`id` and a float32 column for each score; None where none is asked for."""
        if not self.names:
            return None
        return pa.concat_tables([_read(path, chosen, self.names) for path, chosen in self.columns])

    @cached_property
    def labels(self) -> pa.Table | None:
        """`id` and a column of text for each label; None where none is asked for.

        A label is a field of the documents (`lang`) or a key of their meta (`meta.topic`).
        """
        return _labels(self.files, self.fields) if self.fields else None


_NOTHING = Scores()


def candidate_table(
    sources: Sequence[TokenSource], scores: Scores = _NOTHING, *, pairing: Literal["same", "disjoint"] = "same"
) -> pa.Table:
    """Candidates (curriculum.visits.CANDIDATE_SCHEMA) of all shards, numbered as `shard_names` lists them.

    `pairing: disjoint` leaves out each document that another candidate is a rephrasing of.

    Raises ConfigError where two inputs hold a source of the same name; SchemaError as `curriculum.visits.candidates`.
    """
    shards, owner = [], dict[str, str]()
    for source in sources:
        for path in source.tokens.files(".npy"):
            docs = read_docs(path)
            names = {name: source.source(name) for name in pc.unique(docs["source"]).to_pylist()}
            for name in names.values():
                if owner.setdefault(name, source.name) != source.name:
                    raise ConfigError(
                        f"the source {name!r} comes from two inputs", expected="each source from one input",
                        found=f"{owner[name]} and {source.name}", where=f"inputs.{source.name}",
                        fix=f"set under: {source.name}, so that it is {source.name}/{name} there",
                    )  # fmt: skip
            shards.append((f"{source.tokens.name}/{path.name}", _renamed(docs, names)))
    parents = _parents(sources)
    table = candidates(shards, scores.table, parents)
    ids = pa.chunked_array([chunk for _, docs in shards for chunk in docs["id"].chunks], pa.string())
    if scores.labels is not None:
        rows = pc.index_in(ids, value_set=scores.labels["id"])
        for name in scores.labels.column_names[1:]:
            table = table.append_column(name, scores.labels[name].take(rows))
    return unpaired(table, ids, parents) if pairing == "disjoint" else table


def shard_names(sources: Iterable[TokenSource]) -> list[str]:
    """Names of the token shards, in the order in which candidates count them."""
    return [f"{source.tokens.name}/{path.name}" for source in sources for path in source.tokens.files(".npy")]


def scores_of(sources: Sequence[TokenSource], names: Mapping[str, Sequence[str]]) -> Scores:
    """Find scores by the names they have in a mixture.

    Args:
        names: for each name the columns that hold it, as `find_column` reads them; one may score some inputs, and
            another the others. Documents of inputs without any of them are left out: not scored.

    Raises: ConfigError for a name that no input has a score for, naming the nearest.
    """
    fields = {name: held[0] for name, held in names.items() if _is_label(held[0])}
    names = {name: held for name, held in names.items() if name not in fields}
    read: list[tuple[Path, Mapping[str, ScoreColumn]]] = []
    files: list[Path] = []
    inputs: dict[str, InputRef] = {}
    found: set[str] = set()
    known: set[str] = set()
    for source in sources if names or fields else ():
        for documents in _documents(source):
            files += documents.files()
            columns = score_columns(source.root, documents) if names else []
            known |= {column.score.name for column in columns}
            chosen = {name: column for name, held in names.items() if (column := _first(columns, held, documents))}
            if not chosen or not documents.files():
                continue
            found |= set(chosen)
            read += [(path, chosen) for path in documents.files()]
            for column in chosen.values():
                ref = Artifact(column.folder).ref
                label = ref.name if source.origin is source.tokens else f"{source.name}: {ref.name}"
                inputs[label] = InputRef(name=label, fingerprint=ref.fingerprint)
    for name, held in names.items():
        if name not in found:
            raise _no_score(name, held, known)
    if fields and not files:
        raise ConfigError(
            f"the documents behind these tokens are not here, so they have no {next(iter(fields.values()))!r}",
            expected="tokens made from documents of a workspace",
        )
    return Scores(tuple(inputs[label] for label in sorted(inputs)), tuple(names), tuple(read), fields, tuple(files))


def _no_score(name: str, held: Sequence[str], known: Collection[str]) -> ConfigError:
    return ConfigError(
        f"no input has a score {' or '.join(held)!r}{nearest(held[0], known) if known else ''}",
        where=f"scores.{name}",
        fix=f"gradatim rate gives documents scores; labels are {', '.join(FIELDS)} and {META}KEY",
    )


def direction_of(sources: Sequence[TokenSource], name: str) -> Better | None:
    """Which end of a score is the good one, as its rater says; None where no input has the score."""
    for source in sources:
        for documents in _documents(source):
            column = _first(score_columns(source.root, documents), [name], documents)
            if column is not None:
                return column.score.better
    return None


def _is_label(name: str) -> bool:
    return name in FIELDS or name.startswith(META)


def _labels(files: Sequence[Path], fields: Mapping[str, str]) -> pa.Table:
    """`id` and the labels of every document; one that is found twice has the same ones."""
    columns = ["id", *dict.fromkeys(name.partition(".")[0] for name in fields.values())]
    tables = (read_table(path, columns) for path in files)
    return pa.concat_tables(
        pa.table({"id": held["id"], **{name: _label(held, place) for name, place in fields.items()}}) for held in tables
    )


def _label(documents: pa.Table, place: str) -> pa.ChunkedArray | pa.Array:
    if not place.startswith(META):
        return documents[place]
    key = place.removeprefix(META)
    found = [
        next((entry["value"] for entry in meta or () if entry["key"] == key), None)
        for meta in documents["meta"].to_pylist()
    ]
    return pa.array(found, pa.string())


def _first(columns: Sequence[ScoreColumn], held: Sequence[str], documents: Artifact) -> ScoreColumn | None:
    for name in held:
        if any(name in (column.score.name, column.name, f"scores/{column.name}") for column in columns):
            return find_column(columns, name, documents)
    return None


def _read(path: Path, columns: Mapping[str, ScoreColumn], names: Sequence[str]) -> pa.Table:
    ids = read_table(path, ["id"])["id"]
    made = {"id": ids}
    for name in names:
        column = columns.get(name)
        values = np.full(len(ids), np.nan) if column is None else column.read(path, lambda: ids)
        made[name] = pa.chunked_array([pa.array(values.astype(np.float32), from_pandas=True)])
    return pa.table(made)


def _documents(source: TokenSource) -> list[Artifact]:
    """The documents that token shards were made of, and those that rephrasings among them were made from."""
    by_ref = {(item.name, item.manifest.fingerprint): item for item in artifacts_in(source.root)}
    found: list[Artifact] = []
    waiting = [source.origin]
    while waiting:
        for ref in waiting.pop().manifest.inputs:
            item = by_ref.get((ref.name, ref.fingerprint))
            if item is not None and item.manifest.kind == "documents" and item.name not in {one.name for one in found}:
                found.append(item)
                if _rephrased(item):
                    waiting.append(item)
    return found


def _rephrased(documents: Artifact) -> bool:
    return any(pc.any(pc.is_valid(read_table(path, ["parent_id"])["parent_id"])).as_py() for path in documents.files())


def _parents(sources: Sequence[TokenSource]) -> pa.Table | None:
    tables = [
        table.filter(pc.is_valid(table["parent_id"]))
        for source in sources
        for documents in _documents(source)
        for path in documents.files()
        for table in [read_table(path, ["id", "parent_id"])]
    ]
    parents = pa.concat_tables(tables) if tables else None
    return parents if parents is not None and parents.num_rows else None


def _renamed(docs: pa.Table, names: Mapping[str, str]) -> pa.Table:
    """The document table with its sources under the names they have in the mixture."""
    if all(name == new for name, new in names.items()):
        return docs
    codes = docs["source"].combine_chunks().dictionary_encode()
    new = pa.array([names[name] for name in codes.dictionary.to_pylist()], pa.string())
    place = docs.schema.get_field_index("source")
    return docs.set_column(place, docs.schema.field(place), new.take(codes.indices))
