"""Kinds of feed-forward matrices a model can have: dense, or a product of structured factors (arXiv 2406.16450).

A module without torch; each kind makes its matrix (`make`), importing what it needs there. Parameters of a
1024 -> 4096 matrix: dense 4,194,304; low_rank of rank 256 and block_shuffle of 4 blocks 1,310,720; block_dense of
rank 512 and 4 blocks 2,228,224.

    feed_forward: {kind: block_shuffle, blocks: 4, guided_tokens: 500M}
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from corpus.config import Config, Count

if TYPE_CHECKING:
    from torch import nn


class Dense(Config):
    """Full matrices."""

    kind: Literal["dense"] = "dense"

    def parameters(self, inputs: int, outputs: int) -> int:
        """Parameters of a matrix from `inputs` to `outputs` features."""
        return inputs * outputs

    def problem(self, inputs: int, outputs: int) -> str | None:
        """Why there is no such matrix; None where there is."""
        return None

    def make(self, inputs: int, outputs: int) -> "nn.Module":
        """The matrix, as a module from (..., inputs) to (..., outputs)."""
        from torch import nn

        return nn.Linear(inputs, outputs, bias=False)


class Factored(Config):
    """What every product of factors has."""

    guided_tokens: Count | None = Field(
        None, description="tokens during which a dense matrix guides the factors, fading out; half the run is usual"
    )

    def parameters(self, inputs: int, outputs: int) -> int:
        """Parameters of the two factors from `inputs` to `outputs` features, without a guiding matrix."""
        raise TypeError(f"{type(self).__name__} does not define parameters")


class LowRank(Factored):
    """U V, both dense."""

    kind: Literal["low_rank"] = "low_rank"
    rank: int = Field(ge=1, description="features between the factors")

    def parameters(self, inputs: int, outputs: int) -> int:
        """rank (inputs + outputs)."""
        return self.rank * (inputs + outputs)

    def problem(self, inputs: int, outputs: int) -> str | None:
        """Why there is no such matrix; None where there is."""
        return None

    def make(self, inputs: int, outputs: int) -> "nn.Module":
        """The matrix, as a module from (..., inputs) to (..., outputs)."""
        from trainer_hooks.structured import LowRankLinear

        return LowRankLinear(inputs, outputs, self.rank, self.guided_tokens)


class BlockDense(Factored):
    """A block-diagonal factor, then a dense one."""

    kind: Literal["block_dense"] = "block_dense"
    rank: int = Field(ge=1, description="features between the factors, a multiple of blocks")
    blocks: int = Field(4, ge=1, description="blocks of the first factor; they divide its inputs")

    def parameters(self, inputs: int, outputs: int) -> int:
        """rank (inputs / blocks + outputs)."""
        return self.rank * (inputs // self.blocks + outputs)

    def problem(self, inputs: int, outputs: int) -> str | None:
        """Why there is no such matrix; None where there is."""
        return _uneven(self.blocks, inputs=inputs, rank=self.rank)

    def make(self, inputs: int, outputs: int) -> "nn.Module":
        """The matrix, as a module from (..., inputs) to (..., outputs)."""
        from trainer_hooks.structured import BlockDenseLinear

        return BlockDenseLinear(inputs, outputs, self.rank, self.blocks, self.guided_tokens)


class BlockShuffle(Factored):
    """Two block-diagonal factors with a shuffle between them, so that each block hears from all."""

    kind: Literal["block_shuffle"] = "block_shuffle"
    blocks: int = Field(4, ge=1, description="blocks of both factors; they divide inputs and outputs")

    def parameters(self, inputs: int, outputs: int) -> int:
        """min(inputs, outputs) / blocks x (inputs + outputs)."""
        return min(inputs, outputs) // self.blocks * (inputs + outputs)

    def problem(self, inputs: int, outputs: int) -> str | None:
        """Why there is no such matrix; None where there is."""
        return _uneven(self.blocks, inputs=inputs, outputs=outputs)

    def make(self, inputs: int, outputs: int) -> "nn.Module":
        """The matrix, as a module from (..., inputs) to (..., outputs)."""
        from trainer_hooks.structured import BlockShuffleLinear

        return BlockShuffleLinear(inputs, outputs, self.blocks, self.guided_tokens)


def _uneven(blocks: int, **features: int) -> str | None:
    named = [f"{name} ({size})" for name, size in features.items() if size % blocks]
    return f"{blocks} blocks do not divide {' and '.join(named)}" if named else None


def _by_name(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


AnyFeedForward = Annotated[
    Annotated[Dense | LowRank | BlockDense | BlockShuffle, Field(discriminator="kind")], BeforeValidator(_by_name)
]
