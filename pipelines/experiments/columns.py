"""The scores that a study reads, by the names it has for them: found in the workspace, combined, or learned.

A study says `by: score`; which score that is, is said when it is run. `--column score=...` takes

- a score's name in the workspace, `prose`, or after its sidecars, `edu/score`; a label such as `lang` or `meta.topic`;
- `equal`: the mean of all scores there are, each as a quantile, turned so that high is good;
- `weights:FILE`: those that `gradatim weigh` learned, a weights.json or the artifact that holds one.

A combined score ranks the documents of an artifact among each other. All are turned so that higher is better.

How it is used: `held = bound_columns(shop, documents, {"score": "edu"})`, then `scores_of(sources, held)`.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from corpus.artifacts import Artifact
from corpus.config import nearest
from corpus.errors import ConfigError
from curriculum.visits import VISIT_SCHEMA
from pipelines.aligned_scores import score_columns
from pipelines.build import Workshop
from pipelines.candidates import direction_of
from pipelines.combining import WEIGHTS, combined_for
from pipelines.token_source import TokenSource
from raters.composite import CompositeSettings
from raters.weights_file import read_weights

RANDOM, LENGTH = "random", "length"
DOCUMENT, DOCUMENT_TOKENS, PAIRED = "document", "document_tokens", "paired"
"""Columns of a pool beside the scores: its document's digest and tokens, and whether it was rephrased in the pool."""
EQUAL, LEARNED = "equal", "weights:"
OURS = (*VISIT_SCHEMA.names, "place", "id", "root", "n_bytes", RANDOM, DOCUMENT, DOCUMENT_TOKENS, PAIRED)


def check_names(columns: Iterable[str]) -> None:
    """Raise ConfigError for a study's column that is called as one of the pool's own."""
    for name in columns:
        if name in OURS:
            raise ConfigError(
                f"a column of a study cannot be called {name!r}", where=f"columns.{name}",
                found="the pool has a column of this name itself", fix="call it something else",
            )  # fmt: skip


def bound_columns(
    shop: Workshop, documents: Sequence[Artifact], columns: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """For each column of a study the workspace's columns that hold it, as `candidates.scores_of` takes them.

    Combined scores are made where they are missing: sidecars `scores/study_...`, one for each artifact with scores.

    Raises ConfigError where there are no scores to combine, or a weights file cannot be read or does not fit.
    """
    return {name: _held(shop, documents, held) for name, held in columns.items()}


def turned(table: pa.Table, sources: Sequence[TokenSource], held: Mapping[str, Sequence[str]]) -> pa.Table:
    """A table of candidates with the columns of a study turned so that higher is better; labels stay as they are.

    Raises ConfigError for a score that is best in the middle, or good at one end here and at the other there.
    """
    for name, columns in held.items():
        ends = {end for source in sources for one in columns if (end := direction_of([source], one)) is not None}
        if "middle" in ends:
            raise ConfigError(
                f"the score {columns[0]!r} is best in the middle, so neither end of it can come last",
                where=f"columns.{name}",
                fix="name a score with a good end, or one that combines it, equal or weights:FILE: there the middle is "
                "turned into a good end",
            )  # fmt: skip
        if len(ends) > 1:
            raise ConfigError(
                f"scores called {columns[0]!r} are good when high for some documents, and when low for others",
                where=f"columns.{name}", fix="name the sidecars too, as in edu/score",
            )  # fmt: skip
        if "low" in ends:
            table = table.set_column(table.schema.get_field_index(name), name, pc.negate(table[name]))
    return table


def _held(shop: Workshop, documents: Sequence[Artifact], held: str) -> tuple[str, ...]:
    if held != EQUAL and not held.startswith(LEARNED):
        return (held,)
    settings, label = CompositeSettings(), "study_equal"
    if held != EQUAL:
        file = weights_file(shop.root, held.removeprefix(LEARNED))
        settings, label = CompositeSettings(weights=file), f"study_weights_{read_weights(file).checksum[:8]}"
    rated = [item for item in documents if score_columns(shop.root, item)] or documents[:1]
    names = {item.name: f"{label}_{item.name.replace('/', '-')}" for item in rated}
    for item in rated:
        combined_for(shop, item, settings, name=names[item.name])
    return tuple(names.values())


def weights_file(root: Path, name: str) -> Path:
    """The weights file at a path, or in an artifact of a workspace. Raises ConfigError where there is none."""
    places = [Path(name).expanduser(), root / name]
    for place in places:
        for path in (place, place / WEIGHTS):
            if path.is_file():
                return path.resolve()
    known = {path.parent.relative_to(root).as_posix() for path in root.rglob(WEIGHTS)}
    raise ConfigError(
        f"there is no weights file {name!r}{nearest(name, known) if known else ''}",
        expected=f"a {WEIGHTS}, or the artifact of this workspace that holds one", fix="gradatim weigh learns weights",
    )  # fmt: skip
