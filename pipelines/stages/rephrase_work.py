"""The work of a rephrasing task: some rows of the plan, through courses, cache and gates, to documents by style.

A task holds paths and settings only. The generator is kept between the tasks of a process, because loading a language
model takes long; what was generated before a kill comes from the cache, and what was settled is not even judged again.
A task keeps to its share of the budget: when that is spent, its other documents are recorded as `over_budget`.
"""

import atexit
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from corpus.documents import documents
from corpus.events import EVENTS
from corpus.fingerprints import fingerprint
from corpus.shards import read_rows, write_table
from pipelines.rephrase_instruments import InstrumentSettings, open_instruments
from pipelines.rephrase_notes import TaskNote
from pipelines.stages.naming import shard_name
from pipelines.tally import Tally
from rephrase.assembling import Rephrased
from rephrase.attempts import ATTEMPT_SCHEMA, OUTCOME_SCHEMA
from rephrase.budget import Allowance
from rephrase.course import Bench
from rephrase.generator import Generator
from rephrase.generators import AnyGenerator, model_license, open_generator
from rephrase.rephrase import open_cache, open_settled, rephrase_documents
from rephrase.style import Style

OVER_BUDGET = "over_budget"
GROUP_REQUESTS = 512  # documents are taken up in groups of about so many requests where a budget may end them


@dataclass(frozen=True)
class RephraseWork:
    """Rephrase the documents of some rows of a plan.

    Args:
        task: its number, which names its files.
        plan: the plan's table; rows [first, stop) are this task's.
        shards: folder of the document shards.
        styles: all that the plan names, in its order.
        generator: what answers. instruments: what gates use; relative paths of them start from `base`.
        batch_size: questions handed to the generator together.
        seed, rollout: see rephrase.course.Bench.
        allowance: what it may spend at most.
        workspace: whose cache and events are used, and whose logs take what an engine prints.
    """

    task: int
    plan: Path
    first: int
    stop: int
    shards: Path
    styles: tuple[Style, ...]
    generator: AnyGenerator
    instruments: InstrumentSettings
    base: Path
    batch_size: int
    seed: int
    rollout: int
    max_requests: int | None
    max_tokens: int | None
    workspace: Path

    def run(self, folder: Path, tally: Tally) -> Iterable[Path]:
        """Write a shard of rephrasings for each style, and `attempts/` and `outcomes/` beside it."""
        rows = read_rows(self.plan, self.first, self.stop)
        generator = loaded(self.generator, self.workspace / "logs" / "generator.log")
        bench = Bench(
            generator, open_instruments(self.instruments, self.base), self.seed, self.rollout,
            model_license=model_license(self.generator),
        )  # fmt: skip
        note = TaskNote(folder, f"{self.task:05d}")
        made: dict[str, list[Rephrased]] = defaultdict(list)
        allowance = Allowance(self.max_requests, self.max_tokens)
        for group in self._groups(rows):
            if allowance.is_used:
                for name, ids in _by_style(group):
                    made[name].append(_left_out(ids, name))
                continue
            for name, result in self._rephrased(group, bench, note):
                made[name].append(result)
                first_tries = pc.sum(pc.equal(result.attempts.column("attempt"), 0)).as_py() or 0
                allowance.spend(first_tries, pc.sum(result.attempts.column("n_out")).as_py() or 0)
        note.write(now=True)
        note.log(self.workspace / EVENTS, fingerprint(dict(generator.identity)))
        return self._written(folder, made, tally)

    def _groups(self, rows: pa.Table) -> Iterator[pa.Table]:
        """The rows in one go, or where a budget may end them in groups of whole documents."""
        if self.max_requests is None and self.max_tokens is None:
            yield rows
            return
        begin, requests = 0, 0
        ids, sizes = rows.column("id").to_pylist(), rows.column("requests").to_pylist()
        for at, (name, size) in enumerate(zip(ids, sizes, strict=True)):
            if requests >= GROUP_REQUESTS and name != ids[at - 1]:
                yield rows.slice(begin, at - begin)
                begin, requests = at, 0
            requests += size
        yield rows.slice(begin)

    def _rephrased(self, group: pa.Table, bench: Bench, note: TaskNote) -> Iterator[tuple[str, Rephrased]]:
        sources = self._documents(group)
        cache_folder = self.workspace / "cache" / "generations"
        with closing(open_cache(cache_folder, bench.generator)) as cache:
            for name, ids in _by_style(group):
                style = next(style for style in self.styles if style.name == name)
                batch = sources.filter(pc.is_in(sources.column("id"), value_set=ids))
                with closing(open_settled(cache_folder, style, bench)) as settled:
                    result = rephrase_documents(
                        batch, style, bench, cache, settled, batch_size=self.batch_size,
                        progress=note.tell,
                    )  # fmt: skip
                sent = result.attempts.filter(pc.is_valid(result.attempts.column("attempt")))
                note.judged += sent.num_rows
                note.kept += sent.column("reason").null_count
                note.write()
                yield name, result

    def _documents(self, group: pa.Table) -> pa.Table:
        """The documents of a group's rows, each once, in their order."""
        tables = []
        for shard in pc.unique(group.column("shard")).to_pylist():
            mine = group.filter(pc.equal(group.column("shard"), shard))
            rows = pc.unique(mine.column("row"))
            first, last = rows[0].as_py(), rows[-1].as_py()
            table = read_rows(self.shards / shard, first, last + 1)
            tables.append(table.take(pc.subtract(rows, first)))
        found = pa.concat_tables(tables)
        wanted = pc.unique(group.column("id"))
        assert found.column("id").combine_chunks().equals(wanted), "the plan was made for these shards"
        return found

    def _written(self, folder: Path, made: dict[str, list[Rephrased]], tally: Tally) -> list[Path]:
        paths = []
        for style in self.styles:
            if style.name not in made:
                continue
            parts = made[style.name]
            texts = pa.Table.from_batches([part.documents for part in parts])
            attempts = pa.concat_tables([part.attempts for part in parts])
            outcomes = pa.concat_tables([part.outcomes for part in parts])
            name = f"{shard_name(style.source.replace('/', '-'), self.task, 0)}.parquet"
            for place, table in (("", texts), ("attempts", attempts), ("outcomes", outcomes)):
                write_table(folder / place / name, table)
                paths.append(folder / place / name)
            _count(tally, attempts, outcomes)
        return paths


