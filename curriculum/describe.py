"""What an order looks like: how sorted it is, where it ends, how scores and shares run along it, what is read again.

Every curve is over tokens, the axis a run is planned on: a visit that crosses the border of a band is split
there, so the shares are exact. The numbers feed the report; none of them changes an order.

How it is used: `describe(Order.open(folder).table())`.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from corpus.rank_correlation import spearman
from curriculum.order import codes_and_names

Floats = npt.NDArray[np.float64]


def describe(order: pa.Table, bands: int = 20) -> dict[str, Any]:
    """Measure an order (ORDER_SCHEMA, in reading order, at least one visit), as plain numbers ready for JSON.

    Returns:
        visits, scored_visits, tokens: counts.
        spearman: rank correlation of position and score over scored visits, ties averaged, in [-1, 1]; None where
            fewer than two are scored or all scores are equal.
        displacement_mean, displacement_p95: distance of scored visits from their place in the sort nearest to
            this order (ascending, or descending where spearman < 0), as a share of their number; None as above.
        score_mean, score_last_1_percent: token-weighted means over scored tokens; None where there are none.
        edges: bands + 1 shares of the token axis; score_by_position: per band as above;
        displacement_by_position: mean displacement of the scored visits that end in each band; None as above;
        source_share_by_position: for each source, its share of the tokens of each band.
        repeated_visits: visits of documents that were read before, pieces of one visit apart;
        repeat_distance: quantiles (in steps of 5 %) of the tokens from the end of a visit to the beginning of the
            same document's next one; None where nothing is read again.
        phases: name and tokens of each phase, in reading order.
    """
    lengths = order["length"].to_numpy().astype(np.float64)
    missing = order["score"].is_null().to_numpy()
    score = order["score"].fill_null(0.0).to_numpy().astype(np.float64)
    ends = np.cumsum(lengths)
    edges = np.linspace(0.0, ends[-1], bands + 1)
    last = np.array([0.99 * ends[-1], ends[-1]])
    return {
        "visits": order.num_rows,
        "scored_visits": int((~missing).sum()),
        "tokens": int(ends[-1]),
        **_sortedness(score[~missing], ends[~missing], edges),
        "score_mean": _mean_score(ends, lengths, score, missing, edges[[0, -1]])[0],
        "score_last_1_percent": _mean_score(ends, lengths, score, missing, last)[0],
        "edges": (edges / ends[-1]).tolist(),
        "score_by_position": _mean_score(ends, lengths, score, missing, edges),
        "source_share_by_position": _shares(order, ends, lengths, edges),
        **_repeats(order, ends, lengths),
        "phases": _phases(order, lengths),
    }


def _sortedness(values: Floats, ends: Floats, edges: Floats) -> dict[str, Any]:
    rho = spearman(np.arange(len(values)), values)
    if rho is None:
        return dict.fromkeys(("spearman", "displacement_mean", "displacement_p95", "displacement_by_position"))
    rows = np.argsort(values if rho >= 0 else -values, kind="stable")  # stable: equal scores are not out of place
    moved = np.empty(len(rows))
    moved[rows] = np.abs(rows - np.arange(len(rows))) / len(rows)
    band = np.clip(np.searchsorted(edges, ends, side="left") - 1, 0, len(edges) - 2)
    counts = np.bincount(band, minlength=len(edges) - 1)
    sums = np.bincount(band, weights=moved, minlength=len(edges) - 1)
    return {
        "spearman": rho,
        "displacement_mean": float(moved.mean()),
        "displacement_p95": float(np.quantile(moved, 0.95)),
        "displacement_by_position": [float(s / n) if n else None for s, n in zip(sums, counts, strict=True)],
    }


def _repeats(order: pa.Table, ends: Floats, lengths: Floats) -> dict[str, Any]:
    """How often a document is read again, and how long after; neighbours in a sort by (shard, doc) are its visits."""
    shard, doc, visit = (order[name].to_numpy() for name in ("shard", "doc", "visit"))
    rows = np.lexsort((np.arange(len(doc)), doc, shard))
    before, after = rows[:-1], rows[1:]
    same = (shard[before] == shard[after]) & (doc[before] == doc[after]) & (visit[before] != visit[after])
    distance = (ends - lengths)[after[same]] - ends[before[same]]
    quantiles = np.quantile(distance, np.linspace(0, 1, 21)).tolist() if len(distance) else None
    return {"repeated_visits": len(distance), "repeat_distance": quantiles}


def _phases(order: pa.Table, lengths: Floats) -> list[dict[str, Any]]:
    codes, names = codes_and_names(order["phase"])
    tokens = np.bincount(codes, weights=lengths, minlength=len(names))
    first = [int(np.argmax(codes == code)) for code in range(len(names))]
    return [{"name": names[code], "tokens": int(tokens[code])} for code in np.argsort(first, kind="stable").tolist()]


def _within(ends: Floats, mass: Floats, edges: Floats) -> Floats:
    """The mass between consecutive edges of the token axis, each visit's mass spread evenly over its tokens."""
    return np.diff(np.interp(edges, np.r_[0.0, ends], np.r_[0.0, np.cumsum(mass)]))


def _mean_score(
    ends: Floats, lengths: Floats, score: Floats, missing: npt.NDArray[np.bool_], edges: Floats
) -> list[float | None]:
    tokens = _within(ends, np.where(missing, 0.0, lengths), edges)
    mass = _within(ends, np.where(missing, 0.0, score * lengths), edges)
    return [float(m / t) if t > 0 else None for m, t in zip(mass, tokens, strict=True)]


def _shares(order: pa.Table, ends: Floats, lengths: Floats, edges: Floats) -> dict[str, list[float]]:
    codes, names = codes_and_names(order["source"])
    width = np.diff(edges)
    return {
        name: (_within(ends, np.where(codes == code, lengths, 0.0), edges) / width).tolist()
        for code, name in enumerate(names)
    }
