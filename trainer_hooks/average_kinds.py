"""Averages a plan can ask for, as written and as resolved; a module without torch.

A run follows any number of averages at once, each under a name. What is common to all of them: a resolved average
knows the optimizer steps after which it takes the model's weights in (`takes`), and the running object it makes
(`averager`) keeps float32 tensors that are saved with every checkpoint.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from corpus.config import Config
from trainer_hooks.lengths import Length, LengthValue


class LastCheckpoints(Config):
    """The weighted mean of the last checkpoints of the run."""

    kind: Literal["sma", "ema", "ema_debiased", "wma"] = Field(
        "sma", description="sma, ema (started at the oldest), ema_debiased or wma"
    )
    last: int = Field(
        default=6, ge=1, description="how many checkpoints are averaged; the newest is the end of the run"
    )
    window: Length = Field(
        default=LengthValue(share=0.1), description="tokens from the oldest averaged checkpoint to the end of the run"
    )
    alpha: float = Field(default=0.2, gt=0, le=1, description="share of the newest checkpoint in each ema update")


AnyAverage = LastCheckpoints


def named(value: Any) -> Any:
    """Let one average stand for a mapping of one, under the name of its kind; `none` and null are no average."""
    if value is None or value == {"kind": "none"}:
        return {}
    if isinstance(value, dict) and ("kind" in value or not all(isinstance(item, dict) for item in value.values())):
        return {str(value.get("kind", "sma")): value}
    return value


Averages = Annotated[dict[str, AnyAverage], BeforeValidator(named)]


class ResolvedAverage(Config):
    """An average in whole tokens."""

    average: AnyAverage
    marks: tuple[int, ...] = Field((), description="token positions of the averaged checkpoints, oldest first")
    coefficients: tuple[float, ...] = Field((), description="their weights in the average, summing to 1")

    def takes(self, tokens: int) -> bool:
        """Whether the weights after so many tokens enter the average."""
        return tokens in self.marks
