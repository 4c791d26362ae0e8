"""From attempts to documents: which chunks count, what they are joined to, and why a document was not kept.

Works on whole batches of settled documents, column by column; a document's text is joined from its kept chunks in their
order, as its style says (the rejoining of Nemotron-CC, arXiv 2412.02595, and the style's own `on_reject`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corpus.documents import document_id, documents
from rephrase.attempts import ATTEMPT_SCHEMA, OUTCOME_SCHEMA
from rephrase.course import Bench
from rephrase.gates.across import judge_duplicates
from rephrase.gates.judging import Verdict
from rephrase.near_duplicates import suspects
from rephrase.style import Style


@dataclass(frozen=True, slots=True)
class Rephrased:
    """Documents made, every attempt (ATTEMPT_SCHEMA), and one outcome an input (OUTCOME_SCHEMA)."""

    documents: pa.RecordBatch
    attempts: pa.Table
    outcomes: pa.Table


@dataclass(frozen=True, slots=True)
class _Piece:
    """An attempt that counts, or a piece that was not sent."""

    start: int
    end: int
    sent: bool
    reason: str | None
    output: str


def assemble(batch: pa.RecordBatch | pa.Table, settled: pa.Table, style: Style, bench: Bench) -> Rephrased:
    """Documents, attempts and outcomes of n documents from their n rows of SETTLED_SCHEMA, in the same order."""
    ids, texts = batch.column("id").to_pylist(), batch.column("text").to_pylist()
    attempts, parents = _flat(settled, ids, texts, style)
    attempts = _without_duplicates(attempts, settled, style)
    pieces = _pieces(attempts, parents, len(ids))
    outcomes = [_outcome(name, text, its, style) for name, text, its in zip(ids, texts, pieces, strict=True)]
    kept = [row for row, outcome in enumerate(outcomes) if outcome["reason"] is None]
    parent_rows = batch.take(pa.array(kept, pa.int64())).select(["id", "url", "date", "lang", "meta"]).to_pylist()
    own_meta = settled.column("meta").take(pa.array(kept, pa.int64())).to_pylist()
    request_hash = style.request_hash()
    made = [
        {
            **_provenance(parent, outcomes[row], own, request_hash, style, bench),
            "text": _joined(texts[row], pieces[row], style),
        }
        for parent, row, own in zip(parent_rows, kept, own_meta, strict=True)
    ]
    return Rephrased(documents(made), attempts, pa.Table.from_pylist(outcomes, schema=OUTCOME_SCHEMA))


def _flat(settled: pa.Table, ids: Sequence[str], texts: Sequence[str], style: Style) -> tuple[pa.Table, Sequence[int]]:
    """All attempts as one table of ATTEMPT_SCHEMA, and the row of each one's document."""
    lists = settled.column("attempts").combine_chunks()
    parents = pc.list_parent_indices(lists)
    flat = pa.Table.from_struct_array(pc.list_flatten(lists))
    rows, starts, ends = parents.to_pylist(), flat.column("start").to_pylist(), flat.column("end").to_pylist()
    given = {
        "parent_id": pa.array(ids, pa.string()).take(parents),
        "style": pa.array([style.name] * len(rows), pa.string()),
        "source_text": pa.array([texts[row][a:b] for row, a, b in zip(rows, starts, ends, strict=True)], pa.string()),
    }
    columns = [given[name] if name in given else flat.column(name) for name in ATTEMPT_SCHEMA.names]
    return pa.Table.from_arrays(columns, schema=ATTEMPT_SCHEMA), rows


def _without_duplicates(attempts: pa.Table, settled: pa.Table, style: Style) -> pa.Table:
    """The attempts, near-duplicates of an earlier output among them marked: this depends on the whole batch."""
    sketches = pc.list_flatten(settled.column("attempts").combine_chunks()).field("sketch")
    places = [place for place in suspects(sketches).tolist() if not attempts.column("superseded")[place].as_py()]
    if not places:
        return attempts
    rows = attempts.take(pa.array(places, pa.int64())).to_pylist()
    values = [{gate["key"]: gate["value"] for gate in row["gates"]} for row in rows]
    pairs = [
        (row["source_text"].strip(), Verdict(row["output_text"], value, None))
        for row, value in zip(rows, values, strict=True)
    ]
    judged = judge_duplicates(pairs, style)
    gates = [[{"key": gate, "value": value} for gate, value in verdict.values.items()] for verdict in judged]
    attempts = _replaced(attempts, "gates", places, gates)
    return _replaced(attempts, "reason", places, [verdict.reason for verdict in judged])


