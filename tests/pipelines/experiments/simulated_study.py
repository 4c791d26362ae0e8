"""Results of a whole study drawn from a formula: an order that pays while the rate stays high, averages that help.

What the formula says is known, so pages can be looked at and held against it; everything after the losses is real.
"""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.experiments.analysis.finding import findings_of
from pipelines.experiments.analysis.findings import Provenance
from pipelines.experiments.arms import arms_of, runs_of
from pipelines.experiments.results import BEST, DOCUMENTS_SCHEMA, CurvePoint, ItemScore, Reading, RunResult, SetLoss

BYTES = 4.0  # a token
LEVELS = {"web": 1.31, "wiki": 1.18, "books": 1.42}


def simulate(study, size, folder=None, *, sources=LEVELS, lost=(), items=(), scale=0.004, documents=60):
    """Findings of a study whose runs nobody trained. lost: run ids without a result; items: names of question files."""
    arms = arms_of(study, size)
    results, tables = {}, {}
    for run in runs_of(study, arms):
        if run.id in lost:
            continue
        results[run.id] = result_of(run, sources, items, scale)
        if folder is not None:
            tables[run.id] = write_table(folder, run, results[run.id], documents)
    made = Provenance(fingerprint="5a1f6c2e90b7d384", version="0.14.0", commit="84e45da", device="2 cores",
                      command=f"gradatim experiment run {study.name} --size {size} --score edu -w work",
                      facts={"Pool": "41.2 M tokens of 3 sources", "Tokenizer": "2,048 tokens"})  # fmt: skip
    return findings_of(study, size, arms, results, tables, provenance=made)


def result_of(run, sources, items, scale):
    """One run: its final losses, and curves that fall to them."""
    plan, arm = run.arm.settings.plan, run.arm
    shares = np.linspace(0.1, 1, 10)
    final = {kind: {name: final_loss(run, kind, base, scale) for name, base in {**sources, BEST: 1.1}.items()}
             for kind in ("raw", *plan.average)}  # fmt: skip
    curve = tuple(
        CurvePoint(tokens=round(share * arm.tokens), weights=kind,
                   losses={name: on_the_way(name, bits, float(share)) * np.log(2) * BYTES
                           for name, bits in losses.items() if name != BEST})
        for kind, losses in final.items() for share in shares if kind == "raw" or share > 0.5
    )  # fmt: skip
    reading = Reading(
        order=run.id, visits=900, tokens=arm.tokens, multiset=(run.seed, 1), mean_visits=1.0,
        tokens_by_source={name: arm.tokens // len(sources) for name in sources}, rate_mass=masses(run),
        spearman=0.0 if arm.shuffled else 0.98,
    )  # fmt: skip
    rng = keyed(run, "items")
    answers = {
        kind: tuple(
            ItemScore(file=name, metric="acc", n=40, correct=(right := tuple(bool(x) for x in rng.random(40) < 0.4)),
                      accuracy=sum(right) / 40, chance=0.25)
            for name in items
        )
        for kind in final
    }  # fmt: skip
    return RunResult(
        run_id=run.id, arm=arm.name, seed=run.seed, identity=f"{run.id}!", status="finished", steps=100,
        tokens=arm.tokens, flops=arm.flops, parameters=1_048_576, reading=reading, curve=curve,
        items=answers if items else {}, branched_at=arm.tokens // 2 if "wsd" in arm.name else None,
        losses={name: {kind: SetLoss(bits_per_byte=final[kind][name], nats_per_token=final[kind][name] * BYTES * 0.693)
                       for kind in final} for name in (*sources, BEST)},
    )  # fmt: skip


def on_the_way(name, bits, share):
    """A loss that falls; on old text only until the middle, where it jumps up, and then comes back."""
    if name.startswith("old") and share > 0.5:
        return bits + 0.5 * (1 - share)
    return bits + 0.9 * (share**-0.6 - 1) * (0.3 if name.startswith("old") else 1)


def final_loss(run, kind, base, scale):
    """Lower where decay or averaging calmed the run, and where an ascending order met a rate that was still high."""
    name = run.arm.name
    constant = "constant" in name
    calm = 0.0 if kind == "raw" and constant else 0.03
    order = 0.02 if "ascending" in name else -0.02 if "descending" in name else 0.0
    gain = order * (1.0 if constant else 0.4 if "wsd_3" in name and "300" not in name else 0.05)
    own = float(keyed(run, kind).normal(0, scale)) + float(np.random.default_rng(run.seed).normal(0, scale))
    return base - calm - gain + own


def masses(run):
    """Even for what is shuffled; less for the best under decay."""
    rising = np.linspace(1, 0.2, 10) if "wsd" in run.arm.name and not run.arm.shuffled else np.ones(10)
    found = {}
    for i, kind in enumerate(("raw", *run.arm.averages)):
        mass = rising * np.linspace(1, 1 - 0.15 * i, 10)
        found[kind] = tuple(float(x) for x in 100 * mass / mass.sum())
    return found


def write_table(folder, run, result, documents):
    """The losses by document, whose sums are the run's."""
    rows = []
    for source in (name for name in result.losses if name != BEST):
        sizes = np.random.default_rng(len(source)).integers(400, 4_000, documents)
        for kind, loss in result.losses[source].items():
            own = keyed(run, f"{kind} {source}").normal(0, 0.02, documents) + np.linspace(0.1, -0.1, documents)
            bits = loss.bits_per_byte + own - np.average(own, weights=sizes)
            rows += [
                {"id": f"{source}{i}", "source": source, "tenth": i * 10 // documents, "n_tokens": int(sizes[i]) // 4,
                 "n_bytes": int(sizes[i]), "weights": kind, "nats": float(bits[i] * sizes[i] * np.log(2))}
                for i in range(documents)
            ]  # fmt: skip
    path = folder / f"{run.id}.documents.parquet"
    pq.write_table(pa.Table.from_pylist(rows, DOCUMENTS_SCHEMA), path)
    return path


def keyed(run, what):
    """Random numbers of a run and a purpose."""
    return np.random.default_rng([run.seed, *run.arm.name.encode(), *what.encode()])
