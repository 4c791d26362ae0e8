"""Texts as windows of tokens, and windows as padded batches of like lengths: how raters feed a torch model.

Padding is what short texts cost beside long ones, so windows are sorted by length before they are cut into batches,
and a batch holds as many as its longest one allows. Which windows meet in a batch depends on the record batch alone,
so scores are the same for any number of workers; padding moves them in the last bits only.

Shapes: B windows of a batch, T tokens of its longest, K outputs; n documents.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from raters.torch_model import Compute, LoadedModel, computing, import_torch

Windows = Literal["truncate", "average"]
"""`truncate`: the first `max_length` tokens only. `average`: all tokens, in windows weighted by their tokens."""


@dataclass(frozen=True)
class WindowPlan:
    """How a text becomes windows: at most `max_length` tokens each, inside special tokens or without any."""

    max_length: int = 512
    windows: Windows = "truncate"
    special_tokens: bool = True


OPENING = WindowPlan()


def length_batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Positions of `lengths` in batches: longest first, equal ones in their order, padded size <= `batch_tokens`.

    A batch holds at least one, so one that is longer than the budget stands alone.
    """
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= batch_tokens:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def padded(rows: Sequence[Sequence[int]], pad: int, device: str) -> tuple[Any, Any]:
    """Rows as two int64 tensors of shape (B, T): ids filled up on the right, and 1 where an id is a row's own."""
    torch = import_torch()
    longest = max(len(row) for row in rows)
    ids_BT = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows], device=device)
    mask_BT = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=device)
    return ids_BT, mask_BT


def token_ids(loaded: LoadedModel, texts: Sequence[str | None], limit: int | None = None) -> list[list[int]]:
    """The tokens of n texts without special ones, at most `limit` of each; none for a null or blank text."""
    filled = [i for i, text in enumerate(texts) if text and text.strip()]
    ids: list[list[int]] = [[] for _ in texts]
    if filled:
        cut = {"truncation": True, "max_length": limit} if limit else {}
        encoded = loaded.tokenizer([texts[i] for i in filled], add_special_tokens=False, verbose=False, **cut)
        for i, row in zip(filled, encoded["input_ids"], strict=True):
            ids[i] = row
    return ids


def window_means(
    loaded: LoadedModel,
    texts: Sequence[str | None],
    plan: WindowPlan,
    compute: Compute,
    outputs: Callable[[Any, Any], Any],
    *,
    width: int,
) -> tuple[npt.NDArray[np.float64], int]:
    """What `outputs` makes of each text, averaged over its windows, weighted by their tokens without special ones.

    Args:
        outputs: from ids and mask, both (B, T), to (B, K).
        width: K.

    Returns:
        Shape (n, K), NaN rows for texts without tokens; and the number of texts that were cut.
    """
    around = (loaded.prefix, loaded.suffix) if plan.special_tokens else ((), ())
    room = plan.max_length - len(around[0]) - len(around[1])
    ids = token_ids(loaded, texts, room + 1 if plan.windows == "truncate" else None)
    cut = sum(len(row) > room for row in ids) if plan.windows == "truncate" else 0
    if plan.windows == "truncate":
        ids = [row[:room] for row in ids]
    pieces = [(i, row[at : at + room]) for i, row in enumerate(ids) for at in range(0, len(row), room)]
    rows = [[*around[0], *piece, *around[1]] for _, piece in pieces]
    values = _computed(rows, loaded.pad, compute, outputs, width)
    sums = np.zeros((len(texts), width))
    weights = np.zeros(len(texts))
    for (i, piece), value in zip(pieces, values, strict=True):
        sums[i] += len(piece) * value
        weights[i] += len(piece)
    with np.errstate(invalid="ignore"):
        return sums / weights[:, None], cut


def _computed(
    rows: Sequence[Sequence[int]], pad: int, compute: Compute, outputs: Callable[[Any, Any], Any], width: int
) -> npt.NDArray[np.float64]:
    values = np.empty((len(rows), width))
    with computing(compute):
        for batch in length_batches([len(row) for row in rows], compute.batch_tokens):
            values[batch] = outputs(*padded([rows[i] for i in batch], pad, compute.device)).float().cpu().numpy()
    return values
