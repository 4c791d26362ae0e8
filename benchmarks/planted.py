"""Does the harness find what is there, and nothing where there is nothing? Planted by construction, so it must know.

Effect: real passages whose tail is replaced by words drawn from all of them, in proportion to 1 - score; what is held
out to measure on is clean. Null: the same clean passages with a score drawn at random, ten times. There is no peer:
the truth is known. The study is `benchmarks/experiments/planted.yaml`, run by the command line as any other.

Run it:  python -m benchmarks.planted [--nulls 10] [--folder WORKSPACES]      minutes on two cores, on bundled pages
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from corpus.documents import document_id, documents
from corpus.keyed_random import keyed_uniforms
from corpus.scores import Score, score_schema
from corpus.shards import write_table
from pipelines.build import Workshop
from pipelines.experiments.analysis.findings import Difference, read_findings
from pipelines.recipe import DEMO
from pipelines.runtime import LocalRuntime

STUDY = Path(__file__).parent / "experiments" / "planted.yaml"
PASSAGE = 90  # words: about a piece of the study's 128 tokens
CLEAN = 0.15
"""Share of the passages that are kept whole, in a source that is measured on and never trained on."""


def main() -> None:
    """Run the effect and the nulls; print each one's answer."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--nulls", type=int, default=10)
    options.add_argument("--folder", type=Path, default=None)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = asked.folder or Path(scratch)
        for name, found in contrasts(root / "effect", None).items():
            print(f"effect   {name:<7} {found.text}: {found.verdict}", flush=True)
        nulls = [contrasts(root / "null", number) for number in range(asked.nulls)]
    for name in nulls[0] if nulls else ():
        for number, found in enumerate(null[name] for null in nulls):
            print(f"null {number}   {name:<7} {found.text}: {found.verdict}")
        silent = sum(null[name].verdict == "not distinguishable" for null in nulls)
        print(f"nulls reported as not distinguishable, {name}: {silent} of {len(nulls)}")


def contrasts(root: Path, null: int | None) -> dict[str, Difference]:
    """Run the study on planted passages, with a telling score or with random score number `null`; what each contrast
    came to on the target, by name."""
    column = write_planted(root, null)
    command = [str(Path(sys.executable).with_name("gradatim")), "experiment", "run", str(STUDY), "--size", "minutes",
               "--score", column, "-w", str(root)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, text=True)
    found = read_findings(root / "experiments/planted-minutes/findings/findings.json").contrasts
    return {one.name: one.comparison.target for one in found if one.comparison is not None}


def write_planted(root: Path, null: int | None) -> str:
    """Write the artifacts `documents` and `scores/...` of one planting; returns the score's column.

    Every null has the same documents, so their shuffled runs are trained once.
    """
    shop = Workshop(root, LocalRuntime(1))
    passages = _passages()
    ids = [document_id("web", str(number)) for number in range(len(passages))]
    held = keyed_uniforms(1, ids) < CLEAN
    scores = keyed_uniforms(2 if null is None else 100 + null, ids).astype(np.float32)
    words = [word for passage in passages for word in passage]
    rows = []
    for number, passage in enumerate(passages):
        clean = held[number] or null is not None
        text = passage if clean else _spoiled(passage, float(scores[number]), words, number)
        source = "clean" if held[number] else "web"
        rows.append({"id": ids[number], "text": " ".join(text), "source": source})

    def make_documents(folder: Path) -> dict[str, Any]:
        write_table(folder / "web-00000-000.parquet", pa.Table.from_batches([documents(rows)]))
        return {}

    column = "planted" if null is None else f"random_{null}"

    def make_scores(folder: Path) -> dict[str, Any]:
        schema = score_schema((Score(column, 0, 1, "high"),), "planted")
        write_table(
            folder / "web-00000-000.parquet", pa.Table.from_arrays([pa.array(ids), pa.array(scores)], schema=schema)
        )
        return {}

    made = shop.build_here("documents", "documents", config={"null": null is not None}, inputs=[], make=make_documents)
    shop.build_here(f"scores/{column}", "scores", config={"null": null}, inputs=[made], make=make_scores)
    return column


def _passages() -> list[list[str]]:
    """The English bundled pages as passages of PASSAGE words."""
    found: list[list[str]] = []
    for line in (DEMO.parent / "pages.jsonl").read_text(encoding="utf-8").splitlines():
        page = json.loads(line)
        if not page["package"].endswith("-de"):
            words = page["text"].split()
            found += [words[i : i + PASSAGE] for i in range(0, len(words) - PASSAGE + 1, PASSAGE)]
    return found


def _spoiled(passage: list[str], score: float, words: list[str], number: int) -> list[str]:
    """A passage whose last 1 - score of words are drawn from all words."""
    kept = round(score * len(passage))
    drawn = keyed_uniforms(3, [f"{number}/{i}" for i in range(len(passage) - kept)])
    return passage[:kept] + [words[int(u * len(words))] for u in drawn]


if __name__ == "__main__":
    main()
