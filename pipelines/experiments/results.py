"""What a run of a study comes to, as a file: everything that is analysed later, and nothing that differs by machine.

`<run id>.json` is a `RunResult`; `<run id>.documents.parquet` has the losses of each held-out document under each
kind of weights, so that sources, quality tenths and single documents can be compared without training again.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import Field, ValidationError

from corpus.artifacts import Artifact
from corpus.config import Config
from corpus.errors import ArtifactError

VERSION = 1
"""Raised when the same settings would train or measure otherwise."""
BEST = "best documents"
"""The held-out set of the best documents by score, beside a set for each source."""
DOCUMENTS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("tenth", pa.int32(), nullable=False),  # of the held-out documents by score, 0 the worst; -1 not scored
        pa.field("n_tokens", pa.int32(), nullable=False),  # predicted ones
        pa.field("n_bytes", pa.int32(), nullable=False),
        pa.field("weights", pa.string(), nullable=False),
        pa.field("nats", pa.float64(), nullable=False),  # summed over the document
    ]
)


class SetLoss(Config):
    """A loss on a held-out set; lower is better."""

    nats_per_token: float
    bits_per_byte: float


class CurvePoint(Config):
    """Losses in the middle of training, of the model's own weights or of an average."""

    tokens: int
    weights: str
    losses: dict[str, float] = Field(description="nats a token by held-out set, on its curve_tokens")


class ItemScore(Config):
    """A score on a file of questions."""

    file: str
    metric: str
    n: int
    correct: tuple[bool, ...] = Field(description="by item, in the file's order, so that runs compare item by item")
    accuracy: float
    chance: float | None = None


class Reading(Config):
    """What a run read, and how its learning rate fell on it; nothing here needs training."""

    order: str = Field(description="fingerprint of the order")
    visits: int
    tokens: int
    multiset: tuple[int, int] = Field(description="of the visits, whatever their order (curriculum.visits.multiset)")
    tokens_by_source: dict[str, int]
    mean_visits: float = Field(description="tokens read over distinct tokens")
    rate_mass: dict[str, tuple[float, ...]] = Field(
        {}, description="by weights, the learning-rate mass of each tenth of the score in per cent, the worst first"
    )
    spearman: float | None = Field(None, description="of place and score, over visits by tokens")


class RunResult(Config):
    """One run: an arm with a seed."""

    version: int = VERSION
    run_id: str
    arm: str
    seed: int
    identity: str = Field(description="fingerprint of all that decides the result")
    status: Literal["finished", "failed"]
    reason: str = Field("", description="why it failed: a loss that stopped being finite")
    steps: int = 0
    tokens: int = 0
    flops: float = 0.0
    parameters: int = 0
    reading: Reading
    losses: dict[str, dict[str, SetLoss]] = Field({}, description="final, by held-out set and weights")
    curve: tuple[CurvePoint, ...] = ()
    items: dict[str, tuple[ItemScore, ...]] = Field({}, description="scores on questions, by weights")
    branched_at: int | None = Field(None, description="tokens shared with another run of its family; null: none")


def as_failed(result: RunResult, reason: str) -> RunResult:
    """The result of a run that failed: nothing was trained that could be compared."""
    return result.model_copy(update={"status": "failed", "reason": reason, "steps": 0, "tokens": 0, "flops": 0.0})


def read_run(path: Path) -> RunResult:
    """Read one run's result. Raises ArtifactError where it is not one, or one of another version."""
    try:
        result = RunResult.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ArtifactError(
            "this is not the result of a run", found=str(error.errors()[0]["msg"]), where=str(path)
        ) from None
    if result.version != VERSION:
        raise ArtifactError(
            "this result was made by another version of gradatim", expected=f"version {VERSION}",
            found=f"version {result.version}", where=str(path), fix="run the study again with this version",
        )  # fmt: skip
    return result


def results_in(runs: Artifact) -> dict[str, RunResult]:
    """All results of an artifact of runs, by run id."""
    return {result.run_id: result for result in map(read_run, runs.files(".json"))}


def of_arm(results: Sequence[RunResult], arm: str) -> dict[int, RunResult]:
    """The finished runs of an arm by seed."""
    return {one.seed: one for one in results if one.arm == arm and one.status == "finished"}
