"""A small finished workspace for tests of the report: real pages, real writers, made-up losses, hostile text.

Documents, scores, composite, mixture and orders are made by the project's own functions from the bundled pages;
only training is not run: its metrics follow a formula. Some documents try to break out of the page.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from corpus.artifacts import Artifact, begin, describe_part, finish, own_files
from corpus.documents import document_id, documents
from corpus.events import EVENTS
from corpus.fingerprints import fingerprint
from corpus.keyed_random import keyed_uniforms
from corpus.scores import scores_of
from corpus.shards import read_table, write_table, write_text
from corpus.tokens import DOCS_SCHEMA, read_docs, write_token_shard
from curriculum.arrange import arrange
from curriculum.order import write_order
from curriculum.policies.shuffled import Shuffled
from curriculum.policies.sorted import Interleaved
from curriculum.visits import candidates
from mixtures.allocate import allocate
from mixtures.available import available
from mixtures.config import MixtureConfig
from mixtures.draw import draw
from pipelines.tally import DROPPED_SCHEMA
from raters.base import Rater, sidecar_rows
from raters.composite import CompositeRater, CompositeSettings, fit_composite, read_composite
from raters.signals import NaturalSignals
from rephrase.attempts import ATTEMPT_SCHEMA, OUTCOME_SCHEMA
from rephrase.fidelity import words
from rephrase.gates.instruments import NO_INSTRUMENTS
from rephrase.gates.judging import Passage, judge
from rephrase.generator import Answer, Generation
from rephrase.style import load_style
from trainer_hooks.curves import step_learning_rates
from trainer_hooks.plan import Plan
from trainer_hooks.resolution import resolve
from trainer_hooks.run_identity import check_identity

PAGES = Path(__file__).parents[2] / "pipelines" / "demo" / "pages.jsonl"
SHARD = "web-00000-000"
WRAP = "wrap-medium-00000-000"
HOSTILE = [
    (
        "javascript:document.title='pwned'",
        "<script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">",
    ),
    (
        "https://evil.example/\"onmouseover=\"document.title='pwned'",
        "</textarea></style></script><svg onload=document.title='pwned'>",
    ),
    (
        "data:text/html,<script>1</script>",
        "{{ 7 * 7 }} {% raw %} <a href='javascript:alert(1)'>x</a> \u202egnp.exe <iframe src=//evil.example>",
    ),
    (
        "https://good.example/a?b=1&c=2",
        "<!-- --> <base href=https://evil.example> <form action=//evil.example><meta http-equiv=refresh content=0>",
    ),
]
GENERATOR = {"model": "smollm2-135m-instruct", "weights": "0123abcd", "engine": "vllm"}
FILLER = " The rest of this page is an ordinary text about how a thing works and why it was made that way."
MODEL = {"vocabulary": 4096, "layers": 2, "width": 64}
ARMS = {
    "shuffled": (Shuffled(by="composite"), "1/300", {"kind": "none"}),
    "ascending": (
        Interleaved(by="composite"),
        "1/3",
        {"ema": {"kind": "ema", "last": 6}, "mean": {"kind": "step_ema", "half_life": "4%"}},
    ),
}
AVERAGING_GAIN = {"ema": 0.03, "mean": 0.02}


def make_workspace(root: Path, *, arms: Sequence[str] = ("shuffled", "ascending"), pages: int = 160) -> Path:
    """Build every artifact that the report reads under `root`; `arms` may be empty."""
    read = _documents(root, pages)
    filtered = _filtered(root, read)
    composite = _scores(root, filtered)
    clean, heldout = _split(root, filtered)
    rephrased = _rephrased(root, clean)
    tokens = _tokens(root, "tokens", {SHARD: clean, WRAP: rephrased})
    _tokens(root, "heldout_tokens", {SHARD: heldout})
    mixture = _mixture(root, tokens, composite, rephrased)
    for arm in arms:
        _arm(root, arm, mixture, tokens)
    write_text(
        root / EVENTS, "".join(_event(name, i) for i, name in enumerate(("documents", "filtered", "scores/signals")))
    )
    return root


def artifact(
    root: Path,
    name: str,
    kind: str,
    make: Callable[[Path], dict[str, Any]],
    config: Mapping[str, Any] | None = None,
    inputs: Sequence[Artifact] = (),
) -> Artifact:
    """Write one artifact whose files `make` leaves in its folder."""
    identity = fingerprint({"name": name, "config": dict(config or {})})
    begin(root / name, identity)
    totals = make(root / name)
    parts = [describe_part(root / name, path) for path in own_files(root / name)]
    return finish(
        root / name,
        kind=kind,
        name=name,
        fingerprint=identity,
        config=dict(config or {}),
        inputs=[made.ref for made in inputs],
        parts=parts,
        totals=totals,
    )


def _event(name: str, i: int) -> str:
    return json.dumps({"at": f"2026-01-01T00:00:0{i}+0000", "artifact": name, "seconds": 1.5 + i}) + "\n"


def _documents(root: Path, pages: int) -> Artifact:
    lines = PAGES.read_text(encoding="utf-8").splitlines()[:pages]
    found = [json.loads(line) for line in lines]
    rows = [
        {"id": document_id("web", row["url"]), "source": "web", "url": row["url"], "text": row["text"] or "-"}
        for row in found
    ]
    for i, (url, text) in enumerate(HOSTILE):
        rows.append(
            {"id": document_id("web", f"hostile-{i}"), "source": "web", "url": url, "text": (text + FILLER) * 12}
        )

    def make(folder: Path) -> dict[str, Any]:
        write_table(folder / f"{SHARD}.parquet", documents(rows))
        gone = [_dropped(f"lang-{i}", url, "language: not en", text) for i, (url, text) in enumerate(HOSTILE)]
        write_table(folder / "dropped" / "web-00000.parquet", pa.Table.from_pylist(gone, DROPPED_SCHEMA))
        problem = {
            "kind": "corrupt record <b>",
            "file": "pages.warc.gz",
            "offset": 81234,
            "detail": "<script>bad</script>",
        }
        write_text(folder / "problems" / "web-00000.jsonl", json.dumps(problem) + "\n")
        dropped = {"language: not en": len(gone), "no text in the page": 3}
        return {
            "records_in": len(rows) + len(gone) + 3,
            "kept": len(rows),
            "dropped": dropped,
            "problems": {problem["kind"]: 1},
        }

    return artifact(root, "documents", "documents", make)


def _dropped(key: str, url: str | None, reason: str, text: str) -> dict[str, Any]:
    return {
        "id": document_id("web", key),
        "source": "web",
        "url": url,
        "reason": reason,
        "n_bytes": 10,
        "excerpt": text[:300],
    }


def _filtered(root: Path, read: Artifact) -> Artifact:
    rows = read_table(read.files()[0]).to_pylist()
    kept = [row for row in rows if len(row["text"].split()) >= 120]
    gone = [_dropped(row["id"], row["url"], "gopher: too few words", row["text"]) for row in rows if row not in kept]

    def make(folder: Path) -> dict[str, Any]:
        write_table(folder / f"{SHARD}.parquet", documents(kept))
        write_table(folder / "dropped" / f"{SHARD}.parquet", pa.Table.from_pylist(gone, DROPPED_SCHEMA))
        return {
            "records_in": len(rows),
            "kept": len(kept),
            "dropped": {"gopher: too few words": len(gone)},
            "problems": {},
        }

    return artifact(root, "filtered", "documents", make)


def _scores(root: Path, filtered: Artifact) -> Artifact:
    natural = _rated(root, "scores/signals", filtered, NaturalSignals())
    table = read_table(natural.files()[0])

    def fit(folder: Path) -> dict[str, Any]:
        composite = fit_composite(table.drop_columns(["id"]), scores_of(table.schema), CompositeSettings())
        write_text(folder / "composite.json", composite.model_dump_json())
        return {}

    fitted = artifact(root, "raters/composite", "rater", fit)
    return _rated(root, "scores/composite", natural, CompositeRater(read_composite(fitted.files(".json")[0])))


def _rated(root: Path, name: str, rows: Artifact, rater: Rater) -> Artifact:
    batch = read_table(rows.files()[0]).combine_chunks().to_batches()[0]

    def make(folder: Path) -> dict[str, Any]:
        write_table(folder / f"{SHARD}.parquet", sidecar_rows(rater, batch))
        return {"records_in": batch.num_rows, "kept": batch.num_rows, "dropped": {}}

    return artifact(root, name, "scores", make)


def _split(root: Path, filtered: Artifact) -> tuple[Artifact, Artifact]:
    table = read_table(filtered.files()[0])
    draws = keyed_uniforms(0, table.column("id").to_pylist())
    duplicate, held = draws < 0.05, (draws >= 0.05) & (draws < 0.15)
    sides = {}
    for name, mine, other in (("clean", ~duplicate & ~held, held), ("heldout", held, ~duplicate & ~held)):
        dropped = {
            "near duplicate": int(duplicate.sum()),
            "held out" if name == "clean" else "for training": int(other.sum()),
        }
        kept = table.filter(pa.array(mine))

        def make(folder: Path, kept: pa.Table = kept, dropped: dict[str, int] = dropped) -> dict[str, Any]:
            write_table(folder / f"{SHARD}.parquet", kept)
            return {"records_in": table.num_rows, "kept": kept.num_rows, "dropped": dropped, "problems": {}}

        sides[name] = artifact(root, name, "documents", make)
    return sides["clean"], sides["heldout"]


def _rephrased(root: Path, clean: Artifact) -> Artifact:
    rows = read_table(clean.files()[0]).to_pylist()
    chosen = rows[:14] + [row for row in rows if "evil.example" in row["text"]]
    outputs = [
        _reworded(row["text"][:900], i) if i % 4 else "I'm sorry. " + row["text"][:300] for i, row in enumerate(chosen)
    ]
    return make_rephrased(root, chosen, [[Generation(text, "stop", 200, 150)] for text in outputs])


def _reworded(source: str, i: int) -> str:
    said = words(source)
    return " ".join([*said[: 40 - 2 * (i % 3)], "which", "means", *reversed(said[20:])]) + "."


def make_rephrased(
    root: Path, rows: Sequence[Mapping[str, Any]], answers: Sequence[Sequence[Answer]], style: str = "medium",
    meta: Mapping[str, str] | None = None, inputs: Sequence[Artifact] = (),
) -> Artifact:  # fmt: skip
    """The artifact `rephrased` of documents whose first 900 characters were sent once for each of their answers.

    The gates judge for real, a short tail of each document is not sent, and the last answer is the one that counts.
    """
    given = load_style(style)
    attempts, outcomes, made = [], [], []
    for row, tried in zip(rows, answers, strict=True):
        passage = Passage(row["text"][:900], "en", lambda text: len(text.split()))
        verdicts = [judge(answer, passage, given, NO_INSTRUMENTS) for answer in tried]
        about = {"parent_id": row["id"], "style": style, "n_chunks": 1, "step": "", "hard_split": False}
        for number, (answer, verdict) in enumerate(zip(tried, verdicts, strict=True)):
            said = answer if isinstance(answer, Generation) else None
            attempts.append(
                {
                    **about, "chunk_index": 0, "attempt": number, "superseded": number < len(tried) - 1, "start": 0,
                    "end": len(passage.source), "n_in": said and said.n_in, "n_out": said and said.n_out,
                    "finish_reason": said and said.finish_reason, "gates": list(verdict.values.items()),
                    "reason": verdict.reason, "source_text": passage.source, "output_text": verdict.text,
                }
            )  # fmt: skip
        attempts.append(
            {**about, "superseded": False, "start": 900, "end": 906, "reason": "short_segment", "source_text": "a tail"}
        )
        reason = verdicts[-1].reason
        outcomes.append(
            {"parent_id": row["id"], "style": style, "n_chunks": 1, "n_kept": int(reason is None),
             "kept_share": float(reason is None), "reason": reason}
        )  # fmt: skip
        if reason is None:
            made.append(
                {
                    "id": document_id(given.source, row["id"]), "text": verdicts[-1].text, "source": given.source,
                    "parent_id": row["id"], "style": style, "generator": "smollm2-135m-instruct@0123abcd",
                    "meta": {"request_hash": given.request_hash(), **(meta or {})},
                }
            )  # fmt: skip

    def make(folder: Path) -> dict[str, Any]:
        write_table(folder / f"{WRAP}.parquet", documents(made))
        for name, table, schema in (("attempts", attempts, ATTEMPT_SCHEMA), ("outcomes", outcomes, OUTCOME_SCHEMA)):
            write_table(folder / name / f"{WRAP}.parquet", pa.Table.from_pylist(table, schema))
        return {"records_in": len(rows), "kept": len(made), "dropped": {}}

    config = {"styles": [given.model_dump(mode="json")], "generator": GENERATOR}
    return artifact(root, "rephrased", "documents", make, config, inputs)


def _tokens(root: Path, name: str, shards: Mapping[str, Artifact]) -> Artifact:
    def make(folder: Path) -> dict[str, Any]:
        total = 0
        for shard, made in shards.items():
            table = read_table(made.files()[0], ["id", "source", "n_bytes"])
            lengths = table.column("n_bytes").to_numpy() // 4 + 1
            starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
            docs = pa.table(
                {
                    "id": table["id"],
                    "start": starts,
                    "length": lengths.astype(np.int32),
                    "source": table["source"],
                    "n_bytes": table["n_bytes"],
                }
            ).cast(DOCS_SCHEMA)
            write_token_shard(folder / f"{shard}.npy", np.zeros(int(lengths.sum()), np.uint16), docs)
            total += int(lengths.sum())
        return {"tokens": total}

    return artifact(root, name, "tokens", make)


def _mixture(root: Path, tokens: Artifact, composite: Artifact, rephrased: Artifact) -> Artifact:
    shards = [(f"{tokens.name}/{path.name}", read_docs(path)) for path in tokens.files(".npy")]
    scores = read_table(composite.files()[0], ["id", "composite"])
    table = candidates(shards, scores, read_table(rephrased.files()[0], ["id", "parent_id"]))
    config = MixtureConfig.model_validate({"sources": {"web": "98%", "wrap": "2%"}})
    allocation = allocate(available(table, config), config)

    def make(folder: Path) -> dict[str, Any]:
        write_text(folder / "allocation.json", allocation.model_dump_json() + "\n")
        visits = draw(table, allocation, 0)
        write_table(folder / "visits.parquet", visits)
        return {"visits": visits.num_rows, "tokens": allocation.tokens}

    return artifact(root, "mixture", "mixture", make)


def _arm(root: Path, arm: str, mixture: Artifact, tokens: Artifact) -> None:
    policy, end, average = ARMS[arm]
    visits = read_table(mixture.files()[0])
    shards = [f"{tokens.name}/{path.name}" for path in tokens.files(".npy")]
    order = write_order(
        root / "orders" / arm,
        arrange(visits, policy),
        name=f"orders/{arm}",
        fingerprint=fingerprint(arm),
        config={"policy": policy.model_dump()},
        inputs=[mixture.ref],
        shards=shards,
    )
    plan = Plan.model_validate(
        {
            "tokens": order.manifest.totals["tokens"] // 4096 * 4096,
            "sequence_length": 256,
            "batch_sequences": 4,
            "peak_lr": 0.003,
            "phases": [{"warmup": "2%"}, {"stable": "78%"}, {"decay": "20%", "to": end}],
            "average": average,
        }
    )

    def make(folder: Path) -> dict[str, Any]:
        resolved = resolve(plan)
        check_identity(folder, {"resolved": resolved, "model": MODEL, "order": order.manifest.fingerprint})
        write_text(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in _metrics(arm, resolved)))
        write_text(folder / "result.json", json.dumps({"parameters": 1_234_567}) + "\n")
        return {"steps": resolved.steps, "tokens": resolved.tokens}

    artifact(root, f"runs/{arm}", "run", make, {"plan": plan.model_dump(mode="json")})


def _metrics(arm: str, resolved: Any) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    noise = keyed_uniforms(1, [f"{arm}{i}" for i in range(resolved.steps)]) - 0.5
    rates = step_learning_rates(resolved)
    for step in range(1, resolved.steps + 1):
        at = {"step": step, "tokens": step * resolved.step_tokens}
        loss = 4.2 + 4.1 * (1 + step / 12) ** -1.0
        lines.append(
            {**at, "lr": float(rates[step - 1]), "loss": loss + 0.3 * float(noise[step - 1]), "grad_norm": 1.0}
        )
        if resolved.evaluates(step):
            begun = [name for name, kept in resolved.averages.items() if step * resolved.step_tokens >= kept.first]
            for kind in ["raw", *begun]:
                nats = loss + 0.1 + 0.02 * float(noise[step - 1]) - AVERAGING_GAIN.get(kind, 0.0)
                lines.append(
                    {**at, "heldout": "web", "weights": kind, "nats_per_token": nats, "bits_per_byte": nats / 2.4}
                )
    return lines
