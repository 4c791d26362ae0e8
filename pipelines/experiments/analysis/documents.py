"""Losses document by document: by tenth of the score, and how much a difference owes to the documents held out.

Seeds say how far runs of one recipe differ; documents, how far the answer depends on what it was measured on. Both are
shown, and neither stands for the other. The bootstrap draws whole documents within each source, as the target is a
mean over sources, by a seed that depends on the source alone, so that all comparisons see the same draws.

Bytes are those of whole documents, while a set's first token is never predicted, so a mean over documents lies below
the set's loss by that one token's share.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.errors import ArtifactError
from corpus.keyed_random import keyed_hashes
from pipelines.experiments.analysis.checked import Runs
from pipelines.experiments.analysis.differences import Pair, spread
from pipelines.experiments.analysis.findings import ByDocument, SetLosses
from pipelines.experiments.results import BEST, DOCUMENTS_SCHEMA
from trainer_hooks.evals.flips import resampled_means

Floats = npt.NDArray[np.float64]
DRAWS = 2_000
FACTS = ("id", "source", "tenth", "n_tokens", "n_bytes")


@dataclass(frozen=True)
class DocumentLosses:
    """What was measured on each held-out document; arrays have one entry a document, sorted by source and id.

    Attributes:
        nats: by run id and weights, summed over the document.
    """

    source: npt.NDArray[np.str_]
    tenth: npt.NDArray[np.int32]
    bytes: Floats
    nats: Mapping[tuple[str, str], Floats]


def document_losses(runs: Runs, paths: Mapping[str, Path]) -> DocumentLosses | None:
    """Read the tables of the finished runs; None where there is none.

    Raises ArtifactError for a file that is no such table, has a loss that is no number, or has other documents than
    the other runs.
    """
    first: pa.Table | None = None
    nats: dict[tuple[str, str], Floats] = {}
    for run in (run for of_arm in runs.finished.values() for run in of_arm.values()):
        if run.run_id not in paths:
            continue
        for weights, table in _by_weights(paths[run.run_id]).items():
            facts = table.select(FACTS)
            first = facts if first is None else first
            if not facts.equals(first):
                raise ArtifactError(
                    "this run was measured on other documents than the others", where=str(paths[run.run_id]),
                    expected=f"the same {first.num_rows:,} documents", found=f"{facts.num_rows:,} documents",
                    fix="measure all runs of the study on one set of held-out documents",
                )  # fmt: skip
            nats[run.run_id, weights] = table["nats"].to_numpy()
    if first is None:
        return None
    n_bytes = first["n_bytes"].to_numpy().astype(np.float64)
    return DocumentLosses(np.array(first["source"].to_pylist()), first["tenth"].to_numpy(), n_bytes, nats)


def tenth_losses(runs: Runs, found: DocumentLosses, arm: str, weights: str) -> list[SetLosses]:
    """An arm's bits per byte on each tenth of the scored held-out documents, the worst first."""
    rows = []
    for tenth in sorted(set(found.tenth[found.tenth >= 0].tolist())):
        inside = found.tenth == tenth
        values = {
            seed: float(found.nats[run.run_id, weights][inside].sum() / (found.bytes[inside].sum() * log(2)))
            for seed, run in runs.finished[arm].items() if (run.run_id, weights) in found.nats
        }  # fmt: skip
        rows.append(SetLosses(weights=weights, set=str(tenth), kind="tenth", bits_per_byte=spread(values)))
    return [row for row in rows if row.bits_per_byte.n]


def by_document(runs: Runs, found: DocumentLosses | None, pair: Pair, seeds: Sequence[int]) -> ByDocument | None:
    """The 95 % bootstrap interval of a difference on the target over documents; positive = the first arm is better.

    None where a source of the target has fewer than two measured documents, or a run has none.
    """
    arm, weights, against, against_weights = pair
    keys = [((runs.finished[arm][seed].run_id, weights), (runs.finished[against][seed].run_id, against_weights))
            for seed in seeds]  # fmt: skip
    if found is None or not keys or any(key not in found.nats for both in keys for key in both):
        return None
    gained = np.mean([found.nats[other] - found.nats[own] for own, other in keys], axis=0) / log(2)
    drawn, documents = np.zeros(DRAWS), 0
    for source in runs.target:
        inside = found.source == source
        if inside.sum() < 2:
            return None
        seed = int(keyed_hashes(0, [source])[0])
        drawn += resampled_means(gained[inside], found.bytes[inside], DRAWS, seed) / len(runs.target)
        documents += int(inside.sum())
    low, high = np.quantile(drawn, (0.025, 0.975))
    return ByDocument(documents=documents, draws=DRAWS, low=float(low), high=float(high))


def _by_weights(path: Path) -> dict[str, pa.Table]:
    try:
        table = pq.read_table(path)
        table = table.select(DOCUMENTS_SCHEMA.names).cast(DOCUMENTS_SCHEMA)
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise ArtifactError("this is no table of the losses of documents", found=str(error).split("\n")[0],
                            where=str(path), fix="measure the run again") from None  # fmt: skip
    if not np.isfinite(table["nats"].to_numpy()).all():
        raise ArtifactError("a document's loss is no number", where=str(path), fix="measure the run again")
    kinds = np.array(table["weights"].to_pylist())
    rows = {kind: table.filter(pa.array(kinds == kind)) for kind in sorted(set(kinds.tolist()))}
    own = {kind: part.filter(pa.array(np.array(part["source"].to_pylist()) != BEST)) for kind, part in rows.items()}
    return {kind: part.sort_by([("source", "ascending"), ("id", "ascending")]) for kind, part in own.items()}
