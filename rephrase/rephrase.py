"""Documents in, rephrased documents out, and a record of every attempt.

A document is cut into chunks, each chunk is asked for once, outputs come from the cache or from the generator
in batches of a fixed size, gates decide, and the kept chunks are joined in order. A rephrasing keeps its
parent's id. The grouping of requests depends on the documents alone, so a run that was killed asks again for
exactly the batches that were not stored.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from corpus.documents import document_id, documents
from corpus.errors import ConfigError
from rephrase.answering import Progress, answers
from rephrase.attempts import ATTEMPT_SCHEMA, OUTCOME_SCHEMA, Attempt, attempt_row, drop_row, outcome_row
from rephrase.cache import GenerationCache, cache_key
from rephrase.chunking import Chunk, Drop, split
from rephrase.gates.judging import Task, judge
from rephrase.generator import Generation, Generator
from rephrase.style import DOCUMENT_MARKER, Style

SPARE_TOKENS = 2  # a prompt of joined parts can be a token or two longer than the sum of its parts


@dataclass(frozen=True, slots=True)
class Rephrased:
    """Documents made, every attempt (ATTEMPT_SCHEMA), and one outcome an input (OUTCOME_SCHEMA)."""

    documents: pa.RecordBatch
    attempts: pa.Table
    outcomes: pa.Table


@dataclass(frozen=True, slots=True)
class _Cut:
    parent_id: str
    text: str
    chunks: list[Chunk]
    drops: list[Drop]


def chunk_document(text: str, style: Style, generator: Generator) -> tuple[list[Chunk], list[Drop]]:
    """Cut a text as `rephrase_documents` will: limits.max_in covers the whole prompt, chat template included.

    Raises ConfigError when the style's limits do not fit the generator's context.
    """
    return split(
        text,
        budget_tokens=_budget(style, generator),
        min_tokens=style.limits.min_segment,
        count=generator.count_tokens,
    )


def rephrase_documents(
    batch: pa.RecordBatch | pa.Table,
    style: Style,
    generator: Generator,
    cache: GenerationCache,
    *,
    seed: int,
    batch_size: int = 32,
    rollout: int = 0,
    progress: Callable[[Progress], None] | None = None,
) -> Rephrased:
    """Rephrase every document of a batch with one style.

    Args:
        batch: documents (DOCUMENT_SCHEMA).
        cache: a cache opened for this generator and style, see `open_cache`.
        seed: the engine is seeded with it and the keys of each batch of requests.
        batch_size: requests sent together, >= 1. It may change sampled texts that are not stored yet.
        rollout: a number that tells several outputs of the same request apart, >= 0.

    Every input is one row of `outcomes`, kept or with a reason; every character of it lies in one attempt.
    """
    cuts = [
        _Cut(row_id, text, *chunk_document(text, style, generator))
        for row_id, text in zip(batch.column("id").to_pylist(), batch.column("text").to_pylist(), strict=True)
    ]
    keys = {
        (cut.parent_id, chunk.start): cache_key(
            generator=generator.identity,
            request_hash=style.request_hash(),
            document_id=cut.parent_id,
            chunk=_body(cut, chunk),
            rollout=rollout,
        )
        for cut in cuts
        for chunk in cut.chunks
    }
    bodies = {keys[cut.parent_id, chunk.start]: _body(cut, chunk) for cut in cuts for chunk in cut.chunks}
    asked = {key: style.request(body, generator.count_tokens(body)) for key, body in bodies.items()}
    outputs = answers(asked, generator, cache, seed=seed, batch_size=batch_size, progress=progress)
    return _assemble(batch, cuts, keys, outputs, style, generator, rollout)


def open_cache(folder: Path, style: Style, generator: Generator) -> GenerationCache:
    """The cache for one style and one generator below a folder, which is made when the first batch is stored."""
    return GenerationCache(folder, generator=generator.identity, request_hash=style.request_hash())


def _budget(style: Style, generator: Generator) -> int:
    needed = style.limits.max_in + style.limits.max_out
    if needed > generator.max_context:
        raise ConfigError(
            f"style {style.name!r} does not fit the generator's context",
            expected=f"limits.max_in + limits.max_out of at most {generator.max_context:,} tokens",
            found=f"{style.limits.max_in:,} + {style.limits.max_out:,} = {needed:,}",
        )
    return style.limits.max_in - generator.count_prompt(style.messages("")) - SPARE_TOKENS


def _body(cut: _Cut, chunk: Chunk) -> str:
    return cut.text[chunk.start : chunk.end].strip()


def _assemble(
    batch: pa.RecordBatch | pa.Table,
    cuts: Sequence[_Cut],
    keys: dict[tuple[str, int], str],
    outputs: dict[str, Generation],
    style: Style,
    generator: Generator,
    rollout: int,
) -> Rephrased:
    instruction = f"{style.system}\n{style.template.replace(DOCUMENT_MARKER, '')}"
    made, attempt_rows, outcome_rows = [], [], []
    for row, cut in enumerate(cuts):
        attempts = []
        for chunk in cut.chunks:
            generation = outputs[keys[cut.parent_id, chunk.start]]
            task = Task(_body(cut, chunk), instruction, style.lead_in, style.parser, generator.count_tokens)
            attempts.append(Attempt(chunk, generation, judge(generation, task, style.gates)))
        outcome = outcome_row(cut.parent_id, style.name, cut.text, attempts, cut.drops, style.min_kept)
        outcome_rows.append(outcome)
        attempt_rows += [
            attempt_row(cut.parent_id, style.name, cut.text, index, len(attempts), attempt)
            for index, attempt in enumerate(attempts)
        ]
        attempt_rows += [drop_row(cut.parent_id, style.name, cut.text, len(attempts), drop) for drop in cut.drops]
        if outcome["reason"] is None:
            made.append(_document(batch, row, attempts, style, generator, rollout))
    return Rephrased(
        documents(made),
        pa.Table.from_pylist(attempt_rows, schema=ATTEMPT_SCHEMA),
        pa.Table.from_pylist(outcome_rows, schema=OUTCOME_SCHEMA),
    )


def _document(
    batch: pa.RecordBatch | pa.Table,
    row: int,
    attempts: list[Attempt],
    style: Style,
    generator: Generator,
    rollout: int,
) -> dict[str, Any]:
    parent = {name: batch.column(name)[row].as_py() for name in ("id", "url", "date", "lang")}
    kept = [attempt.verdict.text for attempt in attempts if attempt.verdict.reason is None]
    return {
        **parent,
        "id": document_id(style.source, f"{parent['id']}/{style.version}/{rollout}"),
        "text": "\n\n".join(kept),
        "source": style.source,
        "parent_id": parent["id"],
        "style": style.name,
        "generator": f"{generator.identity['model']}@{generator.identity['weights'][:8]}",
        "meta": {
            "request_hash": style.request_hash(),
            "chunks_kept": f"{len(kept)}/{len(attempts)}",
            "rollout": str(rollout),
        },
    }
