"""Combining score sidecars into one: a composite fitted on a reference sample, frozen as an artifact, and applied.

Shared by recipes, by `gradatim weigh` and by `gradatim select`. Memory holds the sample, never the corpus.

Run it:  scores = combined(rating, documents, sidecars, settings, name="composite")
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corpus.artifacts import Artifact
from corpus.config import nearest
from corpus.errors import ConfigError
from corpus.scores import Score, scores_of
from corpus.shards import read_schema, write_text
from pipelines.aligned_scores import score_columns
from pipelines.build import Workshop
from pipelines.inputs import InputChecksums
from pipelines.rating import Rating
from raters.composite import (
    GROUP_COLUMN,
    Composite,
    CompositeRater,
    CompositeSettings,
    fit_composite,
    read_composite,
    scores_used,
)
from raters.reference_sample import columns_of, sample_sidecars
from raters.weights_file import WeightsFile, read_weights, write_weights

COMPOSITE = "composite.json"
WEIGHTS = "weights.json"


def fit_sidecars(documents: Artifact, sidecars: Sequence[Artifact], settings: CompositeSettings) -> Composite:
    """Fit a composite on a reference sample of sidecars.

    Raises ConfigError and InputError as `fit_composite` and `sample_sidecars` do.
    """
    definitions = definitions_of(sidecars)
    group = GROUP_COLUMN.get(settings.within)
    sample = sample_sidecars(
        sidecars, scores_used(settings, definitions), documents=documents,
        document_columns=[group] if group else [], k=settings.sample,
    )  # fmt: skip
    return fit_composite(sample.table, definitions, settings)


def combined(
    rating: Rating,
    documents: Artifact,
    sidecars: Sequence[Artifact],
    settings: CompositeSettings,
    *,
    name: str = "composite",
) -> Artifact:
    """The sidecars `scores/<name>`, with a column of that name: the composite of the scores in `sidecars`.

    The fitted composite is the artifact `raters/<name>`; a weights file that the settings name is kept in it, and
    its content is part of what identifies the artifact.
    """
    file = weights_of(settings, rating.base)
    resolved = settings if file is None else settings.following(file)

    def fit(folder: Path) -> dict[str, Any]:
        composite = fit_sidecars(documents, sidecars, resolved)
        write_text(folder / COMPOSITE, composite.model_dump_json(indent=1) + "\n")
        if file is not None:
            write_weights(folder / WEIGHTS, file)
        for note in composite.notes:
            rating.shop.progress.say(f"  note: {note}")
        return {"documents": composite.n_documents, "scores": len(composite.components)}

    config = {**resolved.model_dump(), "weights_file": file.checksum if file else None}
    inputs = [documents, *sidecars] if resolved.within in GROUP_COLUMN else list(sidecars)
    fitted = rating.shop.build_here(f"raters/{name}", "rater", config=config, inputs=inputs, make=fit)
    rater = CompositeRater(read_composite(fitted.folder / COMPOSITE), name)
    needed = set(rater.needs)
    used = [artifact for artifact in sidecars if needed & set(columns_of([artifact]))]
    return rating.rated(f"scores/{name}", documents, rater, used)


def combined_for(shop: Workshop, documents: Artifact, settings: CompositeSettings, *, name: str) -> Artifact:
    """The composite of scores that a workspace has for some documents, or for those they were taken from.

    The normalisers are fitted on the documents that were rated. A relative path of a weights file starts from the
    working folder. Raises ConfigError when a score is not there, or scores were rated on different documents.
    """
    columns = [
        column for column in score_columns(shop.root, documents) if not _is_composite(shop.root, column.artifact)
    ]
    file = weights_of(settings, Path.cwd())
    names = None if file is None else set(file.scores)
    for wanted in sorted(names or ()):
        if wanted not in {column.score.name for column in columns}:
            hint = nearest(wanted, {column.score.name for column in columns}) if columns else ""
            raise ConfigError(
                f"the weights name the score {wanted!r}, which the documents {documents.name} do not have{hint}",
                where=str(settings.weights), fix=f"gradatim rate {documents.name} --rater ...",
            )  # fmt: skip
    used = [column for column in columns if names is None or column.score.name in names]
    if not used:
        raise ConfigError(
            f"the documents {documents.name} have no scores to combine",
            fix=f"gradatim rate {documents.name} --rater signals",
        )
    rated = sorted({column.documents for column in used}, key=lambda item: (item != documents.name, item))
    if len(rated) > 1:
        raise ConfigError(
            "the scores to combine were rated on different documents",
            found=", ".join(f"{column.name} on {column.documents}" for column in used[:6]),
            fix=f"rate {documents.name} with all raters",
        )
    sidecars = [Artifact(shop.root / item) for item in sorted({column.artifact for column in used})]
    rating = Rating(shop, Path.cwd(), InputChecksums(shop.root))
    return combined(rating, Artifact(shop.root / rated[0]), sidecars, settings, name=name)


def _is_composite(root: Path, name: str) -> bool:
    return bool(Artifact(root / name).manifest.config.get("rater", {}).get("rater") == "composite")


def weights_of(settings: CompositeSettings, base: Path) -> WeightsFile | None:
    """The weights file that settings name, relative to `base`. Raises ConfigError as `read_weights` does."""
    return None if settings.weights is None else read_weights(base / settings.weights.expanduser())


def definitions_of(sidecars: Sequence[Artifact]) -> tuple[Score, ...]:
    """What the score columns of sidecars mean, in the order of the sidecars."""
    return tuple(score for item in sidecars if (files := item.files()) for score in scores_of(read_schema(files[0])))
