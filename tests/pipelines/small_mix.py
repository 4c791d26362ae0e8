"""The bundled pages as sources of a mixture: one JSONL file a package, in a second."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from corpus.artifacts import Artifact
from corpus.scores import Score, score_schema
from corpus.shards import read_table, write_table
from pipelines.build import Workshop
from pipelines.mix_settings import load_mix
from pipelines.mixing import Mixing
from pipelines.recipe import DEMO
from pipelines.runtime import LocalRuntime

NAMES = {
    "sqlite3-doc": "sqlite",
    "debian-handbook": "debian",
    "python-django-doc": "django",
    "libreoffice-help-de": "office",
}
"""Packages of the bundled pages, and what their sources are called; `office` is German."""


SHARES = {"sqlite": 0.4, "debian": 0.35, "django": 0.15, "office": 0.1}
"""What `write_mix` asks for."""


def tokens_by_source(table: pa.Table) -> dict[str, int]:
    """Tokens of each source of an order or of visits."""
    found = table.group_by("source").aggregate([("length", "sum")]).to_pylist()
    return {row["source"]: row["length_sum"] for row in found}


def write_pages(folder: Path) -> None:
    """Write `<source>.jsonl` for each of NAMES."""
    lines: dict[str, list[str]] = {}
    for line in (DEMO.parent / "pages.jsonl").read_text(encoding="utf-8").splitlines(keepends=True):
        lines.setdefault(json.loads(line)["package"], []).append(line)
    for package, name in NAMES.items():
        (folder / f"{name}.jsonl").write_text("".join(lines[package]))


def write_mix(folder: Path, name: str = "mix", **changes: Any) -> Path:
    """Write a file of settings; `changes` replace top-level keys, None takes them out."""
    settings: dict[str, Any] = {
        "inputs": {name: f"{name}.jsonl" for name in NAMES.values()},
        "tokenizer": {"vocabulary": 600},
        "seed": 3,
        "tokens": "300K",
        "max_visits": 3,
        "sources": {
            "sqlite": "40%",
            "debian": "35%",
            "django": "15%",
            "office": {"share": "10%", "sequence": "original"},
        },
        **changes,
    }
    path = folder / f"{name}.yaml"
    path.write_text(
        yaml.safe_dump({key: value for key, value in settings.items() if value is not None}, sort_keys=False)
    )
    return path


PHASES = [
    {"name": "stable", "tokens": "80%"},
    {
        "name": "anneal",
        "tokens": "20%",
        "ramp": "5%",
        "sources": {"sqlite": "10%", "debian": "30%", "django": "35%", "office": "25%"},
    },
]


def mixing(file: Path, workspace: Path, *overrides: str) -> Mixing:
    """A mixture in a workspace, worked on in this process."""
    settings, base = load_mix(file, overrides)
    return Mixing(Workshop(workspace, LocalRuntime(1)), settings, base)


def score(workspace: Path, source: str, values: Sequence[float | None] | None = None) -> Artifact:
    """Sidecars `scores/edu_<source>` with a column `edu` for the documents of an input; by default their number."""
    documents = Artifact(workspace / "sources" / source / "documents")

    def make(made: Path) -> dict[str, Any]:
        for path in documents.files():
            ids = read_table(path, ["id"])["id"].combine_chunks()
            column = pa.array(range(len(ids)) if values is None else values, pa.float32())
            schema = score_schema((Score("edu", 0, None, "high"),), "test")
            write_table(made / path.name, pa.Table.from_arrays([ids, column], schema=schema))
        return {}

    shop = Workshop(workspace, LocalRuntime(1))
    return shop.build_here(f"scores/edu_{source}", "scores", config={}, inputs=[documents], make=make)
