"""Look over the first outputs of a run before the rest is paid for: do they pass, and do they open alike?

A silent prompt bug, a model that refuses, or a template that has collapsed shows in a hundred outputs; finding it after
a week of GPU time is dear. Alarms are printed, and stop the run where it is strict.

How it is used:  for alarm in look_over(trial, ["easy", "qa"]): say(alarm)
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from corpus.artifacts import Artifact
from corpus.config import Config, load_yaml, validated
from corpus.errors import EnvironmentProblem
from corpus.shards import read_table, write_text
from pipelines.rephrase_notes import noted_rate
from pipelines.stages.naming import source_of
from rephrase.diversity import FEW, SAMPLE, diversity

LEAST_PASSED = 0.05  # of a style's outputs; fewer mean that something is wrong with the prompt, the model or a limit
RATE_FILE = "rate.json"
_COLUMNS = ["style", "superseded", "step", "attempt", "reason", "n_in", "n_out", "source_text", "output_text"]


def look_over(made: Artifact, styles: Sequence[str]) -> list[str]:
    """What is alarming about the outputs of each style, a sentence each; of at most 1,000 outputs a style."""
    alarms = []
    for style in styles:
        tried = counted_attempts(made, style, SAMPLE)
        if tried.num_rows < FEW:
            continue
        passed = tried.filter(pc.is_null(tried.column("reason")))
        if passed.num_rows < LEAST_PASSED * tried.num_rows:
            reasons = Counter(tried.column("reason").to_pylist()).most_common(3)
            why = ", ".join(f"{reason} {n}" for reason, n in reasons if reason)
            alarms.append(f"{style}: only {passed.num_rows} of {tried.num_rows} outputs pass the gates ({why})")
        shown = tried.filter(pc.greater(pc.utf8_length(tried.column("output_text")), 0))
        opening = diversity(*(shown.column(name).to_pylist() for name in ("output_text", "source_text"))).measures[0]
        if opening.level == "stop":
            alarms.append(f"{style}: {opening.value:.0%} of {shown.num_rows} outputs open with {opening.example!r}")
    return alarms


def counted_attempts(made: Artifact, style: str, most: int) -> pa.Table:
    """Attempts of a style that were sent and count, as far as `most` rows, in the order of the run."""
    tables, rows = [], 0
    for path in made.files(folder="attempts"):
        if source_of(path) != f"wrap-{style}" or rows >= most:
            continue
        table = read_table(path, _COLUMNS)
        known = pc.and_(pc.is_valid(table.column("attempt")), pc.invert(table.column("superseded")))
        table = table.filter(pc.and_(known, pc.equal(table.column("step"), "")))
        tables.append(table.filter(pc.is_valid(table.column("output_text"))))
        rows += tables[-1].num_rows
    empty = pa.table({name: pa.array([], pa.string()) for name in _COLUMNS})
    return pa.concat_tables(tables).slice(0, most) if tables else empty


class Measured(Config):
    """What a trial has shown, frozen: generated tokens per second of all engines together."""

    rate: float


def measure(events: Path, generator: str, folder: Path) -> dict[str, Any]:
    """Write `rate.json` from what a trial left in the events; `generator` is its fingerprint.

    Raises EnvironmentProblem when nothing was generated whose time is known.
    """
    rate = noted_rate(events, generator)
    if rate is None:
        raise EnvironmentProblem(
            "the rate cannot be measured: every answer of the trial was stored already, or it took less than a second",
            fix="give the rate yourself: --rate TOKENS_PER_SECOND",
        )
    write_text(folder / RATE_FILE, Measured(rate=round(rate, 2)).model_dump_json() + "\n")
    return {"tokens_per_second": round(rate, 2)}


def read_measured(made: Artifact) -> float:
    """The rate that `measure` wrote."""
    path = made.folder / RATE_FILE
    return validated(Measured, load_yaml(path), str(path)).rate
