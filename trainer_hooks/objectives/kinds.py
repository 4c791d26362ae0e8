"""The objectives a plan can name and their settings; a module without torch."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator

from corpus.config import Config

if TYPE_CHECKING:
    from trainer_hooks.objectives.base import Objective


class NextToken(Config):
    """Cross-entropy of the next token."""

    kind: Literal["next_token"] = "next_token"

    def make(self) -> "Objective":
        """The objective with these settings."""
        from trainer_hooks.objectives.base import Objective

        return Objective()


def _by_name(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


AnyObjective = Annotated[NextToken, BeforeValidator(_by_name)]