@lru_cache(maxsize=1)
def loaded(settings: AnyGenerator, log: Path) -> Generator:
    """The generator of this process; it starts with its first request and is closed when the process ends."""
    generator = open_generator(settings, log=log)
    atexit.register(generator.close)
    return generator


def _by_style(group: pa.Table) -> Iterator[tuple[str, pa.Array]]:
    for name in pc.unique(group.column("style")).to_pylist():
        yield name, group.filter(pc.equal(group.column("style"), name)).column("id").combine_chunks()


def _left_out(ids: pa.Array, style: str) -> Rephrased:
    """Documents that the budget did not reach: an outcome each, and nothing else."""
    rows = [
        {"parent_id": name, "style": style, "n_chunks": 0, "n_kept": 0, "kept_share": 0.0, "reason": OVER_BUDGET}
        for name in ids.to_pylist()
    ]
    return Rephrased(documents([]), ATTEMPT_SCHEMA.empty_table(), pa.Table.from_pylist(rows, schema=OUTCOME_SCHEMA))


def _count(tally: Tally, attempts: pa.Table, outcomes: pa.Table) -> None:
    reasons = [reason for reason in outcomes.column("reason").to_pylist() if reason is not None]
    tally.records_in += outcomes.num_rows
    tally.kept += outcomes.num_rows - len(reasons)
    tally.dropped.update(reasons)
    sent = pc.is_valid(attempts.column("attempt"))
    tally.totals["requests"] += pc.sum(sent).as_py() or 0
    tally.totals["prompt_tokens"] += pc.sum(attempts.column("n_in")).as_py() or 0
    tally.totals["output_tokens"] += pc.sum(attempts.column("n_out")).as_py() or 0
