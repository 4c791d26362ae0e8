"""The data card of a set of rephrasings: what a user of the data must know, as one Markdown file beside the audit.

Everything in it is read from the manifest, the tables and the attempts; what is not known is listed as missing. The
licence of an output is the stricter of its source's and the model's, and one non-commercial source marks the whole set.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from corpus.artifacts import Artifact
from corpus.shards import read_batches
from pipelines.report.quantities import count, percent
from pipelines.report.rephrasing_attempts import GATES, Attempts, by_style
from pipelines.report.rephrasing_change import new_facts
from pipelines.report.rephrasing_diversity import StyleDiversity, shown
from pipelines.report.rephrasing_gates import finding, gate_rows, unmeasured
from rephrase.licences import stricter, strictest, terms
from rephrase.packaged_models import PACKAGED
from rephrase.style import Style

NOT_MEASURED = "not measured"


def data_card(
    artifact: Artifact, attempts: Attempts | None, outcomes: pa.Table | None, measured: Sequence[StyleDiversity]
) -> str:
    """The card as Markdown."""
    held = _held(artifact)
    model = held.model_licence or _packaged_licence(held.generators)
    blocks = [
        f"# Data card: {artifact.name}",
        _summary(artifact, attempts, outcomes, held.documents),
        "## Licence", _licence(held.licences, model),
        "## Sources", _sources(held.licences, model),
        "## Generator", _generator(artifact, held.generators, model),
        "## Styles", _styles(artifact, held.request_hashes),
        "## Pass rates by gate", _gates(attempts),
        "## Diversity", _diversity(measured),
        "## New facts and contamination", _facts(attempts),
        "## What is missing", _missing(artifact, attempts, outcomes, held.licences, model),
    ]  # fmt: skip
    return "\n\n".join(block for block in blocks if block) + "\n"


class _Held:
    """What the documents say of themselves: licences of their sources, generators, the hashes of their requests."""

    def __init__(self) -> None:
        self.documents, self.n_bytes = 0, 0
        self.licences: Counter[str] = Counter()
        self.generators: Counter[str] = Counter()
        self.request_hashes: dict[str, set[str]] = {}
        self.model_licence: str | None = None


def _held(artifact: Artifact) -> _Held:
    held = _Held()
    for path in artifact.files():
        for batch in read_batches(path, ["style", "generator", "n_bytes", "meta"]):
            for row in batch.to_pylist():
                meta = {item["key"]: item["value"] for item in row["meta"] or ()}
                held.documents += 1
                held.n_bytes += row["n_bytes"]
                held.licences[meta.get("license") or meta.get("licence") or ""] += 1
                held.generators[row["generator"] or ""] += 1
                held.request_hashes.setdefault(row["style"] or "", set()).add(meta.get("request_hash", ""))
                held.model_licence = meta.get("model_license") or meta.get("model_licence") or held.model_licence
    return held


def _packaged_licence(generators: Iterable[str]) -> str | None:
    found = {PACKAGED[name].license for each in generators if (name := each.split("@")[0]) in PACKAGED}
    return found.pop() if len(found) == 1 else None


def _summary(artifact: Artifact, attempts: Attempts | None, outcomes: pa.Table | None, made: int) -> str:
    manifest = artifact.manifest
    if attempts is None:
        said = "No document was sent to the model; the set is empty."
    else:
        said = finding(attempts, made, outcomes.num_rows if outcomes else int(manifest.totals.get("records_in", 0)))
    rows = [
        ("documents", count(made)),
        ("requests sent, retries included", count(int(attempts.sent.sum()) if attempts else 0)),
        ("tokens that passed the gates", count(int(attempts.n_out[attempts.kept].sum()) if attempts else 0)),
        ("fingerprint", f"`{manifest.fingerprint}`"),
        ("made by", f"gradatim {manifest.code}"),
        (
            "made from",
            ", ".join(f"{_code(ref.name)} (`{ref.fingerprint}`)" for ref in manifest.inputs) or "not recorded",
        ),
    ]
    return f"{said} All of it is text written by a language model.\n\n" + _table(("", ""), rows)


def _licence(licences: Counter[str], model: str | None) -> str:
    if not licences:
        return "There is no document, so there is nothing to license."
    whole = strictest(stricter(licence or None, model) for licence in licences)
    kind = terms(whole)
    said = {
        "unknown": "**Not cleared.** At least one source, or the model, has no licence that could be read; treat "
        "the whole set as not licensed until it is known.",
        "no derivatives": "**No derivatives.** At least one source forbids derivatives, which a rephrasing is; take "
        "its rephrasings out.",
        "non-commercial": "**Non-commercial as a whole**, because at least one source, or the model, is.",
        "share-alike": "Share-alike: pass the set on under the same terms.",
        "attribution": "Attribution: name the sources and the model.",
        "free": "Free of conditions.",
    }[kind]
    return (
        f"{said} The rule: an output has the stricter licence of its source and its model, and the set has the "
        f"strictest of all, here {_code(whole)}. This sorts licences by their names and is no legal advice."
    )


def _sources(licences: Counter[str], model: str | None) -> str:
    if not licences:
        return "None."
    rows = [
        (
            _code(licence) if licence else "not known",
            count(n),
            _code(stricter(licence or None, model)),
            terms(stricter(licence or None, model)),
        )
        for licence, n in sorted(licences.items(), key=lambda item: (-item[1], item[0]))
    ]
    return "Documents by the licence of the page they were made from:\n\n" + _table(
        ("licence of the source", "documents", "licence of the output", "terms"), rows
    )


def _generator(artifact: Artifact, generators: Counter[str], model: str | None) -> str:
    rows = [("written by", ", ".join(_code(name) for name in sorted(generators) if name) or "not recorded")]
    rows.append(("licence of the model", _code(model) if model else "not known"))
    settings = next(_found(artifact.manifest.config, "generator"), None)
    if isinstance(settings, Mapping):
        rows += [(key, _code(value)) for key, value in sorted(settings.items()) if isinstance(value, str | int | float)]
    return _table(("", ""), rows)


def _styles(artifact: Artifact, hashes: Mapping[str, set[str]]) -> str:
    """One row a style of the configuration: its version, the hash of its requests, decoding and limits."""
    rows = []
    for style in _configured(artifact):
        request = style.request_hash()
        others = sorted(hashes.get(style.name, set()) - {request, ""})
        decoding = f"T {style.decoding.temperature:g}, top-p {style.decoding.top_p:g}"
        if style.decoding.repetition_penalty != 1:
            decoding += f", repetition penalty {style.decoding.repetition_penalty:g}"
        said = f"`{request}`" + (f" (in documents also {', '.join(map(_code, others))})" if others else "")
        limits = f"{style.limits.chunk:,} in, {style.limits.max_out:,} out"
        rows.append((style.name, str(style.version), said, decoding, limits, _plain(style.about)))
    if not rows:
        rows = [
            (name, "", ", ".join(map(_code, sorted(found - {""}))), "", "", "")
            for name, found in sorted(hashes.items())
        ]
    return _table(("style", "version", "hash of template and decoding", "decoding", "most tokens", "about"), rows)


def _configured(artifact: Artifact) -> list[Style]:
    """The styles that the manifest's configuration holds, wherever in it, by name."""
    found: dict[str, Style] = {}
    for value in _mappings(artifact.manifest.config):
        if {"name", "version", "template"} <= set(value):
            try:
                style = Style.model_validate(value)
            except ValidationError:
                continue  # a style of another version: its documents still name the hash of its requests
            found[style.name] = style
    return [found[name] for name in sorted(found)]


