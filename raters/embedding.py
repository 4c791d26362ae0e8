"""Rate documents by meaning: how near a text lies to examples of what is wanted, and how far from what is not.

A sentence-embedding model from a local Hugging Face folder turns a text into a unit vector. The score is its cosine
with the mean vector of the positives, minus that with the mean vector of the negatives where there are any. Nothing
is trained, so a few dozen examples are enough; with thousands, a fastText classifier is much cheaper. A recipe:

    raters:
      like_textbooks:
        {kind: embedding, model: models/all-MiniLM-L6-v2, max_length: 256,
         positives: {files: [textbooks.jsonl.gz]}, negatives: {files: [reviews.jsonl.gz]}}

The means are fitted once and kept. `pooling` must be the model's own (`1_Pooling/config.json` in its folder says it).

Run it:  gradatim run recipe.yaml
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from corpus.errors import ArtifactError, InputError
from corpus.fingerprints import file_checksum
from corpus.scores import Score
from raters.base import Fitting, with_counts
from raters.encoder import score_column
from raters.examples import Examples
from raters.text_windows import WindowPlan, Windows, window_means
from raters.torch_model import ONE_CORE, Compute, LocalModel, TorchSettings, load

Pooling = Literal["mean", "cls"]
CENTROIDS = "centroids.npy"


@dataclass(frozen=True)
class Embedder:
    """Texts to unit vectors.

    Args:
        model: the folder and its checksum.
        plan: how texts become windows; pooled vectors are averaged over them before they are given length one.
        pooling: mean of the last hidden states of all tokens, or the first one.
        compute: where and how.
    """

    model: LocalModel
    plan: WindowPlan
    pooling: Pooling = "mean"
    compute: Compute = ONE_CORE

    def embed(self, texts: list[str | None]) -> tuple[npt.NDArray[np.float64], int]:
        """Embed n texts: shape (n, d) of unit rows, NaN for a null or blank text; and how many were cut.

        Raises what `raters.torch_model.load` raises.
        """
        loaded = load("AutoModel", self.model, self.compute)

        def pooled(ids_BT: Any, mask_BT: Any) -> Any:
            states_BTD = loaded.model(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state.float()
            if self.pooling == "cls":
                return states_BTD[:, 0]
            return (states_BTD * mask_BT[..., None]).sum(dim=1) / mask_BT.sum(dim=1, keepdim=True)

        width = loaded.model.config.get_text_config().hidden_size
        values, cut = window_means(loaded, texts, self.plan, self.compute, pooled, width=width)
        return values / np.linalg.norm(values, axis=1, keepdims=True), cut

    def identity(self) -> dict[str, Any]:
        """The model's files and how it is asked."""
        return {
            "model": self.model.checksum, "pooling": self.pooling, "plan": asdict(self.plan),
            "compute": asdict(self.compute),
        }  # fmt: skip


@dataclass(frozen=True)
class EmbeddingRater:
    """Nearness to the mean of examples as a rater.

    Args:
        embedder: what makes vectors of texts.
        name: the score's name.
        centroids: a .npy file of shape (1, d), the positives' unit mean, or (2, d) with the negatives' below it.
        checksum: xxh3 of that file.
        contrast: whether there are negatives.
    """

    embedder: Embedder
    name: str
    centroids: str
    checksum: str
    contrast: bool

    @property
    def scores(self) -> tuple[Score, ...]:
        """One score: in [-1, 1], or in [-2, 2] with negatives; higher is nearer."""
        described = "cosine with the mean embedding of the positives" + (", minus the negatives'" * self.contrast)
        limit = 1.0 + self.contrast
        return (Score(self.name, -limit, limit, "high", described),)

    @property
    def needs(self) -> tuple[str, ...]:
        """The text alone."""
        return ("text",)

    def identity(self) -> dict[str, Any]:
        """The embedder and the fitted means."""
        return {"rater": "embedding", "version": 1, "name": self.name, "centroids": self.checksum,
                **self.embedder.identity()}  # fmt: skip

    def rate(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Score n documents; null for a null or blank text. Counts `truncated` texts.

        Raises ArtifactError when the fitted means were changed, and what `raters.torch_model.load` raises.
        """
        path = Path(self.centroids)
        if not path.is_file() or file_checksum(path) != self.checksum:
            raise ArtifactError("the fitted means were changed or removed after they were made", where=str(path))
        vectors, cut = self.embedder.embed(batch.column("text").to_pylist())
        cosines = vectors @ np.load(path, allow_pickle=False).T
        values = cosines[:, 0] - cosines[:, 1] if self.contrast else cosines[:, 0]
        limit = 1.0 + self.contrast
        return with_counts(pa.record_batch([score_column(values, -limit, limit)], names=[self.name]),
                           {"truncated": cut})  # fmt: skip


class EmbeddingSettings(TorchSettings):
    """Nearness to examples, by a sentence-embedding model from a local Hugging Face folder."""

    kind: Literal["embedding"] = "embedding"
    positives: Examples
    negatives: Examples | None = Field(None, description="texts to be far from (default: none)")
    pooling: Pooling = Field("mean", description="mean of all tokens' states, or cls: the first one; the model's own")
    max_length: int = Field(256, ge=8, description="tokens read at once, special tokens included")
    windows: Windows = Field("truncate", description="truncate: the first max_length tokens; average: all, in windows")

    def rater(self, name: str, fitting: Fitting) -> EmbeddingRater:
        """Find the mean vectors of the examples, or take those found before. Raises InputError for blank examples."""
        compute = self.compute()
        model, _ = self.local_model(fitting)
        embedder = Embedder(model, WindowPlan(self.max_length, self.windows), self.pooling, compute)
        sides = {"positives": self.positives} | ({"negatives": self.negatives} if self.negatives else {})

        def make(folder: Path) -> dict[str, Any]:
            means = {side: _centroid(embedder, fitting, given, side) for side, given in sides.items()}
            np.save(folder / CENTROIDS, np.stack([mean for mean, _ in means.values()]), allow_pickle=False)
            return {side: count for side, (_, count) in means.items()}

        examples = {side: given.model_dump(mode="json") for side, given in sides.items()}
        config = {"kind": self.kind, "version": 1, "examples": examples, **embedder.identity()}
        path = fitting.keep(config, make, examples=tuple(sides.values())) / CENTROIDS
        return EmbeddingRater(embedder, name, str(path), file_checksum(path), self.negatives is not None)


def _centroid(
    embedder: Embedder, fitting: Fitting, examples: Examples, side: str
) -> tuple[npt.NDArray[np.float64], int]:
    """The mean of the examples' unit vectors, given length one itself; and of how many texts."""
    total, count = np.zeros(()), 0
    for texts in fitting.texts(examples, side):
        vectors, _ = embedder.embed(texts.to_pylist())
        usable = vectors[np.isfinite(vectors).all(axis=1)]
        total, count = total + usable.sum(axis=0), count + len(usable)
    length = float(np.linalg.norm(total))
    if not length:
        raise InputError(
            f"the {side} of this rater hold no text to learn from", found=f"{count} texts that are not blank"
        )
    return total / length, count
