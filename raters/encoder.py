"""Rate documents with a sequence classifier from a local Hugging Face folder: quality, education, advertisements.

The classifier's outputs become scores in one of four ways, its `head`. The raters of Meta-rater (arXiv 2504.14194),
as a recipe names them:

    raters:
      reasoning:                                   # PRRC: the expected class of six, never the likeliest one
        {kind: encoder, model: models/reasoning, head: expectation, max_length: 4096}
      fineweb_edu:                                 # one number, about 0 to 5, from the first 512 tokens
        {kind: encoder, model: models/edu, head: regression, clamp: [0, 5]}
      no_advertisement:                            # p(class 1) of two
        {kind: encoder, model: models/ad, head: probability, index: 1}
      qurater:                                     # four unbounded numbers, over windows of the whole text
        {kind: encoder, model: models/qurater, head: logits, windows: average, special_tokens: false,
         labels: [writing_style, required_expertise, facts_and_trivia, educational_value]}

Texts longer than `max_length` are judged by their opening (`truncate`; the number of them is in the manifest) or in
windows (`average`). Each worker process holds the model once: on a GPU, take few workers.

Run it:  gradatim rate corpus/web --rater 'edu={kind: encoder, model: models/edu, head: regression}'
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, model_validator

from corpus.errors import ConfigError
from corpus.scores import Better, Score
from raters.base import Fitting, with_counts
from raters.text_windows import OPENING, WindowPlan, Windows, window_means
from raters.torch_model import ONE_CORE, Compute, LocalModel, TorchSettings, import_torch, load

Head = Literal["expectation", "regression", "probability", "logits"]
"""What outputs become: `expectation` sum k softmax_k, `regression` the one output, `probability` softmax of one
class, `logits` every output as it is."""


@dataclass(frozen=True)
class EncoderRater:
    """A sequence classifier as a rater.

    Args:
        model: the folder and its checksum.
        name: the score's name; with several scores, what their names begin with.
        outputs: how many numbers the classifier gives.
        head: what they become.
        labels: names of the scores of `logits`; empty with one output.
        index: the class of `probability`.
        clamp: the range that `regression` is cut to; None leaves it open.
        better: which end is the good one.
        plan: how texts become windows; what the head gives is averaged over them.
        compute: where and how.
    """

    model: LocalModel
    name: str
    outputs: int
    head: Head
    labels: tuple[str, ...] = ()
    index: int = 1
    clamp: tuple[float, float] | None = None
    better: Better = "high"
    plan: WindowPlan = OPENING
    compute: Compute = ONE_CORE

    @property
    def scores(self) -> tuple[Score, ...]:
        """One score called `name`, or `name_<label>` for each label."""
        low, high = self._range()
        described = {
            "expectation": f"expected class of {self.outputs}, by the classifier {self.name}",
            "regression": f"output of the classifier {self.name}",
            "probability": f"probability of class {self.index}, by the classifier {self.name}",
            "logits": f"unbounded output of the classifier {self.name}; compare within one model only",
        }[self.head]
        names = [f"{self.name}_{label}" for label in self.labels] or [self.name]
        return tuple(Score(name, low, high, self.better, described) for name in names)

    @property
    def needs(self) -> tuple[str, ...]:
        """The text alone."""
        return ("text",)

    def identity(self) -> dict[str, Any]:
        """The model's files, how it is asked, and what decides the last bits."""
        return {
            "rater": "encoder", "version": 1, "name": self.name, "model": self.model.checksum, "head": self.head,
            "labels": self.labels, "index": self.index, "clamp": self.clamp, "plan": asdict(self.plan),
            "compute": asdict(self.compute),
        }  # fmt: skip

    def rate(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Score n documents; null for a null or blank text, and where the model gives no finite number.

        Counts `truncated` texts. Raises what `raters.torch_model.load` raises.
        """
        loaded = load("AutoModelForSequenceClassification", self.model, self.compute)

        def outputs(ids_BT: Any, mask_BT: Any) -> Any:
            return self._scored(loaded.model(input_ids=ids_BT, attention_mask=mask_BT).logits.float())

        texts = batch.column("text").to_pylist()
        values, cut = window_means(loaded, texts, self.plan, self.compute, outputs, width=len(self.scores))
        columns = [score_column(column, *self._range()) for column in values.T]
        return with_counts(pa.record_batch(columns, names=[score.name for score in self.scores]), {"truncated": cut})

    def _range(self) -> tuple[float | None, float | None]:
        ranges: dict[Head, tuple[float | None, float | None]] = {
            "expectation": (0.0, self.outputs - 1.0), "regression": self.clamp or (None, None),
            "probability": (0.0, 1.0), "logits": (None, None),
        }  # fmt: skip
        return ranges[self.head]

    def _scored(self, logits_BK: Any) -> Any:
        """From logits of shape (B, k) to scores of shape (B, number of scores)."""
        if self.head == "expectation":
            return expected_class(logits_BK)[:, None]
        if self.head == "probability":
            return logits_BK.softmax(dim=-1)[:, self.index : self.index + 1]
        return logits_BK


def expected_class(logits_BK: Any) -> Any:
    """The mean of classes 0 to k - 1 under the softmax of logits: shape (B, k) to (B,), in [0, k - 1].

    The likeliest class would leave k levels and large ties; see arXiv 2504.14194 for the raters that this reads.
    """
    classes_K = import_torch().arange(logits_BK.shape[-1], device=logits_BK.device, dtype=logits_BK.dtype)
    return (logits_BK.softmax(dim=-1) * classes_K).sum(dim=-1)


def score_column(values: npt.NDArray[np.float64], low: float | None = None, high: float | None = None) -> pa.Array:
    """n values as float32, cut to a range, null where they are not finite."""
    cut = np.clip(values, -np.inf if low is None else low, np.inf if high is None else high)
    return pa.array(cut.astype(np.float32), mask=~np.isfinite(values))


class EncoderSettings(TorchSettings):
    """A sequence classifier from a local Hugging Face folder."""

    kind: Literal["encoder"] = "encoder"
    head: Head = Field(
        description="expectation: mean class; regression: the one output; probability: p(index); logits: all outputs"
    )
    labels: tuple[str, ...] = Field((), description="names of the scores of `logits`, in the order of the outputs")
    index: int = Field(1, ge=0, description="the class whose probability is the score")
    clamp: tuple[float, float] | None = Field(None, description="cut `regression` to this range, such as [0, 5]")
    better: Better = Field("high", description="which end of the score is the good one")
    windows: Windows = Field("truncate", description="truncate: the first max_length tokens; average: all, in windows")
    special_tokens: bool = Field(True, description="put the tokenizer's special tokens around each window")

    @model_validator(mode="after")
    def _fitting_together(self) -> "EncoderSettings":
        if self.labels and self.head != "logits":
            raise ValueError(f"labels name the outputs of head: logits, not of {self.head}, which gives one score")
        if self.clamp and (self.head != "regression" or self.clamp[0] >= self.clamp[1]):
            raise ValueError("clamp is a range [low, high] for head: regression")
        return self

    def rater(self, name: str, fitting: Fitting) -> EncoderRater:
        """Check that the folder is whole and gives as many outputs as the head reads."""
        compute = self.compute()
        model, config = self.local_model(fitting)
        check_outputs(self, config.num_labels, model.path)
        return EncoderRater(
            model, name, config.num_labels, self.head, self.labels, self.index, self.clamp, self.better,
            WindowPlan(self.max_length, self.windows, self.special_tokens), compute,
        )  # fmt: skip


def check_outputs(settings: EncoderSettings, outputs: int, where: str) -> None:
    """Raise ConfigError when a classifier does not give what the head reads."""
    head, wanted = settings.head, ""
    if head == "regression" and outputs != 1:
        wanted = "1 output; for classes use head: expectation or probability, for several numbers head: logits"
    elif head == "expectation" and outputs < 2:
        wanted = "2 or more classes; for one number use head: regression"
    elif head == "probability" and outputs < max(2, settings.index + 1):
        wanted = f"2 or more classes, one of them number {settings.index}; for one number use head: regression"
    elif head == "logits" and outputs != max(1, len(settings.labels)):
        wanted = f"as many outputs as labels, {len(settings.labels)}"
    if wanted:
        raise ConfigError(
            f"head: {head} does not fit this classifier", expected=wanted, found=f"{outputs} (num_labels)",
            where=where,
        )  # fmt: skip
