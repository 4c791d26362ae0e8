"""Rate documents by two checkpoints of a language model: what the stronger one has learned of each. Experimental.

Three scores, from -ln p(text) under `model` (the stronger, trained further or on better text) and `reference`:

    reward              beta * (ln p_model - ln p_reference), the implicit reward (arXiv 2507.00018); grows with length
    reward_per_token    the same, a token of `model`
    perplexity_drop     (ppl_reference - ppl_model) / ppl_reference, PD (arXiv 2501.13126): 20 against 12 gives 0.4

Perplexities are taken a token where both have the same tokenizer, else a byte, where the tokenizers cannot mislead.
Published evidence is thin: PD orders a curriculum (high values late), the reward selects text, each in its paper's
own setting. Which end is good depends on the use, so no direction is claimed.

    raters:
      pair: {kind: model_pair, model: exports/late, reference: exports/early, max_length: 1024}

Run it:  gradatim run recipe.yaml
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from corpus.scores import Score
from raters.base import Fitting
from raters.encoder import score_column
from raters.likelihood import likelihoods
from raters.torch_model import ONE_CORE, Compute, LoadedModel, LocalModel, TorchSettings, load


@dataclass(frozen=True)
class ModelPairRater:
    """Two causal language models as a rater.

    Args:
        model, reference: the stronger folder and the weaker one.
        name: what the scores' names begin with.
        beta: the factor of the reward.
        max_length: tokens of a window of either model.
        compute: where and how.
    """

    model: LocalModel
    reference: LocalModel
    name: str
    beta: float = 1.0
    max_length: int = 1024
    compute: Compute = ONE_CORE

    @property
    def scores(self) -> tuple[Score, ...]:
        """`<name>_reward`, `<name>_reward_per_token`, `<name>_perplexity_drop`; see the module."""
        described = {
            "reward": "experimental: implicit reward of a model over its reference; grows with length",
            "reward_per_token": "experimental: implicit reward of a model over its reference, a token",
            "perplexity_drop": "experimental: perplexity lost from the reference to the model, as a share",
        }
        high = {"perplexity_drop": 1.0}
        return tuple(
            Score(f"{self.name}_{what}", None, high.get(what), "middle", text) for what, text in described.items()
        )

    @property
    def needs(self) -> tuple[str, ...]:
        """The text alone."""
        return ("text",)

    def identity(self) -> dict[str, Any]:
        """The files of both models and how they are asked."""
        return {
            "rater": "model_pair", "version": 1, "name": self.name, "model": self.model.checksum,
            "reference": self.reference.checksum, "beta": self.beta, "max_length": self.max_length,
            "compute": asdict(self.compute),
        }  # fmt: skip

    def rate(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Score n documents; null for a null or blank text, and for one of fewer than two tokens of either model.

        Raises what `raters.torch_model.load` and `raters.likelihood.likelihoods` raise.
        """
        texts = batch.column("text").to_pylist()
        pair = [load("AutoModelForCausalLM", model, self.compute) for model in (self.model, self.reference)]
        strong, weak = (likelihoods(loaded, texts, self.max_length, self.compute) for loaded in pair)
        reward = self.beta * (weak.nats - strong.nats)
        if same_tokenizer(*pair):
            drop = perplexity_drop(weak.nats_per_token, strong.nats_per_token)
        else:
            drop = perplexity_drop(weak.bits_per_byte * math.log(2), strong.bits_per_byte * math.log(2))
        columns = [score_column(values) for values in (reward, reward / strong.tokens, drop)]
        return pa.record_batch(columns, names=[score.name for score in self.scores])


def perplexity_drop(weak: npt.ArrayLike, strong: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """(ppl_weak - ppl_strong) / ppl_weak from the logarithms of both perplexities, in nats a unit; at most 1."""
    return -np.expm1(np.asarray(strong, np.float64) - np.asarray(weak, np.float64))


def same_tokenizer(first: LoadedModel, second: LoadedModel) -> bool:
    """Whether two models number the same tokens alike and cut a text of many kinds in the same way."""
    one, other = first.tokenizer, second.tokenizer
    text = "Über 3,141 naïve\n\tdon't  for (i = 0;) 日本語 👩\u200d💻"
    return bool(one.get_vocab() == other.get_vocab() and one(text)["input_ids"] == other(text)["input_ids"])


class ModelPairSettings(TorchSettings):
    """Two checkpoints: implicit reward and perplexity difference. Experimental."""

    own_process: ClassVar[bool] = True

    kind: Literal["model_pair"] = "model_pair"
    reference: str = Field(description="the weaker checkpoint: a folder, or the name of a packaged model")
    beta: float = Field(1.0, gt=0, description="factor of the reward")
    max_length: int = Field(1024, ge=8, description="tokens of a window; a longer text goes on in a next one")

    def rater(self, name: str, fitting: Fitting) -> ModelPairRater:
        """Check that both folders are whole and their windows long enough."""
        compute = self.compute()
        model, _ = self.local_model(fitting)
        reference, _ = self.local_model(fitting, self.reference)
        return ModelPairRater(model, reference, name, self.beta, self.max_length, compute)
