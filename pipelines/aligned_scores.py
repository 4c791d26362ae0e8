"""Find the score columns that fit some documents: sidecars made for them, or for the documents they were taken from.

A score computed before filtering or deduplication holds for what these kept: their shards have the same names, and
their rows are some of the rows, in the same order. So nothing is rated again; rows are matched by id.

Run it:  columns = score_columns(workspace, documents);  values = columns["education"].read(path, ids)
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from corpus.artifacts import Artifact, InputRef, artifacts_in
from corpus.config import nearest
from corpus.errors import ConfigError, SchemaError
from corpus.scores import Score, scores_of
from corpus.shards import read_schema, read_table
from raters.normalise import Floats, floats


@dataclass(frozen=True)
class ScoreColumn:
    """One score column of sidecars.

    Args:
        artifact: the sidecars' name; folder: where they lie.
        score: what the column means.
        documents: the artifact that was rated; exact: whether that is the documents asked for, row for row.
    """

    artifact: str
    folder: Path
    score: Score
    documents: str
    exact: bool

    @property
    def name(self) -> str:
        """The column after its sidecars, `signals/rps_doc_word_count`; alone where both are called alike."""
        sidecars = self.artifact.removeprefix("scores/")
        return sidecars if sidecars == self.score.name else f"{sidecars}/{self.score.name}"

    def read(self, path: Path, ids: Callable[[], pa.ChunkedArray], *, check: bool = False) -> Floats:
        """The column for the documents of a shard: shape (n,) float64, NaN where not scored.

        `ids` gives the shard's ids, asked for only where they are needed; `check` compares them in any case. Raises
        SchemaError when the sidecar lacks one of the documents.
        """
        sidecar = self.folder / path.name
        if self.exact and not check:
            return floats(read_table(sidecar, [self.score.name]).column(0))
        table = read_table(sidecar, ["id", self.score.name])
        wanted = ids()
        if table.column("id").equals(wanted):
            return floats(table.column(1))
        rows = pc.index_in(wanted, value_set=table.column("id"))
        if self.exact or rows.null_count:
            raise SchemaError(
                f"the sidecar {sidecar} is not aligned with {path}",
                expected=f"the same {len(wanted):,} ids in the same order" if self.exact else "a row for each document",
                found=f"{rows.null_count:,} documents without a row" if rows.null_count else "another order",
                fix=f"remove {self.folder} and rate the documents again",
            )
        return floats(table.column(1).take(rows))


def score_columns(root: Path, documents: Artifact) -> list[ScoreColumn]:
    """Every column of `scores/...` in a workspace that fits these documents; sidecars of the documents come first."""
    finished = artifacts_in(root)
    origins = _origins(documents, finished)
    shards = {path.name for path in documents.files()}
    found = []
    for artifact in finished:
        of = next((name for name, ref in origins if ref in artifact.manifest.inputs), None)
        files = artifact.files() if artifact.name.startswith("scores/") and of is not None else []
        if of is None or not files or not shards <= {path.name for path in files}:
            continue
        for score in scores_of(read_schema(files[0])):
            found.append(ScoreColumn(artifact.name, artifact.folder, score, of, exact=of == documents.name))
    return sorted(found, key=lambda column: (not column.exact, column.name))


def find_column(columns: Iterable[ScoreColumn], name: str, documents: Artifact) -> ScoreColumn:
    """The column called `name`, or `sidecars/name` where two are called alike.

    Raises ConfigError when there is none, naming the nearest, or more than one of the same standing.
    """
    known = list(columns)
    fitting = [column for column in known if name in (column.score.name, column.name, f"scores/{column.name}")]
    best = [column for column in fitting if column.exact] or fitting
    if len(best) == 1:
        return best[0]
    if best:
        raise ConfigError(
            f"more than one score of {documents.name} is called {name!r}",
            found=", ".join(column.name for column in best), fix=f"name the sidecars too: --by {best[0].name}",
        )  # fmt: skip
    if not known:
        raise ConfigError(
            f"the documents {documents.name} have no scores", expected=f"a column {name!r} in scores/...",
            fix=f"gradatim rate {documents.name} --rater signals",
        )  # fmt: skip
    raise ConfigError(
        f"no score of {documents.name} is called {name!r}{nearest(name, {column.score.name for column in known})}"
    )


def _origins(documents: Artifact, finished: Iterable[Artifact]) -> list[tuple[str, InputRef]]:
    """The documents, and the artifacts of documents they were taken from, nearest first."""
    by_ref = {(item.name, item.ref.fingerprint): item for item in finished}
    found, waiting = [], [documents]
    while waiting:
        item = waiting.pop(0)
        if item.manifest.kind == "documents" and (item.name, item.ref) not in found:
            found.append((item.name, item.ref))
            refs = item.manifest.inputs
            waiting += [by_ref[ref.name, ref.fingerprint] for ref in refs if (ref.name, ref.fingerprint) in by_ref]
    return found
