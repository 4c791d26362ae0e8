"""What packing costs an order: padding, cuts, how far documents move, and how much order is left between sequences.

`blur` is the share of the score's variance over tokens that lies inside sequences: 0 where each sequence holds one
score, 1 where all sequences have the same mean and no order is left between them. Any packing blurs, because a
sequence holds several documents; the same numbers for `concat` at the same length say how much of it is the packer's.

How it is used: `packing_report(packed, lengths, order.table(["score"])["score"])`; numbers ready for JSON.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from corpus.rank_correlation import spearman
from curriculum.packing import Ints, PackConfig, Packed, pack, score_mass


def packing_report(packed: Packed, lengths: Ints, scores: pa.Array | pa.ChunkedArray) -> dict[str, Any]:
    """Measure a packing of visits with these lengths and scores, both in the order's sequence; null: not scored.

    Returns:
        sequences, tokens, padding_tokens: counts; fill: tokens / (sequences x T), in (0, 1].
        cuts: borders of sequences inside documents; documents_cut: visits in two or more pieces, of which
            documents_longer had to be, for they hold more than T tokens; cropped_tokens: lost tokens.
        displacement: how far visits begin from where the order has them, as mean, p95 and max, in `visits` and in
            `tokens` of the stream without padding.
        blur, spearman: see above, and the rank correlation of a sequence's place and its token-weighted mean score,
            over sequences with scored tokens; blur_concat, spearman_concat: the same for the stream as ordered, cut
            every T tokens. None where undefined: nothing is scored, or all scores are equal.
    """
    lengths = np.asarray(lengths, np.int64)
    tokens, room = packed.n_tokens, packed.n_sequences * packed.sequence_tokens
    plain = pack(lengths, PackConfig(packer="concat", sequence_tokens=packed.sequence_tokens))
    blur, rho = _order_left(packed, scores)
    blur_concat, rho_concat = _order_left(plain, scores)
    pieces = np.bincount(packed.visit, minlength=len(lengths))
    return {
        "sequences": packed.n_sequences,
        "tokens": tokens,
        "padding_tokens": room - tokens,
        "fill": tokens / room,
        "cuts": len(packed.visit) - int(np.count_nonzero(pieces)),
        "documents_cut": int(np.count_nonzero(pieces > 1)),
        "documents_longer": int(np.count_nonzero(lengths > packed.sequence_tokens)),
        "cropped_tokens": int(lengths.sum()) - tokens,
        "displacement": _displacement(packed, lengths),
        "blur": blur,
        "blur_concat": blur_concat,
        "spearman": rho,
        "spearman_concat": rho_concat,
    }


def _displacement(packed: Packed, lengths: Ints) -> dict[str, dict[str, float]]:
    begins = packed.offset == 0
    visit = packed.visit[begins]
    moved = np.abs(np.arange(len(visit)) - visit)
    now = (np.cumsum(packed.length, dtype=np.int64) - packed.length)[begins]
    before = (np.cumsum(lengths) - lengths)[visit]
    return {"visits": _spread(moved), "tokens": _spread(np.abs(now - before))}


def _spread(moved: Ints) -> dict[str, float]:
    return {"mean": float(moved.mean()), "p95": float(np.quantile(moved, 0.95)), "max": int(moved.max())}


def _order_left(packed: Packed, scores: pa.Array | pa.ChunkedArray) -> tuple[float | None, float | None]:
    """Blur, and the rank correlation of place and mean score."""
    tokens, mass = score_mass(packed, scores)
    place = np.flatnonzero(tokens)
    if not len(place):
        return None, None
    tokens, means = tokens[place], mass[place] / tokens[place]
    value = scores.to_numpy(zero_copy_only=False) if isinstance(scores, pa.Array) else scores.to_numpy()
    each = np.asarray(value, np.float64)[packed.visit]  # a score that is null reads as NaN, and weighs nothing
    rated = np.isfinite(each)
    centre = mass.sum() / tokens.sum()
    whole = float(((each[rated] - centre) ** 2 * packed.length[rated]).sum())
    between = float(((means - centre) ** 2 * tokens).sum())
    blur = min(1.0, max(0.0, 1 - between / whole)) if whole > 0 else None
    return blur, spearman(place, means)
