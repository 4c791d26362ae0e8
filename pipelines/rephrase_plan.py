"""The plan of a rephrasing run: which documents, in which styles, in which task; made before anything is generated.

It looks at ids, scores and lengths, never at more texts than it must: lengths are counted where the documents are few,
and told by bytes, at a ratio measured on a sample of each source, where they are many. The plan is an artifact, so a
run that is killed, or comes back with other workers, goes on with the same tasks.

`plan.parquet`: one row a rephrasing to be, by shard, row and style. `trial.parquet`: some of these rows of each style,
by a keyed draw, to be tried before the rest. `buckets.json`: the cuts of the score, frozen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from corpus.errors import ConfigError
from corpus.keyed_random import keyed_hashes
from corpus.shards import read_rows, read_schema, read_table, write_table, write_text
from pipelines.aligned_scores import ScoreColumn
from pipelines.stages.naming import source_of
from rephrase.budget import Budget, Candidates, Chosen, choose, preference
from rephrase.estimate import StyleLengths, lengths_of
from rephrase.generator import Generator
from rephrase.routing import Buckets, Routing, fit_buckets, quota_weights, route, route_at_random, table_of
from rephrase.style import Style

PLAN, TRIAL, BUCKETS_FILE = "plan.parquet", "trial.parquet", "buckets.json"
TRIAL_OUTPUTS = 100  # requests of each style that are tried first
COUNTED_BYTES = 16 << 20  # up to here every text is counted; beyond, a sample of each source tells tokens a byte
SAMPLE_SHARDS, SAMPLE_ROWS = 8, 32  # of each source

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]

PLAN_SCHEMA = pa.schema(
    [
        pa.field("shard", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("style", pa.string(), nullable=False),
        pa.field("bucket", pa.int8()),
        pa.field("tokens", pa.int64(), nullable=False),
        pa.field("requests", pa.int64(), nullable=False),
        pa.field("n_out", pa.int64(), nullable=False),
        pa.field("task", pa.int32(), nullable=False),
    ]
)
"""`shard`, `row`: where the document lies. `bucket`: 1 (worst) to 20, null without a score. `tokens`: its length in the
generator's tokens; `requests`, `n_out`: what the style is expected to ask and to make of it. `task`: who does it."""


@dataclass(frozen=True)
class Listed:
    """All documents that may be rephrased, in the order of their shards: columns of n values."""

    shards: Sequence[Path]
    shard: Ints
    row: Ints
    ids: list[str]
    n_bytes: Ints


