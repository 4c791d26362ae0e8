"""The instruments of the gates, made from settings: language, embeddings, evaluation items.

Rephrasing itself knows no model but its generator, so whoever runs it lends these. Their identity is made of checksums
of what is read, so that a document judged by other instruments is judged anew.

How it is used:  bench = Bench(generator, open_instruments(settings, recipe_folder))

    instruments: {language: true, similarity: {model: models/all-MiniLM-L6-v2}, evaluations: [evals/mmlu.jsonl.gz]}
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from corpus.config import Config
from corpus.fingerprints import file_checksum, fingerprint
from raters.torch_model import TorchSettings
from rephrase.gates.instruments import Instruments

if TYPE_CHECKING:
    from raters.embedding import Embedder

COSINE_DECIMALS = 4
"""Padding moves the last bits of a cosine; what is kept must not depend on which texts shared a batch."""


class SimilaritySettings(TorchSettings):
    """A sentence-embedding model from a local Hugging Face folder, for the gate `meaning`."""

    pooling: Literal["mean", "cls"] = Field("mean", description="mean of all tokens' states, or cls: the first one")
    max_length: int = Field(256, ge=8, description="tokens of a window; longer texts are averaged over windows")


class InstrumentSettings(Config):
    """What the gates may use beyond the two texts."""

    language: bool = Field(True, description="identify the language of outputs (lid.176)")
    similarity: SimilaritySettings | None = Field(
        None, description="embeddings of outputs and sources; null: the gate meaning measures nothing"
    )
    evaluations: tuple[Path, ...] = Field(
        (), description="files of evaluation items that no output may recite, JSONL, relative to the recipe"
    )


def open_instruments(settings: InstrumentSettings, base: Path) -> Instruments:
    """Make the instruments; relative paths start from `base`. Models are loaded when they are first used.

    Raises EnvironmentProblem for a missing package or language model, ConfigError for a folder without a model,
    InputError for evaluation items that cannot be read.
    """
    identity: dict[str, str] = {}
    language = similarity = contamination = None
    if settings.language:
        language, identity["language"] = _language()
    if settings.similarity:
        embedder = _embedder(settings.similarity, base)
        similarity, identity["similarity"] = _cosines(embedder), fingerprint(embedder.identity())
    if settings.evaluations:
        from corpus.contamination import open_index

        index = open_index([base / path.expanduser() for path in settings.evaluations])
        contamination, identity["contamination"] = index.coverage, index.identity
    return Instruments(language, similarity, contamination, identity)


def _language() -> tuple[Callable[[str], tuple[str, float]], str]:
    from raters.language_model import identify, model_file

    model = model_file(None)
    return (lambda text: identify([text], model)[0]), file_checksum(model)


def _embedder(settings: SimilaritySettings, base: Path) -> "Embedder":
    from raters.embedding import Embedder
    from raters.text_windows import WindowPlan
    from raters.torch_model import check_length, local_model, read_config

    model = local_model(settings.model, base / Path(settings.model).expanduser())
    check_length(read_config(model), settings.max_length, model.path)
    return Embedder(model, WindowPlan(settings.max_length, "average"), settings.pooling, settings.compute())


def _cosines(embedder: "Embedder") -> Callable[[Sequence[tuple[str, str]]], list[float]]:
    """Pairs of texts to cosines, each text embedded once; 0 for a blank text, which has no direction."""

    def cosines(pairs: Sequence[tuple[str, str]]) -> list[float]:
        import numpy as np

        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        place = {text: i for i, text in enumerate(texts)}
        vectors, _ = embedder.embed(list(texts))
        vectors = np.nan_to_num(vectors)
        return [round(float(vectors[place[a]] @ vectors[place[b]]), COSINE_DECIMALS) for a, b in pairs]

    return cosines
