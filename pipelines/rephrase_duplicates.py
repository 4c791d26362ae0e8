"""Near-duplicates among the rephrasings of all tasks: found by the sketches that deduplicate a corpus, and left out.

The gate `duplicate` sees what one task makes; two tasks may still write the same text, and two styles may say the same
of one document. Of each group the rephrasing that kept most of its document stays, ties by id.

How it is used:  unique = without_duplicates(shop, rephrased, MinHashSettings())
"""

from pathlib import Path

import pyarrow as pa

from corpus.artifacts import Artifact
from corpus.shards import read_table, write_table
from pipelines.build import Workshop
from pipelines.stages.deduplicate import (
    PAIR_SCHEMA,
    PAIRS_SQL,
    REPEATED_SCHEMA,
    REPEATED_SQL,
    MinHashSettings,
    SketchWork,
    duplicate_table,
    refuse_repeated,
)
from pipelines.stages.drop import DropListed
from pipelines.stages.shard_work import MapWork
from pipelines.tasks import Work


def without_duplicates(shop: Workshop, made: Artifact, settings: MinHashSettings) -> Artifact:
    """The documents `<name>_unique`; `<name>_sketches` and `<name>_duplicates` stand beside them."""
    name = made.name
    work: dict[str, Work] = {path.stem: SketchWork(path, settings) for path in made.files()}
    sketches = shop.build_tasks(f"{name}_sketches", "sketches", config=settings.model_dump(), inputs=[made], work=work)

    def find(folder: Path) -> dict[str, int]:
        shares = folder / "shares" / "kept.parquet"
        write_table(shares, _kept_shares(made))
        views = {"sketches": sketches.files(), "scores": [shares]}
        refuse_repeated(shop.runtime.sql(REPEATED_SQL, views, REPEATED_SCHEMA))
        table = duplicate_table(shop.runtime.sql(PAIRS_SQL, views, PAIR_SCHEMA))
        write_table(folder / "duplicates.parquet", table)
        kinds = table.column("kind").to_pylist()
        return {kind: kinds.count(kind) for kind in ("exact", "near")}

    found = shop.build_here(
        f"{name}_duplicates", "duplicates", config={"keep": "most kept"}, inputs=[made, sketches], make=find
    )
    stage = DropListed(table=found.files()[0])
    dropping: dict[str, Work] = {path.stem: MapWork(path, (), (stage,)) for path in made.files()}
    config = {"stages": [stage.identity()]}
    return shop.build_tasks(f"{name}_unique", "documents", config=config, inputs=[made, found], work=dropping)


def _kept_shares(made: Artifact) -> pa.Table:
    """Each rephrasing with the share of its document's characters that it was made from, as `composite`."""
    ids: list[str] = []
    shares: list[float] = []
    for path in made.files():
        table = read_table(path, ["id", "parent_id"])
        outcomes = read_table(made.folder / "outcomes" / path.name, ["parent_id", "kept_share"])
        of = dict(zip(*(outcomes.column(name).to_pylist() for name in ("parent_id", "kept_share")), strict=True))
        ids += table.column("id").to_pylist()
        shares += [of[parent] for parent in table.column("parent_id").to_pylist()]
    return pa.table({"id": pa.array(ids, pa.string()), "composite": pa.array(shares, pa.float32())})