def _gates(attempts: Attempts | None) -> str:
    if attempts is None:
        return ""
    styles = by_style(attempts)
    tables = {style: {row["gate"]: row for row in gate_rows(attempts, rows)} for style, rows in styles}
    gates = [gate for gate in GATES if any(gate in table for table in tables.values())]
    rows = [(gate, *(_passed(table.get(gate)) for table in tables.values())) for gate in gates]
    whole = [
        "**all gates**",
        *(f"**{percent(float((rows & attempts.kept).sum() / rows.sum()))}**" for _, rows in styles),
    ]
    note = (
        "Share of the attempts that reached a gate and passed it, in the order of the gates; the unanswered reach none."
    )
    return f"{note}\n\n" + _table(("gate", *tables), [*rows, tuple(whole)])


def _passed(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "–"
    return percent(row["passed"]) if row["measured"] else NOT_MEASURED


def _diversity(measured: Sequence[StyleDiversity]) -> str:
    if not measured:
        return ""
    tables = []
    for item in measured:
        rows = [
            (one.name, shown(one.name, one.value), shown(one.name, one.real), one.level, one.alarm)
            for one in item.measured.measures
        ]
        opening = item.measured.measures[0].example
        rows.append(("drift over the run", "", "", item.drift.level, "a trend over all fifths"))
        said = f"**{item.style}**, {count(item.measured.n, 'outputs')} drawn" + (
            f"; most begin {_code(opening)}" if opening else ""
        )
        tables.append(f"{said}:\n\n" + _table(("measure", "outputs", "sources", "verdict", "alarm"), rows))
    return "\n\n".join(tables)


def _facts(attempts: Attempts | None) -> str:
    if attempts is None:
        return ""
    rows = []
    for style, marks in by_style(attempts):
        rate, some = new_facts(attempts, marks & attempts.kept)
        values = attempts.gates.get("contamination", np.full(len(attempts), np.nan))[marks]
        values = values[np.isfinite(values)]
        stopped = int((attempts.reasons[marks] == "contamination").sum())
        recital = (
            f"{count(stopped)} stopped of {count(len(values))} measured, most {values.max():.2f}"
            if len(values)
            else NOT_MEASURED
        )
        rows.append((style, *(percent(x) if np.isfinite(x) else "–" for x in (rate, some)), recital))
    return (
        "New facts: the mean share of a kept output's numbers and names that its source does not hold, and the share "
        "of outputs with any. Contamination: the largest share of one evaluation item found in an output.\n\n"
        + _table(("style", "new facts", "outputs with any", "evaluation items recited"), rows)
    )


def _missing(
    artifact: Artifact, attempts: Attempts | None, outcomes: pa.Table | None, licences: Counter[str], model: str | None
) -> str:
    if attempts is None:
        return "- Everything: no document was sent to the model."
    lines = []
    if missing := int(attempts.unanswered.sum()):
        lines.append(f"{count(missing, 'chunks')} without an answer from the model.")
    reasons = outcomes.column("reason").drop_null().to_pylist() if outcomes is not None else []
    passed_over = artifact.manifest.totals.get("passed_over", {})
    for unit, said, numbers in (
        ("documents", "not kept", Counter(reasons)),
        ("pieces", "of documents not sent", Counter(map(str, attempts.reasons[~attempts.sent]))),
        ("documents", "not chosen", Counter(passed_over)),
    ):
        ranked = sorted(numbers.items(), key=lambda item: (-item[1], item[0]))
        lines += [f"{count(n, unit)} {said}: {_code(reason)}." for reason, n in ranked]
    if gates := unmeasured(attempts):
        named = ", ".join(map(_code, gates))
        lines.append(f"Stopped nothing, for want of an instrument or of anything to measure: {named}.")
    if unknown := sum(n for licence, n in licences.items() if terms(licence) == "unknown"):
        lines.append(f"The licence of the sources of {count(unknown, 'documents')}.")
    if terms(model) == "unknown":
        lines.append("The licence of the model.")
    lines.append("A reader's judgement: gates compare spellings and lengths. Read the samples of the audit page.")
    return "\n".join(f"- {line}" for line in lines)


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every mapping inside a configuration, the outer ones first."""
    if isinstance(value, Mapping):
        yield value
    for inner in value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ():
        yield from _mappings(inner)


def _found(config: Any, key: str) -> Iterator[Any]:
    return (value[key] for value in _mappings(config) if key in value)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """A text of somebody else's in a cell: on one line, with nothing that Markdown or HTML would act on."""
    return re.sub(r"([\\`*_{}\[\]<>#|~!])", r"\\\1", " ".join(text.split()))


def _code(value: Any) -> str:
    """A value as code, which nothing in it can end."""
    text = " ".join(str(value).split()).replace("`", "'").replace("|", "¦")
    return f"`{text}`" if text else "–"
