"""Held-out loss: nats a token and bits a byte, over every token of a held-out set.

Bits a byte do not depend on the tokenizer, so runs with different vocabularies compare. The first token of a
set is never predicted; the bytes are scaled by that one token.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from corpus.errors import InputError
from corpus.fingerprints import fingerprint
from corpus.tokens import read_docs, read_token_shard
from trainer_hooks.model import Decoder

LN2 = log(2)


@dataclass(frozen=True)
class HeldOut:
    """Documents kept out of training: their tokens, shape (n,), and the bytes of text they stand for."""

    tokens: npt.NDArray[Any]
    n_bytes: int

    @classmethod
    def from_shards(cls, shards: Iterable[Path]) -> "HeldOut":
        """Read token shards whole. Raises InputError when they hold fewer than two tokens."""
        paths = list(shards)
        parts = [np.asarray(read_token_shard(path)) for path in paths]
        if sum(map(len, parts)) < 2:
            raise InputError(
                "the held-out set is empty",
                expected="token shards with at least two tokens",
                found=f"{len(paths)} shards",
            )
        n_bytes = sum(int(read_docs(path).column("n_bytes").to_numpy().sum()) for path in paths)
        return cls(np.concatenate(parts), n_bytes)

    def identity(self) -> str:
        """A fingerprint of the tokens and the byte count."""
        return fingerprint({"tokens": self.tokens.astype("<u4").tobytes(), "n_bytes": self.n_bytes})


@dataclass(frozen=True)
class Loss:
    """A held-out loss."""

    nats_per_token: float
    bits_per_byte: float


@torch.no_grad()
def evaluate(
    model: Decoder, heldout: HeldOut, sequence_length: int, batch_sequences: int, dtype: torch.dtype = torch.float32
) -> Loss:
    """The model's loss over every token of the set but the first, in windows of `sequence_length`.

    The set is cut into whole windows, each read from an empty context; the rest is one shorter window.
    """
    device = next(model.parameters()).device
    stream = torch.from_numpy(heldout.tokens.astype(np.int64))
    predicted, window = len(stream) - 1, sequence_length * batch_sequences
    total = 0.0
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        start = 0
        while start < predicted:
            size = min(window, predicted - start)
            size = size if size < sequence_length else size - size % sequence_length
            rows = -1 if size % sequence_length == 0 else 1
            ids = stream[start : start + size].view(rows, min(size, sequence_length))
            targets = stream[start + 1 : start + size + 1].view_as(ids)
            total += float(model.loss(ids.to(device), targets.to(device))) * size
            start += size
    nats = total / predicted
    return Loss(nats, nats * len(stream) / (LN2 * heldout.n_bytes))
