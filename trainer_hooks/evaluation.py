"""Held-out loss: nats a token and bits a byte, over every token of a held-out set.

Bits a byte do not depend on the tokenizer, so runs with different vocabularies compare. The first token of a
set is never predicted; the bytes are scaled by that one token. The standard error is over documents: the tokens of
one document are no independent measurements.

    loss = evaluate(model, HeldOut.from_shards(shards), sequence_length=256, batch_sequences=16)
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import log, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from corpus.errors import InputError
from corpus.fingerprints import fingerprint
from trainer_hooks.linear_loss import IGNORED
from trainer_hooks.parallel import Parallel

LN2 = log(2)
ALONE = Parallel()


@dataclass(frozen=True)
class HeldOut:
    """Documents kept out of training.

    Args:
        tokens: shape (n,), the documents one after the other.
        n_bytes: of the text they stand for.
        lengths: tokens of each document, shape (documents,), which sum to n; None where they are not known.
    """

    tokens: npt.NDArray[Any]
    n_bytes: int
    lengths: npt.NDArray[np.int64] | None = None

    @classmethod
    def from_shards(cls, shards: Iterable[Path]) -> "HeldOut":
        """Read token shards whole. Raises InputError when they hold fewer than two tokens."""
        from corpus.tokens import read_docs, read_token_shard

        paths = list(shards)
        parts = [np.asarray(read_token_shard(path)) for path in paths]
        if sum(map(len, parts)) < 2:
            raise InputError(
                "the held-out set is empty",
                expected="token shards with at least two tokens",
                found=f"{len(paths)} shards",
            )
        docs = [read_docs(path) for path in paths]
        n_bytes = sum(int(table.column("n_bytes").to_numpy().sum()) for table in docs)
        lengths = np.concatenate([table.column("length").to_numpy() for table in docs]).astype(np.int64)
        return cls(np.concatenate(parts), n_bytes, lengths)

    def ends(self) -> npt.NDArray[np.int64]:
        """Where each document ends, shape (documents,); all of the set is one where they are not known."""
        return np.cumsum(self.lengths if self.lengths is not None else [len(self.tokens)], dtype=np.int64)

    def predicted(self) -> npt.NDArray[np.int64]:
        """Tokens of each document that are predicted, shape (documents,): all but the set's first one."""
        ends = self.ends()
        counts = np.diff(ends, prepend=0)
        counts[np.searchsorted(ends, 0, side="right")] -= 1
        return counts

    def identity(self) -> str:
        """A fingerprint of the tokens and the byte count."""
        return fingerprint({"tokens": self.tokens.astype("<u4").tobytes(), "n_bytes": self.n_bytes})


@dataclass(frozen=True)
class Loss:
    """A held-out loss; lower is better.

    Args:
        standard_error: of the nats a token, over documents; None where there are fewer than two.
    """

    nats_per_token: float
    bits_per_byte: float
    standard_error: float | None = None


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside the block the model is in evaluation mode and nothing is recorded for gradients; then all is as before."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def evaluate(
    model: nn.Module,
    heldout: HeldOut,
    sequence_length: int,
    batch_sequences: int,
    dtype: torch.dtype = torch.float32,
    parallel: Parallel = ALONE,
) -> Loss:
    """The model's loss over every token of the set but the first, in windows of `sequence_length`.

    Arguments as of `document_nats`.
    """
    return loss_of(document_nats(model, heldout, sequence_length, batch_sequences, dtype, parallel), heldout)


def document_nats(
    model: nn.Module,
    heldout: HeldOut,
    sequence_length: int,
    batch_sequences: int,
    dtype: torch.dtype = torch.float32,
    parallel: Parallel = ALONE,
) -> npt.NDArray[np.float64]:
    """Nats of each document of a set, shape (documents,): of all its tokens, but not of the set's first one.

    The set is cut into whole windows, each read from an empty context; the rest is one shorter window. The model,
    its mode and the random numbers are afterwards what they were.

    Args:
        model: called as model(ids, targets), it returns a sum and each target's loss, as `Decoder` does.
        dtype: of matrix products.
        parallel: ranks that share the windows; every rank gets the sums over all of them.
    """
    device = next(model.parameters()).device
    ends = heldout.ends()
    sums = torch.zeros(len(ends), dtype=torch.float64)
    with evaluating(model), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        for start, ids, targets in _shared(heldout.tokens, sequence_length, batch_sequences, parallel):
            _, losses = model(ids.to(device), targets.to(device))
            positions = np.arange(start + 1, start + 1 + len(losses))
            if (targets != IGNORED).all():
                document = torch.from_numpy(np.searchsorted(ends, positions, side="right"))
                sums.index_add_(0, document, losses.cpu().double())
    found: npt.NDArray[np.float64] = parallel.sum(sums.to(device)).cpu().numpy()
    return found


def loss_of(sums: npt.NDArray[np.float64], heldout: HeldOut) -> Loss:
    """The loss of a set from its documents' nats."""
    counts, predicted = heldout.predicted(), len(heldout.tokens) - 1
    nats = float(sums.sum()) / predicted
    read = counts > 0
    n, off = int(read.sum()), (sums - nats * counts)[read]
    error = sqrt(n / (n - 1) * float(off @ off)) / predicted if n > 1 else None  # of a ratio of two sums
    return Loss(nats, nats * len(heldout.tokens) / (LN2 * heldout.n_bytes), error)


def _shared(
    tokens: npt.NDArray[Any], sequence_length: int, batch_sequences: int, parallel: Parallel
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """Every n-th batch of windows, for this rank of n: where it starts, its inputs, its targets.

    Each rank gets equally many, because a model spread over ranks computes only together; a batch that fills up
    the last round predicts nothing.
    """
    stream = torch.from_numpy(tokens.astype(np.int64))
    predicted, most = len(stream) - 1, sequence_length * batch_sequences
    whole = predicted - predicted % sequence_length
    spans = [(start, min(most, whole - start)) for start in range(0, whole, most)]
    if whole < predicted:
        spans.append((whole, predicted - whole))
    for first in range(0, len(spans), parallel.world):
        mine = first + parallel.rank
        start, size = spans[min(mine, len(spans) - 1)]
        ids = stream[start : start + size].view(-1, min(size, sequence_length))
        targets = stream[start + 1 : start + size + 1].view_as(ids)
        yield start, ids, targets if mine < len(spans) else torch.full_like(targets, IGNORED)
