"""Rate documents by how well a causal language model predicts them: bits per byte, and nats per token.

The model is a local Hugging Face folder or a packaged one. Perplexity is exp(nats per token). Both ends are suspect:
boilerplate and repetition are easy to predict, noise and encoded data are hard, and a model prefers what it was
trained on. Compare within one model; across tokenizers only bits per byte compare.

`concentration: true` adds an experimental column from the same pass: the mean cosine between the hidden states of a
text's tokens (angle concentration, arXiv 2506.02281). It was shown for prompts of reinforcement learning, not for
pre-training text, and boilerplate scores high.

The engine is torch. A recipe:

    raters:
      ppl: {kind: causal_lm, model: smollm2-135m-instruct, max_length: 1024, threads: 4}

Run it:  gradatim rate corpus/web --rater 'ppl={kind: causal_lm, model: smollm2-135m-instruct}'
"""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from corpus.scores import Score
from raters.base import Fitting
from raters.encoder import score_column
from raters.likelihood import likelihoods
from raters.torch_model import ONE_CORE, Compute, LocalModel, TorchSettings, load


@dataclass(frozen=True)
class CausalLmRater:
    """A causal language model as a rater.

    Args:
        model: the folder and its checksum.
        name: what the scores' names begin with.
        max_length: tokens of a window, the one that stands before a text included.
        concentration: add angle concentration.
        compute: where and how.
    """

    model: LocalModel
    name: str
    max_length: int = 1024
    concentration: bool = False
    compute: Compute = ONE_CORE

    @property
    def scores(self) -> tuple[Score, ...]:
        """`<name>_bits_per_byte` and `<name>_nats_per_token`, both >= 0; `<name>_angle_concentration` in [-1, 1]."""
        named = f"by the language model {self.name}"
        likelihood = (
            Score(f"{self.name}_bits_per_byte", 0.0, None, "middle", f"-log2 p(text) a byte of UTF-8, {named}"),
            Score(f"{self.name}_nats_per_token", 0.0, None, "middle", f"log of the perplexity a token, {named}"),
        )
        angle = Score(
            f"{self.name}_angle_concentration", -1.0, 1.0, "middle",
            f"experimental: mean cosine between hidden states of tokens, {named}",
        )  # fmt: skip
        return (*likelihood, angle) if self.concentration else likelihood

    @property
    def needs(self) -> tuple[str, ...]:
        """The text alone."""
        return ("text",)

    def identity(self) -> dict[str, Any]:
        """The model's files, its window, and what decides the last bits."""
        return {
            "rater": "causal_lm", "version": 1, "name": self.name, "model": self.model.checksum,
            "max_length": self.max_length, "concentration": self.concentration, "compute": asdict(self.compute),
        }  # fmt: skip

    def rate(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Score n documents; null for a null or blank text, and for one of fewer than two tokens.

        Raises what `raters.torch_model.load` and `raters.likelihood.likelihoods` raise.
        """
        loaded = load("AutoModelForCausalLM", self.model, self.compute)
        texts = batch.column("text").to_pylist()
        found = likelihoods(loaded, texts, self.max_length, self.compute, concentration=self.concentration)
        values = [found.bits_per_byte, found.nats_per_token, found.concentration]
        columns = [
            score_column(value, score.low, score.high) for score, value in zip(self.scores, values, strict=False)
        ]
        return pa.record_batch(columns, names=[score.name for score in self.scores])


class CausalLmSettings(TorchSettings):
    """Bits per byte and perplexity under a causal language model."""

    own_process: ClassVar[bool] = True

    kind: Literal["causal_lm"] = "causal_lm"
    max_length: int = Field(1024, ge=8, description="tokens of a window; a longer text goes on in a next one")
    concentration: bool = Field(False, description="add angle concentration (experimental) from the same pass")

    def rater(self, name: str, fitting: Fitting) -> CausalLmRater:
        """Check that the folder is whole and its window long enough."""
        compute = self.compute()
        model, _ = self.local_model(fitting)
        return CausalLmRater(model, name, self.max_length, self.concentration, compute)
