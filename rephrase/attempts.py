"""The record of what was tried: one row a piece of a document, kept or not, with every gate's value.

This is the audit behind a set of rephrasings: thresholds can be questioned, rejected outputs can be read,
and each input is accounted for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from corpus.documents import names_to
from rephrase.chunking import Chunk, Drop
from rephrase.gates.judging import Verdict
from rephrase.generator import Answer, Generation
from rephrase.near_duplicates import sketch

ATTEMPT_SCHEMA = pa.schema(
    [
        pa.field("parent_id", pa.string(), nullable=False),
        pa.field("style", pa.string(), nullable=False),
        pa.field("chunk_index", pa.int32()),
        pa.field("n_chunks", pa.int32(), nullable=False),
        pa.field("attempt", pa.int32()),
        pa.field("superseded", pa.bool_(), nullable=False),
        pa.field("step", pa.string(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("end", pa.int64(), nullable=False),
        pa.field("hard_split", pa.bool_(), nullable=False),
        pa.field("n_in", pa.int32()),
        pa.field("n_out", pa.int32()),
        pa.field("finish_reason", pa.string()),
        pa.field("gates", names_to(pa.float32())),
        pa.field("reason", pa.string()),
        pa.field("source_text", pa.string(), nullable=False),
        pa.field("output_text", pa.string()),
    ]
)
"""Attempts. `start`, `end`: characters of the parent's text. `chunk_index`: null for a piece that was not sent.
`attempt`: the try's number, from 0; `superseded`: a later try of the same chunk counts. `step`: empty where the output
becomes text, else what a style of several steps asked for. `n_in`, `n_out`: tokens of prompt and output. `gates`: value
by gate, null where there was nothing to measure. `reason`: null when kept, else the gate that failed, why the piece
was not sent, or why there was no answer. `output_text`: after cleaning."""

OUTCOME_SCHEMA = pa.schema(
    [
        pa.field("parent_id", pa.string(), nullable=False),
        pa.field("style", pa.string(), nullable=False),
        pa.field("n_chunks", pa.int32(), nullable=False),
        pa.field("n_kept", pa.int32(), nullable=False),
        pa.field("kept_share", pa.float32(), nullable=False),
        pa.field("reason", pa.string()),
    ]
)
"""Outcomes, one row an input document. `kept_share`: characters of the parent in kept chunks, in [0, 1].
`reason`: null when the document was kept."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at one chunk.

    Args:
        chunk: where it lies in the parent's text.
        index: the chunk's number in its document, from 0.
        answer: what came back.
        verdict: its cleaned text, the gates' values, and the first gate that failed.
        number: the try's number, from 0; the last try of a chunk is the one that counts.
        step: what was asked for, where a style has several steps; only attempts with an empty step become text.
    """

    chunk: Chunk
    index: int
    answer: Answer
    verdict: Verdict
    number: int = 0
    step: str = ""


def attempt_rows(attempts: Sequence[Attempt], drops: Sequence[Drop]) -> list[dict[str, Any]]:
    """The rows of one document as ATTEMPT_SCHEMA has them, less what the document itself gives (id, style, source), and
    with the sketch of each output that no gate failed."""
    n_chunks = len({attempt.index for attempt in attempts})
    last = {(attempt.index, attempt.step): attempt.number for attempt in attempts}
    sent = [_sent(n_chunks, attempt, last[attempt.index, attempt.step]) for attempt in attempts]
    return sent + [_unsent(n_chunks, drop) for drop in drops]


def _sent(n_chunks: int, attempt: Attempt, last: int) -> dict[str, Any]:
    answer = attempt.answer if isinstance(attempt.answer, Generation) else None
    counts = attempt.verdict.reason is None and not attempt.step
    return {
        "chunk_index": attempt.index,
        "n_chunks": n_chunks,
        "attempt": attempt.number,
        "superseded": attempt.number < last,
        "step": attempt.step,
        "start": attempt.chunk.start,
        "end": attempt.chunk.end,
        "hard_split": attempt.chunk.hard_split,
        "n_in": answer and answer.n_in,
        "n_out": answer and answer.n_out,
        "finish_reason": answer and answer.finish_reason,
        "gates": [{"key": gate, "value": value} for gate, value in attempt.verdict.values.items()],
        "reason": attempt.verdict.reason,
        "output_text": attempt.verdict.text,
        "sketch": sketch(attempt.verdict.text) if counts else None,
    }


def _unsent(n_chunks: int, drop: Drop) -> dict[str, Any]:
    return {
        "n_chunks": n_chunks,
        "superseded": False,
        "step": "",
        "start": drop.start,
        "end": drop.end,
        "hard_split": False,
        "reason": drop.reason,
    }
