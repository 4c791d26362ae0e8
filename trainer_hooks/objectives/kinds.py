"""The objectives a plan can name and their settings; a module without torch."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from corpus.config import Config, Share

if TYPE_CHECKING:
    from trainer_hooks.objectives.base import Objective


class NextToken(Config):
    """Cross-entropy of the next token."""

    kind: Literal["next_token"] = "next_token"

    def make(self) -> "Objective":
        """The objective with these settings."""
        from trainer_hooks.objectives.base import Objective

        return Objective()


class Teacher(Config):
    """A model to learn from."""

    path: str = Field(description="a run folder, a checkpoint, an average's file, or an export")
    weights: str | None = Field(None, description="of a run: raw, or the name of an average; default: raw")


def _by_path(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


class Distill(Config):
    """Cross-entropy of the next token, mixed with the divergence from what teachers predict."""

    kind: Literal["distill"] = "distill"
    teachers: tuple[Annotated[Teacher, BeforeValidator(_by_path)], ...] = Field(
        min_length=1, description="models of the same vocabulary, by path; several are read as one ensemble"
    )
    weight: Share = Field(0.5, description="w: the part of the loss that is the teachers'")
    temperature: float = Field(1.0, gt=0, description="T: what logits are divided by in the teachers' part")

    def make(self) -> "Objective":
        """The objective with these settings; loads the teachers."""
        from trainer_hooks.objectives.distill import DistillObjective

        return DistillObjective(self)


def _by_name(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


AnyObjective = Annotated[Annotated[NextToken | Distill, Field(discriminator="kind")], BeforeValidator(_by_name)]