def _replaced(attempts: pa.Table, name: str, places: Sequence[int], values: Sequence[Any]) -> pa.Table:
    """The attempts with other values in some rows of a column; the rest of it never becomes Python objects."""
    index, field = ATTEMPT_SCHEMA.get_field_index(name), ATTEMPT_SCHEMA.field(name)
    rows = np.arange(attempts.num_rows)
    rows[places] = attempts.num_rows + np.arange(len(places))
    both = pa.chunked_array([*attempts.column(index).chunks, pa.array(values, field.type)], field.type)
    return attempts.set_column(index, field, both.take(pa.array(rows)))


def _pieces(attempts: pa.Table, parents: Sequence[int], n: int) -> list[list[_Piece]]:
    """By document: the attempts that count, in chunk order, and the pieces that were not sent."""
    found: list[list[_Piece]] = [[] for _ in range(n)]
    names = ("start", "end", "chunk_index", "reason", "output_text", "superseded", "step")
    columns = [attempts.column(name).to_pylist() for name in names]
    for row, start, end, index, reason, output, superseded, step in zip(parents, *columns, strict=True):
        if not superseded and not step:
            found[row].append(_Piece(start, end, index is not None, reason, output or ""))
    return found


def _outcome(name: str, text: str, pieces: Sequence[_Piece], style: Style) -> dict[str, Any]:
    """A row of OUTCOME_SCHEMA. The reason is the one failure that all pieces share, or `mixed_failures`;
    `too_little_kept` when some passed."""
    sent = [piece for piece in pieces if piece.sent]
    kept = [piece for piece in sent if piece.reason is None]
    share = sum(piece.end - piece.start for piece in kept) / len(text)
    failures = {piece.reason for piece in (sent or pieces) if piece.reason and piece.reason != "blank"}
    reason = None
    if not kept or (style.on_reject == "drop_document" and failures):
        reason = failures.pop() if len(failures) == 1 else "mixed_failures" if failures else "blank"
    elif share < style.min_kept:
        reason = "too_little_kept"
    return {
        "parent_id": name, "style": style.name, "n_chunks": len(sent), "n_kept": len(kept), "kept_share": share,
        "reason": reason,
    }  # fmt: skip


def _joined(text: str, pieces: Sequence[_Piece], style: Style) -> str:
    """The text of a document: outputs of kept chunks, each after its source when the style appends."""
    parts = []
    for piece in (piece for piece in pieces if piece.sent):
        source = text[piece.start : piece.end].strip()
        if piece.reason is None:
            parts += [source, piece.output] if style.join == "append" else [piece.output]
        elif style.on_reject == "keep_original":
            parts.append(source)
    return "\n\n".join(parts)


def _provenance(
    parent: Mapping[str, Any], outcome: Mapping[str, Any], own: Sequence[Mapping[str, str]] | None,
    request_hash: str, style: Style, bench: Bench,
) -> dict[str, Any]:  # fmt: skip
    identity = bench.generator.identity
    theirs = {item["key"]: item["value"] for item in parent["meta"] or ()}
    licence = theirs.get("license") or theirs.get("licence")
    meta = {
        "request_hash": request_hash, "style_version": str(style.version), "rollout": str(bench.rollout),
        "chunks_kept": f"{outcome['n_kept']}/{outcome['n_chunks']}", **({"license": licence} if licence else {}),
        **({"model_license": bench.model_license} if bench.model_license else {}),
        **{item["key"]: item["value"] for item in own or ()},
    }  # fmt: skip
    return {
        **{name: parent[name] for name in ("url", "date", "lang")},
        "id": document_id(style.source, f"{parent['id']}/{style.version}/{bench.rollout}"),
        "source": style.source, "parent_id": parent["id"], "style": style.name,
        "generator": f"{identity['model']}@{identity['weights'][:8]}", "meta": meta,
    }  # fmt: skip
