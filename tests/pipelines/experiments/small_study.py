"""A workspace of real pages with scores and rephrasings, and a study that trains on it in seconds."""

import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from corpus.artifacts import Artifact
from corpus.config import apply_overrides, validated
from corpus.documents import document_id, documents
from corpus.keyed_random import keyed_uniforms
from corpus.scores import Better, Score, score_schema
from corpus.shards import read_table, write_table
from pipelines.build import Workshop
from pipelines.experiments.arms import Run, arms_of
from pipelines.experiments.pool import StudyData, prepare
from pipelines.experiments.study import Study
from pipelines.recipe import DEMO
from pipelines.runtime import LocalRuntime

SOURCES = {"web": "sqlite3-doc", "handbook": "debian-handbook", "german": "libreoffice-help-de"}
"""What the sources are called, and the package of the bundled pages that each is."""
CHARACTERS = 1_500
REWORDED = {"the": "this", "is": "is now", "may": "can", "must": "has to", "used": "of use"}
SIZE = {
    "seeds": 2, "vocabulary": 384,
    "model": {"hidden": 32, "layers": 1, "heads": 1, "head_size": 32, "intermediate": 64},
    "plan": {"tokens": 4_096, "sequence_length": 64, "batch_sequences": 4, "threads": 1},
    "pool": {"longest": 500}, "measured": {"share": "20%", "tokens": 4_000, "curve_tokens": 800},
}  # fmt: skip


def workshop(root: Path, workers: int = 1) -> Workshop:
    """A workspace being worked on."""
    return Workshop(root, LocalRuntime(workers))


def write_workspace(root: Path) -> None:
    """Write the artifacts `documents` and `rephrased`, and sidecars of scores for the documents.

    `documents` has the sources of SOURCES; `rephrased` has `wrap/easy`, a rephrasing of every second page of web.
    The scores are `quality/edu` (high is good), `quality/noise` (low is good) and `quality/share` (best in the middle).
    """
    pages: dict[str, list[str]] = {name: [] for name in SOURCES}
    for line in (DEMO.parent / "pages.jsonl").read_text(encoding="utf-8").splitlines():
        page = json.loads(line)
        for source, package in SOURCES.items():
            if page["package"] == package:
                pages[source].append(page["text"][:CHARACTERS])
    rows = {
        source: [{"id": document_id(source, str(i)), "text": text, "source": source} for i, text in enumerate(texts)]
        for source, texts in pages.items()
    }
    made = write_documents(root, "documents", rows)
    easy = [
        {"id": document_id("wrap/easy", row["id"]), "text": _reworded(row["text"]), "source": "wrap/easy",
         "parent_id": row["id"], "style": "easy"}
        for row in rows["web"][::2]
    ]  # fmt: skip
    write_documents(root, "rephrased", {"wrap-easy": easy}, [made])
    scores = {"edu": ("high", 1), "noise": ("low", 2), "share": ("middle", 3)}
    write_scores(root, made, "quality", {name: better for name, (better, _) in scores.items()},
                 {name: seed for name, (_, seed) in scores.items()})  # fmt: skip


def write_documents(
    root: Path, name: str, rows: Mapping[str, Sequence[Mapping[str, Any]]], inputs: Sequence[Artifact] = ()
) -> Artifact:
    """Write an artifact of documents, one shard for each name."""

    def make(folder: Path) -> dict[str, Any]:
        for shard, held in rows.items():
            write_table(folder / f"{shard}-00000-000.parquet", pa.Table.from_batches([documents(held)]))
        return {}

    return workshop(root).build_here(name, "documents", config={}, inputs=inputs, make=make)


def write_scores(
    root: Path, made: Artifact, name: str, better: Mapping[str, Better], seeds: Mapping[str, int],
    missing: Collection[str] = (),
) -> Artifact:  # fmt: skip
    """Write sidecars `scores/<name>` with columns of numbers in [0, 1), which follow from the ids and a seed each; null
    for the ids in `missing`.
    """

    def make(folder: Path) -> dict[str, Any]:
        schema = score_schema(tuple(Score(column, 0, 1, end) for column, end in better.items()), "test")
        for path in made.files():
            ids = read_table(path, ["id"])["id"].combine_chunks()
            unrated = np.array([one in missing for one in ids.to_pylist()])
            drawn = (keyed_uniforms(seeds[one], ids.to_pylist()).astype(np.float32) for one in better)
            columns = [pa.array(values, mask=unrated) for values in drawn]
            write_table(folder / path.name, pa.Table.from_arrays([ids, *columns], schema=schema))
        return {}

    return workshop(root).build_here(f"scores/{name}", "scores", config={}, inputs=[made], make=make)


def small_study(*overrides: str, **changes: Any) -> Study:
    """A study of two orders under two schedules with averages; `changes` replace top-level keys, `overrides` single
    ones (`sizes.minutes.seeds=3`). Its size is `minutes`.
    """
    data = {
        "name": "small", "title": "Small", "question": "Does order matter?", "expected": "Nothing is known.",
        "columns": {"score": "edu"},
        "base": {
            "mixture": {"sources": {"*": {}}, "weighing": "proportional"}, "order": {"kind": "shuffled"},
            "plan": {
                "peak_lr": 3e-3, "phases": [{"warmup": "10%"}, {"stable": "90%"}], "eval_every": "25%",
                "checkpoint_every": "25%", "average": {"sma": {"kind": "sma", "last": 3, "window": "25%"}},
            },
        },
        "factors": {
            "order": {"shuffled": {}, "ascending": {"order": {"kind": "sorted", "by": "score"}}},
            "schedule": {
                "constant": {},
                "decay": {"plan": {"phases": [{"warmup": "10%"}, {"stable": "50%"}, {"decay": "40%", "to": "1/10"}]}},
            },
        },
        "extra": {
            "filter_repeat": {
                "like": "shuffled.decay",
                "mixture": {"sources": {"*": {"keep": {"by": "score", "top": "50%"}}}},
            },
        },
        "control": {"order": "shuffled"},
        "contrasts": {"order": {"arm": "ascending.constant", "against": "shuffled.constant"}},
        "sizes": {"minutes": SIZE},
        **changes,
    }  # fmt: skip
    return validated(Study, apply_overrides(data, overrides), "a small study")


def prepared(
    root: Path,
    study: Study,
    *,
    documents: Sequence[str] = ("documents",),
    columns: Mapping[str, str] | None = None,
    roles: Mapping[str, Sequence[str]] | None = None,
    workers: int = 1,
) -> StudyData:
    """What a study reads in a workspace. Studies of one name and size have one place: give another one another name."""
    found = [Artifact(root / name) for name in documents]
    return prepare(workshop(root, workers), found, study, "minutes", columns=columns or {}, roles=roles or {})


def run_of(study: Study, arm: str, seed: int = 0) -> Run:
    """A run of an arm by its name."""
    return Run(arms_of(study, "minutes")[arm], seed)


def copy_of(root: Path, folder: Path) -> Path:
    """A copy of a workspace, to be changed."""
    return Path(shutil.copytree(root, folder / "workspace"))


def _reworded(text: str) -> str:
    return " ".join(REWORDED.get(word, word) for word in text.split())
