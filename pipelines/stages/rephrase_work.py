"""The work of a rephrasing task: pick clean documents, rephrase them through the cache, keep every attempt.

It runs in a process of its own, because a language model takes gigabytes and threads. What was generated before
a kill comes from the cache; the batches of requests are the same as in an undisturbed run.
"""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from corpus.shards import read_table, write_table
from pipelines.stages.naming import shard_name
from pipelines.tally import Tally
from pipelines.tasks import note_progress
from rephrase.packaged_models import weights_of
from rephrase.picking import Budget, pick_documents
from rephrase.rephrase import chunk_document, open_cache, rephrase_documents
from rephrase.style import Style
from rephrase.vllm_engine import VllmGenerator, VllmSettings, resolved_dtype


@dataclass(frozen=True)
class RephraseWork:
    """Rephrase documents of clean shards in one style.

    `shards`: the documents to draw from. `scores`: sidecars whose `composite` ranks them, best first; none: a keyed
    draw. `cache`: folder of the generation cache. `log`: what the engine prints.
    """

    shards: tuple[Path, ...]
    scores: tuple[Path, ...]
    style: Style
    generator: VllmSettings
    budget: Budget
    batch_size: int
    seed: int
    cache: Path
    log: Path

    def identity(self) -> dict[str, Any]:
        """What decides which texts come out: weights and arithmetic, not the paths or names they go by."""
        generator = {
            "weights": weights_of(self.generator.model), "dtype": resolved_dtype(self.generator.dtype),
            "max_context": self.generator.max_context,
        }  # fmt: skip
        return {
            "style": self.style.model_dump(mode="json"), "generator": generator, "budget": self.budget.model_dump(),
            "batch_size": self.batch_size, "seed": self.seed,
        }  # fmt: skip

    def run(self, folder: Path, tally: Tally) -> Iterable[Path]:
        """Write one shard of rephrasings, and `attempts/` and `outcomes/` beside it."""
        table = pa.concat_tables([read_table(path) for path in self.shards])
        with closing(VllmGenerator(self.generator, log=self.log)) as generator:

            def chunks(text: str) -> int:
                return len(chunk_document(text, self.style, generator)[0])

            picked = pick_documents(table, chunks, self.budget, seed=self.seed, scores=self._ranks(table))
            chosen = table.take(pa.array(picked.rows, pa.int64())).combine_chunks()
            cache = open_cache(self.cache, self.style, generator)
            made = rephrase_documents(
                chosen, self.style, generator, cache, seed=self.seed, batch_size=self.batch_size,
                progress=lambda state: note_progress(folder, state.done, state.total),
            )  # fmt: skip
        reasons = [reason for reason in made.outcomes.column("reason").to_pylist() if reason is not None]
        tally.records_in += chosen.num_rows
        tally.kept += made.documents.num_rows
        tally.dropped.update(reasons)
        tally.totals["chunks"] += made.attempts.num_rows
        tally.totals["documents_passed_over"] += sum(picked.passed_over.values())
        tally.totals["output_tokens"] += sum(n or 0 for n in made.attempts.column("n_out").to_pylist())
        name = f"{shard_name(self.style.source.replace('/', '-'), 0, 0)}.parquet"
        paths = [folder / name, folder / "attempts" / name, folder / "outcomes" / name]
        for path, rows in zip(paths, (made.documents, made.attempts, made.outcomes), strict=True):
            write_table(path, rows)
        return paths

    def _ranks(self, table: pa.Table) -> list[float | None] | None:
        if not self.scores:
            return None
        known = pa.concat_tables([read_table(path, ["id", "composite"]) for path in self.scores])
        by_id = dict(zip(known.column("id").to_pylist(), known.column("composite").to_pylist(), strict=True))
        return [by_id.get(name) for name in table.column("id").to_pylist()]
