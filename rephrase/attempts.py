"""The record of what was tried: one row a piece of a document, kept or not, with every gate's value.

This is the audit behind a set of rephrasings: thresholds can be questioned, rejected outputs can be read,
and each input is accounted for.
"""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from corpus.documents import names_to
from rephrase.chunking import Chunk, Drop
from rephrase.gates.judging import Verdict
from rephrase.generator import Answer

ATTEMPT_SCHEMA = pa.schema(
    [
        pa.field("parent_id", pa.string(), nullable=False),
        pa.field("style", pa.string(), nullable=False),
        pa.field("chunk_index", pa.int32()),
        pa.field("n_chunks", pa.int32(), nullable=False),
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
`n_in`, `n_out`: tokens of prompt and output. `gates`: value by gate, null where there was nothing to measure.
`reason`: null when kept, else the gate that failed or why the piece was not sent. `output_text`: after cleaning."""

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


def attempt_row(parent_id: str, style: str, text: str, index: int, n_chunks: int, attempt: Attempt) -> dict[str, Any]:
    """A row of ATTEMPT_SCHEMA for a chunk that was sent."""
    return {
        "parent_id": parent_id,
        "style": style,
        "chunk_index": index,
        "n_chunks": n_chunks,
        "start": attempt.chunk.start,
        "end": attempt.chunk.end,
        "hard_split": attempt.chunk.hard_split,
        "n_in": attempt.generation.n_in,
        "n_out": attempt.generation.n_out,
        "finish_reason": attempt.generation.finish_reason,
        "gates": list(attempt.verdict.values.items()),
        "reason": attempt.verdict.reason,
        "source_text": text[attempt.chunk.start : attempt.chunk.end],
        "output_text": attempt.verdict.text,
    }


def drop_row(parent_id: str, style: str, text: str, n_chunks: int, drop: Drop) -> dict[str, Any]:
    """A row of ATTEMPT_SCHEMA for a piece that was not sent."""
    return {
        "parent_id": parent_id,
        "style": style,
        "n_chunks": n_chunks,
        "start": drop.start,
        "end": drop.end,
        "hard_split": False,
        "reason": drop.reason,
        "source_text": text[drop.start : drop.end],
    }


def outcome_row(
    parent_id: str, style: str, text: str, attempts: list[Attempt], drops: list[Drop], min_kept: float
) -> dict[str, Any]:
    """A row of OUTCOME_SCHEMA: kept when chunks with enough of the text's characters passed, else the reason.

    The reason is the one failure all pieces share, or `mixed_failures`; `too_little_kept` when some passed.
    """
    kept = [attempt.chunk for attempt in attempts if attempt.verdict.reason is None]
    share = sum(chunk.end - chunk.start for chunk in kept) / len(text)
    failures = {attempt.verdict.reason for attempt in attempts if attempt.verdict.reason}
    failures |= {drop.reason for drop in drops if drop.reason != "blank"} if not attempts else set()
    reason = None
    if kept and share < min_kept:
        reason = "too_little_kept"
    elif not kept:
        reason = failures.pop() if len(failures) == 1 else "mixed_failures" if failures else "blank"
    return {
        "parent_id": parent_id,
        "style": style,
        "n_chunks": len(attempts),
        "n_kept": len(kept),
        "kept_share": share,
        "reason": reason,
    }
