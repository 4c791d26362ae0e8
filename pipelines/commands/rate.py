"""`gradatim rate`: score documents by any raters, as sidecars beside them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml
from rich.markup import escape
from rich.table import Table

from corpus.artifacts import Artifact, artifacts_in
from corpus.config import Config, load_yaml, nearest, validated
from corpus.errors import ConfigError
from corpus.scores import scores_of
from corpus.shards import read_schema
from pipelines.build import Workshop
from pipelines.commands.workshop import RuntimeOptions, open_workshop, table_console
from pipelines.flow import Flow
from pipelines.inputs import InputChecksums
from pipelines.named_inputs import named_inputs
from pipelines.rating import Rating
from pipelines.recipe import Recipe
from raters.kinds import AnyRater
from raters.reference_sample import sample_sidecars


class RaterSet(Config):
    """Raters by the name of their artifact, as in a recipe."""

    raters: dict[str, AnyRater]


def rate_command(
    given: Sequence[str], workspace: Path, file: Path | None, named: Sequence[str], options: RuntimeOptions
) -> None:
    """Rate what is given and print a table of the scores."""
    raters = rater_set(file, named)
    with open_workshop(workspace, options) as shop:
        documents = documents_of(shop, given)
        base = file.parent if file else Path.cwd()
        scores = Rating(shop, base.resolve(), InputChecksums(shop.root)).scores(documents, raters.raters)
    _print(documents, scores)


def rater_set(file: Path | None, named: Sequence[str]) -> RaterSet:
    """Raters of a file and of the command line together; `signals` where neither names one.

    A named one is a kind that needs no settings (`signals`), or a name with settings (`edu={kind: encoder, ...}`).
    Raises ConfigError for what cannot be used, and for a name given twice.
    """
    raters: dict[str, Any] = {}
    if file is not None:
        held = load_yaml(file)
        raters = dict(held.get("raters", held))
    for text in named:
        name, equals, value = text.partition("=")
        if name in raters:
            raise ConfigError(f"the rater {name!r} is named twice", fix="give one of them another name")
        try:
            raters[name] = yaml.safe_load(value) if equals else {"kind": name}
        except yaml.YAMLError as error:
            raise ConfigError(f"the settings of --rater {name} are not valid YAML", found=str(error)) from None
    return validated(RaterSet, {"raters": raters or {"signals": {"kind": "signals"}}}, str(file or "--rater"))


def documents_of(shop: Workshop, given: Sequence[str]) -> Artifact:
    """The documents a command line names: an artifact of the workspace, or files, which are read into `documents`.

    Raises ConfigError for an artifact that holds no documents, and as `named_inputs`.
    """
    if len(given) == 1 and (artifact := _artifact(shop.root, given[0])):
        if artifact.manifest.kind != "documents":
            held = [item.name for item in artifacts_in(shop.root) if item.manifest.kind == "documents"]
            raise ConfigError(
                f"{artifact.name} holds no documents but {artifact.manifest.kind}",
                expected=f"one of {', '.join(held)}" if held else "an artifact of documents",
            )
        return artifact
    if len(given) == 1 and not _looks_like_files(given[0]):
        held = [item.name for item in artifacts_in(shop.root) if item.manifest.kind == "documents"]
        raise ConfigError(
            f"there is neither an artifact nor a file {given[0]!r}{nearest(given[0], held) if held else ''}",
            fix="gradatim ls lists the artifacts of a workspace; a file can be .jsonl, .parquet, .warc, with .gz",
        )
    recipe = Recipe(name="rate", inputs=named_inputs(given))
    return Flow(recipe, shop, Path.cwd() / "recipe.yaml").documents()


def _artifact(root: Path, name: str) -> Artifact | None:
    return next((item for item in artifacts_in(root) if item.name == name), None) if root.exists() else None


def _looks_like_files(text: str) -> bool:
    return "=" in text or any(mark in text for mark in "*?[") or Path(text).expanduser().exists()


def _print(documents: Artifact, scores: Sequence[Artifact]) -> None:
    console = table_console()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("score", "scored", "null", "5 %", "median", "95 %", "better"):
        left = heading in ("score", "better")
        table.add_column(heading, justify="left" if left else "right", no_wrap=True, min_width=0 if left else 6)
    for artifact in scores:
        defined = scores_of(read_schema(artifact.files()[0]))
        sample = sample_sidecars([artifact], [score.name for score in defined]).columns
        for score in defined:
            known = sample[score.name][np.isfinite(sample[score.name])]
            low, middle, high = (f"{v:.4g}" for v in np.quantile(known, (0.05, 0.5, 0.95))) if len(known) else "---"
            rows, nulls = _counts(artifact, score.name)
            table.add_row(score.name, f"{rows - nulls:,}", f"{nulls:,}", low, middle, high, score.better)
    console.print(table)
    for artifact in scores:
        for reason, count in _notes(artifact):
            console.print(f"  {artifact.name}: {count:,} x {escape(reason)}", highlight=False)
    rows = sum(part.rows or 0 for part in documents.manifest.parts if "/" not in part.file)
    root = documents.folder.parents[documents.name.count("/")]
    joined = f'SELECT * FROM {documents.name} JOIN "{scores[0].name}" USING (id) LIMIT 3'
    console.print(f"{rows:,} documents of {documents.name} rated. Look at them with", highlight=False)
    console.print(f"  gradatim sql '{escape(joined)}' -w {root}", highlight=False, soft_wrap=True)


def _counts(artifact: Artifact, column: str) -> tuple[int, int]:
    """Rows and nulls of a score column, from the statistics that Parquet keeps."""
    rows = nulls = 0
    for path in artifact.files():
        metadata = pq.ParquetFile(path).metadata
        at = metadata.schema.names.index(column)
        rows += metadata.num_rows
        nulls += sum(metadata.row_group(i).column(at).statistics.null_count for i in range(metadata.num_row_groups))
    return rows, nulls


def _notes(artifact: Artifact) -> list[tuple[str, int]]:
    """What raters counted while they rated: refusals, parse failures."""
    usual = {"records_in", "kept", "dropped", "problems"}
    return [(key, value) for key, value in artifact.manifest.totals.items() if key not in usual and value]
