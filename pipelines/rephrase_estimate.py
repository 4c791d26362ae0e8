"""Estimate a planned run: look at a sample of the plan's rows, and scale what is found to all of them.

How it is used:  estimate = estimated(rephraser, rephraser.plan(), price=2.5)
"""

from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corpus.artifacts import Artifact
from corpus.keyed_random import keyed_hashes
from corpus.shards import read_table
from pipelines.rephrase_plan import PLAN
from pipelines.rephrase_trial import counted_attempts
from pipelines.rephrasing import Rephraser
from pipelines.stages.rephrase_work import loaded
from rephrase.course import Bench, Source
from rephrase.diversity import SAMPLE
from rephrase.estimate import ENOUGH_ANSWERS, Estimate, StyleEstimate, Whole, estimate_style
from rephrase.gates.instruments import NO_INSTRUMENTS
from rephrase.rephrase import open_cache
from rephrase.style import Style

LOOKED_AT = 500  # documents of each style whose requests are really made; more are told by these


def estimated(rephraser: Rephraser, plan: Artifact, *, price: float | None = None) -> Estimate:
    """What the rest of a planned run takes; nothing is generated.

    `price`: of one GPU-hour. Requests, prompts and what is cached are exact where a style has at most LOOKED_AT
    documents, and scaled by length from a keyed sample of so many otherwise.
    """
    rows = read_table(plan.folder / PLAN)
    generator = loaded(rephraser.generator, rephraser.log)
    settings = rephraser.settings
    bench = Bench(generator, NO_INSTRUMENTS, settings.seed, settings.rollout)
    with closing(open_cache(rephraser.shop.root / "cache" / "generations", generator)) as cache:
        styles: list[StyleEstimate] = []
        for style in rephraser.styles:
            mine = rows.filter(pc.equal(rows.column("style"), style.name))
            looked_at = _sample(mine, settings.seed)
            sources = _documents(looked_at, rephraser.documents.folder)
            whole = Whole(mine.num_rows, pc.sum(mine.column("tokens")).as_py() or 0)
            lengths, earlier = looked_at.column("tokens").to_pylist(), _earlier(rephraser, style)
            styles.append(estimate_style(style, sources, lengths, whole, bench, cache, earlier=earlier))
    rate, told_by = rephraser.known_rate()
    return Estimate(tuple(styles), rate, told_by, rephraser.gpus, price)


def _sample(rows: pa.Table, seed: int) -> pa.Table:
    """At most LOOKED_AT rows of a style, in the plan's order."""
    if rows.num_rows <= LOOKED_AT:
        return rows
    hashes = keyed_hashes(seed, rows.column("id").to_pylist())
    return rows.take(np.sort(np.argsort(hashes, kind="stable")[:LOOKED_AT]))


def _documents(rows: pa.Table, shards: Path) -> list[Source]:
    """The documents of some rows of a plan, in their order."""
    found = []
    for shard in pc.unique(rows.column("shard")).to_pylist():
        mine = rows.filter(pc.equal(rows.column("shard"), shard)).column("row")
        for row in read_table(shards / shard, ["id", "text", "lang", "meta"]).take(mine).to_pylist():
            meta = {item["key"]: item["value"] for item in row["meta"] or ()}
            found.append(Source(row["id"], row["text"], row["lang"], meta))
    return found


def _earlier(rephraser: Rephraser, style: Style) -> float | None:
    """Output tokens a request of a finished run of the same style and generator in this workspace; null without one."""
    path = rephraser.shop.root / rephraser.name
    if not (path / "manifest.json").exists():
        return None
    made = Artifact(path)
    same = style.model_dump(mode="json") in made.manifest.config.get("styles", [])
    if not same or made.manifest.config.get("generator") != rephraser.generator_identity:
        return None
    lengths = counted_attempts(made, style.name, SAMPLE).column("n_out").drop_null()
    return float(pc.mean(lengths).as_py()) if len(lengths) >= ENOUGH_ANSWERS else None
