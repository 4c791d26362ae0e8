"""Shapes of decoders by their size: 1M to 1B parameters, counted with the vocabulary they are asked for.

A vocabulary of 50,000 makes most of a small model, so a name stands for the shape that comes nearest to it with the
given vocabulary, and not for one shape. Heads are 64 wide (32 in the smallest); the largest share key heads, as
Llama 3.2 1B does, whose shape is the last here. With a vocabulary of 8,192 the names give:

    1M    2 x 96        10M   6 x 320       124M  17 x 768
    2M    4 x 128       20M   7 x 448       350M  28 x 1024
    5M    4 x 256       50M   9 x 640       1B    16 x 2048

and with 50,304 they are 12 x 768 for 124M and 24 x 1024 for 350M, while 1M and 2M are refused.

    model: 10M
    model: {preset: 124M, vocabulary: 50304, qk_norm: true}
"""

from typing import NamedTuple

SIZES = {
    "1M": 1_000_000, "2M": 2_000_000, "5M": 5_000_000, "10M": 10_000_000, "20M": 20_000_000, "50M": 50_000_000,
    "124M": 124_000_000, "350M": 350_000_000, "1B": 1_000_000_000,
}  # fmt: skip
TOLERANCE = 0.25
"""How far from its name a preset's size may be, as a share of it."""


class Shape(NamedTuple):
    """What a preset sets; the names are those of `ModelConfig`."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    intermediate: int


def _shape(layers: int, hidden: int, head_size: int = 64) -> Shape:
    """A feed-forward layer 8/3 as wide as the hidden size, rounded up to a multiple of 64."""
    heads = hidden // head_size
    return Shape(layers, hidden, heads, heads, head_size, -(-hidden * 8 // 3 // 64) * 64)


SHAPES = (
    *(_shape(layers, 64, 32) for layers in (2, 4)),
    *(_shape(layers, 96, 32) for layers in (2, 3, 5)),
    *(_shape(layers, 128) for layers in (2, 3, 4, 6)),
    *(_shape(layers, 192) for layers in (3, 4, 6)),
    *(_shape(layers, 256) for layers in (3, 4, 6)),
    *(_shape(layers, 320) for layers in (4, 5, 6, 8)),
    *(_shape(layers, 384) for layers in (5, 6, 8)),
    *(_shape(layers, 448) for layers in (6, 7, 9)),
    *(_shape(layers, 512) for layers in (6, 8, 10, 12)),
    *(_shape(layers, 640) for layers in (8, 9, 10, 12)),
    *(_shape(layers, 768) for layers in (10, 12, 15, 17)),
    *(_shape(layers, 1024) for layers in (20, 24, 28)),
    Shape(16, 2048, 32, 8, 64, 8192),
)
