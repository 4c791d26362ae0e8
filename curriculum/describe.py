"""What an order looks like: how sorted it is, where it ends, and how scores and shares run along it.

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
        source_share_by_position: for each source, its share of the tokens of each band.
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
        **_sortedness(score[~missing]),
        "score_mean": _mean_score(ends, lengths, score, missing, edges[[0, -1]])[0],
        "score_last_1_percent": _mean_score(ends, lengths, score, missing, last)[0],
        "edges": (edges / ends[-1]).tolist(),
        "score_by_position": _mean_score(ends, lengths, score, missing, edges),
        "source_share_by_position": _shares(order, ends, lengths, edges),
    }


def _sortedness(values: Floats) -> dict[str, float | None]:
    rho = spearman(np.arange(len(values)), values)
    if rho is None:
        return {"spearman": None, "displacement_mean": None, "displacement_p95": None}
    rows = np.argsort(values if rho >= 0 else -values, kind="stable")  # stable: equal scores are not out of place
    moved = np.abs(rows - np.arange(len(rows))) / len(rows)
    return {
        "spearman": rho,
        "displacement_mean": float(moved.mean()),
        "displacement_p95": float(np.quantile(moved, 0.95)),
    }


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
