"""Log-likelihoods of continuations under a language model, many at a time, batched by length.

The model is called as `model(ids, targets)` and returns a sum and each target's loss: `Decoder` does, and `LogitModel`
makes any model that gives logits do so. Right-hand padding does not reach earlier tokens of a causal model, so a
score does not depend on the batch it was computed in, up to rounding.

    likelihoods = Likelihoods(model, load_encoder(tokenizer), context=1024)
    likelihoods.of([("The sky is", " blue"), ("The sky is", " glue")])
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from corpus.errors import InputError
from corpus.tokenizer import Encoder
from trainer_hooks.evals.items import Text
from trainer_hooks.evaluation import evaluating
from trainer_hooks.linear_loss import IGNORED

Logits = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Likelihood:
    """log p(continuation | context) in nats, at most 0, over so many tokens, of so many bytes of UTF-8."""

    log_p: float
    tokens: int
    n_bytes: int


@dataclass(frozen=True)
class Likelihoods:
    """A model that is asked for likelihoods.

    Args:
        model: a language model, called as model(ids, targets).
        encoder: its tokenizer.
        context: the longest sequence it reads, in tokens.
        batch_tokens: tokens of a batch, padding included; one sequence may be longer.
        dtype: of matrix products.
    """

    model: nn.Module
    encoder: Encoder
    context: int
    batch_tokens: int = 8192
    dtype: torch.dtype = torch.float32

    def of(self, texts: Sequence[Text]) -> list[Likelihood | None]:
        """The likelihood of each continuation after its context, in the order given; None for one that does not fit."""
        encoded = [self.encode(*text) for text in texts]
        fitting = [i for i, (context, continuation) in enumerate(encoded) if self._fits(context, continuation)]
        found: list[Likelihood | None] = [None] * len(texts)
        device = next(self.model.parameters()).device
        with evaluating(self.model), torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32):
            for rows in self._batches(fitting, encoded):
                for i, log_p in zip(rows, self._log_ps([encoded[i] for i in rows], device), strict=True):
                    scored = trailing_blanks(texts[i][0]) + texts[i][1]
                    found[i] = Likelihood(log_p, len(encoded[i][1]), len(scored.encode("utf-8", "surrogatepass")))
        return found

    def encode(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """The tokens of a context and of its continuation, neither empty unless its text is.

        Blanks at the end of a context are moved to the continuation, since tokenizers join a blank to the word after
        it. The two are encoded together, as running text would be; where a token would reach over the border they are
        encoded apart, so that exactly the continuation is scored. An empty context is the end-of-text token, which
        stands before every document. Raises InputError for a continuation that has no tokens.
        """
        moved = trailing_blanks(context)
        context, continuation = context[: len(context) - len(moved)], moved + continuation
        before, both, after = (
            ids.tolist() for ids in self.encoder.encode([context, context + continuation, continuation])
        )
        if not after:
            raise InputError("the tokenizer makes no token of a continuation", found=repr(continuation))
        if not before:
            return [self.encoder.end_of_text], after
        joined = both[: len(before)] == before and len(both) > len(before)
        return before, both[len(before) :] if joined else after

    def _fits(self, context: list[int], continuation: list[int]) -> bool:
        return len(context) + len(continuation) - 1 <= self.context

    def _batches(self, rows: list[int], encoded: list[tuple[list[int], list[int]]]) -> Iterator[list[int]]:
        """Rows of like length together, the longest first, so that memory runs out at once or never."""
        sizes = {i: len(encoded[i][0]) + len(encoded[i][1]) - 1 for i in rows}
        batch: list[int] = []
        for i in sorted(rows, key=lambda i: (-sizes[i], i)):
            if batch and (len(batch) + 1) * sizes[batch[0]] > self.batch_tokens:
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    def _log_ps(self, rows: list[tuple[list[int], list[int]]], device: torch.device) -> list[float]:
        longest = max(len(context) + len(continuation) for context, continuation in rows) - 1
        ids = torch.full((len(rows), longest), self.encoder.end_of_text, dtype=torch.int64)
        targets = torch.full_like(ids, IGNORED)
        for row, (context, continuation) in enumerate(rows):
            whole = torch.tensor(context + continuation)
            ids[row, : len(whole) - 1] = whole[:-1]
            targets[row, len(context) - 1 : len(whole) - 1] = whole[len(context) :]
        _, losses = self.model(ids.to(device), targets.to(device))
        log_ps: list[float] = (-losses.view(len(rows), longest).double().sum(1)).tolist()
        return log_ps


class LogitModel(nn.Module):
    """A model that gives logits (B, T, V) for ids (B, T), called as `Decoder` is."""

    def __init__(self, model: nn.Module, logits: Logits) -> None:
        super().__init__()
        self.model, self._logits = model, logits

    def forward(self, ids_BT: torch.Tensor, targets_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The sum of losses and each target's loss (B T,), in nats, 0 where nothing is predicted."""
        logits_NV = self._logits(ids_BT).flatten(0, 1).float()
        losses_N = F.cross_entropy(logits_NV, targets_BT.flatten(), ignore_index=IGNORED, reduction="none")
        return losses_N.sum(), losses_N


def trailing_blanks(text: str) -> str:
    """The whitespace at the end of a text."""
    return text[len(text.rstrip()) :]
