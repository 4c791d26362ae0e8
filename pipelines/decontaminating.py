"""Search documents for evaluation items, say how contaminated each source is, and list what must go.

Two artifacts: `<name>.hits` holds the hits of each shard, `<name>` the list of documents to drop and the table of
sources by evaluations: how many of an evaluation's items a source holds, each counted once. Texts are read once, by the
tasks that search; a scan in the TÜLU 3 way needs no look at other shards.

Run it:  found = contamination(shop, documents, settings, base, checksums);  stage = found.stage()
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from corpus.artifacts import Artifact, InputRef
from corpus.shards import read_table, write_table
from pipelines.build import Workshop
from pipelines.inputs import InputChecksums
from pipelines.stages.decontaminate import LISTED_SCHEMA, Decontamination, DropContaminated, SearchWork
from pipelines.stages.naming import source_of
from pipelines.stages.shard_work import MapWork
from pipelines.tasks import Work

LISTED = "listed.parquet"
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Contamination:
    """What was found.

    Args:
        artifact: holds the list of documents to drop; its totals hold `table` and `whole_sources`.
        hits: the hits of each shard (HIT_SCHEMA).
    """

    artifact: Artifact
    hits: Artifact

    @property
    def table(self) -> Rows:
        """Rows of source, evaluation, items, hit (items that the source holds), share, documents, contaminated."""
        return list(self.artifact.manifest.totals["table"])

    def stage(self) -> DropContaminated:
        """The stage that drops what the policy says; it drops nothing under `report`."""
        whole = tuple(self.artifact.manifest.totals["whole_sources"])
        return DropContaminated(table=self.artifact.folder / LISTED, whole_sources=whole)


def contamination(
    shop: Workshop,
    documents: Artifact,
    settings: Decontamination,
    base: Path,
    checksums: InputChecksums,
    *,
    name: str = "contamination",
    sources: Sequence[str] = (),
) -> Contamination:
    """Search documents, of some sources or of all, and list what the policy drops.

    Raises InputError for files of items that cannot be read, before any document is.
    """
    index = settings.index(base)
    files = [base / path.expanduser() for path in settings.items]
    refs: list[Artifact | InputRef] = [checksums.ref(file, f"items/{file.name}") for file in files]
    work: dict[str, Work] = {
        path.stem: SearchWork(path, settings, base)
        for path in documents.files()
        if not sources or source_of(path) in sources
    }
    searched = settings.model_dump(mode="json", exclude={"items", "policy", "source_share"})
    config = {"search": searched, "index": index.identity, "sources": list(sources)}
    hits = shop.build_tasks(f"{name}.hits", "hits", config=config, inputs=[documents, *refs], work=work)

    def make(folder: Path) -> dict[str, Any]:
        table = _table(hits, index.counts, settings.source_share)
        whole = sorted({row["source"] for row in table if row["contaminated"]})
        whole = whole if settings.policy == "drop_source" else []
        write_table(folder / LISTED, _listed(hits if settings.policy != "report" else None))
        return {"table": table, "whole_sources": whole, "evaluations": index.counts, "items": index.identity}

    decided = {"policy": settings.policy, "source_share": settings.source_share}
    listed = shop.build_here(name, "contamination", config=decided, inputs=[hits], make=make)
    return Contamination(listed, hits)


def without_contamination(shop: Workshop, documents: Artifact, found: Contamination, name: str) -> Artifact:
    """Write the documents without those that the policy drops, each of these with its reason."""
    stage = found.stage()
    work: dict[str, Work] = {path.stem: MapWork(path, (), (stage,)) for path in documents.files()}
    config = {"stages": [stage.identity()]}
    return shop.build_tasks(name, "documents", config=config, inputs=[documents, found.artifact], work=work)


def _table(hits: Artifact, counts: dict[str, int], source_share: float) -> Rows:
    """One row for each source and evaluation that meet. `share` is of items: two documents with one count it once."""
    items: dict[tuple[str, str], set[str]] = {}
    holders: dict[tuple[str, str], set[str]] = {}
    for path in hits.files():
        table = read_table(path, ["id", "source", "evaluation", "item"])
        for row in table.to_pylist():
            key = row["source"], row["evaluation"]
            items.setdefault(key, set()).add(row["item"])
            holders.setdefault(key, set()).add(row["id"])
    rows = []
    for source, evaluation in sorted(items):
        hit, total = len(items[source, evaluation]), counts[evaluation]
        rows.append(
            {"source": source, "evaluation": evaluation, "items": total, "hit": hit, "share": hit / total,
             "documents": len(holders[source, evaluation]), "contaminated": hit / total > source_share}
        )  # fmt: skip
    return rows


def _listed(hits: Artifact | None) -> pa.Table:
    """Each document with a hit, with the evaluation of the item that it covers most."""
    rows: dict[str, str] = {}
    for path in hits.files() if hits else ():
        table = read_table(path, ["id", "evaluation"])
        for name, evaluation in zip(*(table.column(c).to_pylist() for c in ("id", "evaluation")), strict=True):
            rows.setdefault(name, f"contaminated: {evaluation}")
    columns = [pa.array(list(rows), pa.string()), pa.array(list(rows.values()), pa.string())]
    return pa.Table.from_arrays(columns, schema=LISTED_SCHEMA)