@dataclass(frozen=True)
class Plan:
    """What decides a plan.

    Args:
        shards: document shards.
        styles: in the order they are asked for.
        routing, budget: see there; the budget holds no GPU-hours.
        pick: in which order documents are chosen: best scores first, or a keyed draw.
        column: the score; null where neither route nor order needs one.
        frozen: buckets of an earlier plan.
        seed: of all draws; task_requests: requests of a task, about.
    """

    shards: tuple[Path, ...]
    styles: tuple[Style, ...]
    routing: Routing
    budget: Budget
    pick: Literal["best", "random"]
    column: ScoreColumn | None
    frozen: Buckets | None
    seed: int
    task_requests: int

    def write(self, folder: Path, generator: Generator) -> dict[str, Any]:
        """Write the plan's files and return its totals. `generator` counts tokens; it generates nothing."""
        listed = list_documents(self.shards)
        tokens, looked_at = count_lengths(listed, generator)
        scores = self._scores(listed)
        buckets = self._buckets(scores, listed)
        lengths = [lengths_of(style) for style in self.styles]
        if buckets is not None:
            write_text(folder / BUCKETS_FILE, buckets.model_dump_json(indent=1) + "\n")
        of = np.zeros(len(listed.ids), np.int64) if buckets is None or scores is None else buckets.of(scores)
        candidates, chosen = self._chosen(listed, tokens, scores, of, lengths)
        table = self._table(listed, tokens, of, candidates, chosen.marks)
        write_table(folder / PLAN, table)
        write_table(folder / TRIAL, trial_rows(table, self.seed))
        return {
            "documents": len(listed.ids),
            "documents_chosen": int(chosen.marks.any(axis=1).sum()),
            "rephrasings": table.num_rows,
            "requests": int(candidates.requests[chosen.marks].sum()),
            "output_tokens_expected": int(candidates.n_out[chosen.marks].sum()),
            "passed_over": dict(sorted(chosen.passed_over.items())),
            "styles_left_out": dict(sorted(chosen.styles_left_out.items())),
            "lengths_counted": looked_at,
        }

    def _scores(self, listed: Listed) -> Floats | None:
        """The score of each document, shape (n,), NaN where it has none."""
        if self.column is None:
            return None
        ids = np.array(listed.ids, object)
        scores = np.empty(len(ids))
        for number, path in enumerate(self.shards):
            mine = listed.shard == number
            held = pa.chunked_array([pa.array(ids[mine], pa.string())])
            scores[mine] = self.column.read(path, partial(_same, held), check=True)
        return scores

    def _buckets(self, scores: Floats | None, listed: Listed) -> Buckets | None:
        if not self.routing.by_score:
            return None
        assert scores is not None
        assert self.column is not None
        field = read_schema(self.column.folder / self.shards[0].name).field(self.column.score.name)
        rater = (field.metadata or {}).get(b"rater", b"").decode()
        score = self.column.score
        if self.frozen is None:
            return fit_buckets(scores, score=score.name, rater=rater, better=score.better)
        if (self.frozen.score, self.frozen.rater) != (score.name, rater):
            raise ConfigError(
                "the frozen buckets were cut from another score",
                expected=f"{self.frozen.score} of rater {self.frozen.rater[:12]}",
                found=f"{score.name} of rater {rater[:12]}", where=str(self.routing.buckets),
                fix="rate with the same rater, or leave out route.buckets to cut anew",
            )  # fmt: skip
        return self.frozen

    def _chosen(
        self, listed: Listed, tokens: Ints, scores: Floats | None, buckets: Ints, lengths: Sequence[StyleLengths]
    ) -> tuple[Candidates, Chosen]:
        names = [style.name for style in self.styles]
        weights = quota_weights(self.routing, names, np.array([length.ratio for length in lengths]))
        most = self.routing.per_document or (1 if self.routing.by_score or self.routing.quotas else None)
        wanted = route(
            listed.ids, buckets, names, table_of(self.routing, names), seed=self.seed, per_document=most,
            weights=weights,
        )  # fmt: skip
        requests = np.stack([length.requests(tokens) for length in lengths], axis=1)
        n_out = np.stack([length.n_out(tokens) for length in lengths], axis=1)
        best = self._towards_good(scores) if self.pick == "best" else None
        caps = {names.index(style): share for style, share in self.routing.quotas.items()}
        candidates = Candidates(wanted, requests, n_out)
        order = preference(listed.ids, self.seed, best)
        chosen = choose(candidates, self.budget, order=order, caps=caps, of=self.routing.quota_of)
        if self.routing.kind != "random":
            return candidates, chosen
        fits = ((requests > 0) & (requests <= (self.budget.max_requests or requests.max(initial=0)))).all(axis=1)
        targets = np.where(chosen.marks, tokens[:, None], 0).sum(axis=0)
        marks = route_at_random(
            listed.ids, np.where(fits, tokens, 0), names, targets, seed=self.seed, per_document=most
        )
        passed = {"not_drawn": int((~marks.any(axis=1)).sum())}
        return candidates, Chosen(marks, type(chosen.passed_over)(passed))

    def _towards_good(self, scores: Floats | None) -> Floats:
        assert scores is not None
        assert self.column is not None
        return scores if self.column.score.better == "high" else -scores

    def _table(self, listed: Listed, tokens: Ints, buckets: Ints, candidates: Candidates, marks: Marks) -> pa.Table:
        rows, styles = np.nonzero(marks)
        names = np.array([style.name for style in self.styles], object)
        paths = np.array([path.name for path in self.shards], object)
        requests = candidates.requests[rows, styles]
        of_document = np.where(marks, candidates.requests, 0).sum(axis=1)
        before = np.cumsum(of_document) - of_document  # requests of all documents before this one
        _, task = np.unique(before[rows] // self.task_requests, return_inverse=True)
        columns = [
            paths[listed.shard[rows]], listed.row[rows], np.array(listed.ids, object)[rows], names[styles],
            pa.array(buckets[rows], mask=buckets[rows] == 0), tokens[rows], requests,
            candidates.n_out[rows, styles], task,
        ]  # fmt: skip
        arrays = [pa.array(column).cast(field.type) for column, field in zip(columns, PLAN_SCHEMA, strict=True)]
        return pa.Table.from_arrays(arrays, schema=PLAN_SCHEMA)


def _same(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    return ids


def trial_rows(plan: pa.Table, seed: int) -> pa.Table:
    """Rows of a plan to try first, in its order: of each style about TRIAL_OUTPUTS requests, as one task."""
    ids, styles = plan.column("id").to_pylist(), np.array(plan.column("style").to_pylist(), object)
    requests = plan.column("requests").to_numpy()
    hashes = keyed_hashes(seed, ids)
    taken = np.zeros(len(ids), np.bool_)
    for style in np.unique(styles):
        rows = np.flatnonzero(styles == style)
        rows = rows[np.argsort(hashes[rows], kind="stable")]
        before = np.cumsum(requests[rows]) - requests[rows]
        taken[rows[before < TRIAL_OUTPUTS]] = True
    trial = plan.filter(pa.array(taken)).drop_columns("task")
    return trial.append_column(PLAN_SCHEMA.field("task"), pa.array(np.zeros(trial.num_rows, np.int32)))


def list_documents(shards: Sequence[Path]) -> Listed:
    """Ids and sizes of all documents of some shards; no text is read."""
    tables = [read_table(path, ["id", "n_bytes"]) for path in shards]
    sizes = [table.num_rows for table in tables]
    return Listed(
        shards,
        np.repeat(np.arange(len(shards), dtype=np.int64), sizes),
        np.concatenate([np.empty(0, np.int64), *(np.arange(size, dtype=np.int64) for size in sizes)]),
        [name for table in tables for name in table.column("id").to_pylist()],
        np.concatenate(
            [np.empty(0, np.int64), *(table.column("n_bytes").to_numpy().astype(np.int64) for table in tables)]
        ),
    )


def count_lengths(listed: Listed, generator: Generator) -> tuple[Ints, int]:
    """Tokens of each document, shape (n,), and how many texts were really counted."""
    if listed.n_bytes.sum() <= COUNTED_BYTES:
        counted = [
            generator.count_tokens(text)
            for path in listed.shards
            for text in read_table(path, ["text"]).column("text").to_pylist()
        ]
        return np.array(counted, np.int64), len(counted)
    tokens = np.zeros(len(listed.ids), np.int64)
    sources = [source_of(path) for path in listed.shards]
    looked_at = 0
    for source in sorted(set(sources)):
        numbers = [number for number, name in enumerate(sources) if name == source]
        texts = _sampled_texts([listed.shards[number] for number in numbers])
        looked_at += len(texts)
        per_byte = sum(map(generator.count_tokens, texts)) / max(1, sum(len(text.encode()) for text in texts))
        mine = np.isin(listed.shard, numbers)
        tokens[mine] = np.maximum(1, np.rint(listed.n_bytes[mine] * per_byte)).astype(np.int64)
    return tokens, looked_at


def _sampled_texts(shards: Sequence[Path]) -> list[str]:
    """Texts of a keyed sample: some shards of a source, and of each the first rows."""
    hashes = keyed_hashes(0, [path.name for path in shards])
    taken = [shards[at] for at in np.argsort(hashes, kind="stable")[:SAMPLE_SHARDS]]
    return [text for path in taken for text in read_rows(path, 0, SAMPLE_ROWS, ["text"]).column("text").to_pylist()]
