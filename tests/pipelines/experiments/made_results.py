"""Results of a study as if its runs had been trained: losses are what a function of arm, seed and weights says."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.config import validated
from pipelines.experiments.arms import Arm, arms_of, runs_of
from pipelines.experiments.results import BEST, DOCUMENTS_SCHEMA, CurvePoint, Reading, RunResult, SetLoss
from pipelines.experiments.study import Study

SOURCES = ("books", "web")
Loss = Callable[[Arm, int, str], float]
"""Bits per byte on every set."""


def made_study(seeds: int = 3, **changes: Any) -> Study:
    """Orders x ends of the learning rate, with one average; 4,096 tokens a run."""
    plan = {
        "tokens": 4_096, "sequence_length": 64, "batch_sequences": 4, "peak_lr": 1e-3, "eval_every": "10%",
        "checkpoint_every": "10%", "phases": [{"stable": "100%"}],
        "average": {"sma": {"kind": "sma", "last": 3, "window": "30%"}},
    }  # fmt: skip
    size = {"seeds": seeds, "vocabulary": 300, "model": {"hidden": 32, "layers": 1, "heads": 1, "head_size": 32}}
    decay = {"plan": {"phases": [{"stable": "80%"}, {"decay": "20%", "to": "1/300"}]}}
    written = {
        "name": "made", "title": "Made", "question": "Does it help?", "expected": "nothing", "untested": ["all else"],
        "columns": {"score": "edu"},
        "base": {"mixture": {"sources": {"*": {}}, "weighing": "proportional"}, "order": {"kind": "shuffled"},
                 "model": {}, "plan": plan},
        "factors": {
            "order": {"shuffled": {}, "ascending": {"order": {"kind": "sorted", "by": "score"}},
                      "random_score": {"order": {"kind": "sorted", "by": "random"}}},
            "schedule": {"constant": {}, "wsd_300": decay},
        },
        "extra": {"filter_repeat": {"like": "shuffled.wsd_300", "mixture": {
            "sources": {"*": {"keep": {"by": "score", "top": "33%"}}}}}},
        "control": {"order": "shuffled"},
        "contrasts": {"order": {"arm": "ascending.constant", "against": "shuffled.constant", "claim": "it helps"},
                      "averaged": {"arm": "ascending.constant", "weights": "sma", "against": "shuffled.wsd_300"}},
        "sizes": {"minutes": size},
    }  # fmt: skip
    return validated(Study, {**written, **changes}, "made")


def made_arms(study: Study) -> dict[str, Arm]:
    """The arms of the one size."""
    return arms_of(study, "minutes")


def noise(arm: Arm, seed: int, weights: str, scale: float = 0.01, salt: int = 0) -> float:
    """A normal number that depends on the run and on nothing else."""
    key = [salt, seed, *arm.name.encode(), *weights.encode()]
    return float(np.random.default_rng(key).normal(0, scale))


def made_results(study: Study, loss: Loss, sources: tuple[str, ...] = SOURCES, **changes: Any) -> dict[str, RunResult]:
    """A finished result of each run; `changes` are fields of all of them."""
    return {
        run.id: made_result(run.arm, run.seed, partial(loss, run.arm, run.seed), sources, **changes)
        for run in runs_of(study, made_arms(study))
    }


def made_result(
    arm: Arm, seed: int, loss: Callable[[str], float], sources: tuple[str, ...] = SOURCES, **changes: Any
) -> RunResult:
    """A finished run whose loss, by weights, is the same on every set; its curve falls to it in straight lines."""
    final = {kind: loss(kind) for kind in ("raw", *arm.averages)}
    curve = tuple(
        CurvePoint(tokens=int(arm.tokens * share), weights=kind,
                   losses={name: value + 1 - share for name in (*sources, BEST)})
        for kind, value in final.items() for share in (0.25, 0.5, 0.75, 1.0)
    )  # fmt: skip
    reading = Reading(
        order=f"{arm.name} {seed}", visits=9, tokens=arm.tokens, multiset=(seed, len(arm.kept_by)),
        tokens_by_source={"web": 2_000 + seed},
        mean_visits=1.5, rate_mass={"raw": (10.0,) * 10}, spearman=0.1 * seed,
    )  # fmt: skip
    sets = {
        name: {k: SetLoss(nats_per_token=v, bits_per_byte=v) for k, v in final.items()} for name in (*sources, BEST)
    }
    made = RunResult(
        run_id=f"{arm.name}.s{seed}", arm=arm.name, seed=seed, identity=f"id {arm.name} {seed}", status="finished",
        steps=16, tokens=arm.tokens, flops=arm.flops, parameters=1_000, reading=reading, losses=sets, curve=curve,
    )  # fmt: skip
    return made.model_copy(update=changes)


def write_documents(
    folder: Path, results: Mapping[str, RunResult], n: int = 40, scale: float = 0.0, salt: int = 0
) -> dict[str, Path]:
    """Tables whose sums are the runs' losses: n documents a source of unequal sizes, with noise by document."""
    paths = {}
    for run_id, run in results.items():
        rows = []
        for source in SOURCES:
            sizes = np.random.default_rng(len(source)).integers(50, 500, n)
            for kind, loss in run.losses[source].items():
                own = np.random.default_rng([salt, *run_id.encode(), *kind.encode()]).normal(0, scale, n)
                nats = (loss.bits_per_byte + own - np.average(own, weights=sizes)) * sizes * np.log(2)
                rows += [
                    {"id": f"{source}{i}", "source": source, "tenth": i % 10, "n_tokens": int(sizes[i]) // 4,
                     "n_bytes": int(sizes[i]), "weights": kind, "nats": float(nats[i])}
                    for i in range(n)
                ]  # fmt: skip
        paths[run_id] = folder / f"{run_id}.documents.parquet"
        pq.write_table(pa.Table.from_pylist(rows, DOCUMENTS_SCHEMA), paths[run_id])
    return paths
