"""What the learned weights are worth, measured: proxies trained with them beside equal weights and random documents.

A regression predicts a gain; this measures it. The learned weights are trained on the seeds of the equal ones, so each
difference of losses is between two runs that started alike, and the interval is Student's t over those pairs.
"""

from collections.abc import Callable, Sequence

import pyarrow as pa

from corpus.config import Config
from pipelines.paired import Gain, Losses, gain, losses
from pipelines.proxies import ProxyResult


class Confirmation(Config):
    """Learned weights, equal weights and random documents, on the same seeds."""

    learned: Losses
    equal: Losses
    random: Losses
    over_equal: Gain
    over_random: Gain
    equal_over_random: Gain
    verdict: str


def conclude(results: Sequence[ProxyResult], target: Callable[[ProxyResult], float]) -> Confirmation:
    """Compare finished runs of the kinds `learned`, `uniform` and `random` by the target loss."""
    by_kind = {
        kind: {item.seed: target(item) for item in results if item.kind == kind and item.status == "finished"}
        for kind in ("learned", "uniform", "random")
    }
    over_equal = gain(by_kind["uniform"], by_kind["learned"])
    return Confirmation(
        learned=losses(by_kind["learned"].values()), equal=losses(by_kind["uniform"].values()),
        random=losses(by_kind["random"].values()), over_equal=over_equal,
        over_random=gain(by_kind["random"], by_kind["learned"]),
        equal_over_random=gain(by_kind["random"], by_kind["uniform"]), verdict=verdict(over_equal),
    )  # fmt: skip


def verdict(found: Gain, learned: str = "The learned weights", others: str = "equal ones") -> str:
    """One sentence that claims no more than the interval does, about what was learned and what it stands beside."""
    if found.mean is None:
        return f"{learned} were not trained and compared, so nothing is known of their gain."
    if found.low is None or found.high is None:
        return f"One pair of runs: a difference of {found.mean:+.4f} bits per byte, and no way to tell it from noise."
    interval = (
        f"{found.mean:+.4f} bits per byte, 95 % interval {found.low:+.4f} to {found.high:+.4f}, {found.pairs} pairs"
    )
    if not found.real:
        return f"{learned} are not distinguishable from {others} ({interval})."
    better = "better" if found.mean > 0 else "worse"
    return f"{learned} are {better} than {others} by measured loss ({interval})."


def runs_table(
    results: Sequence[ProxyResult], names: Sequence[str], target: Callable[[ProxyResult], float], prefix: str = "weight"
) -> pa.Table:
    """A row a run, by run id: what it was, its share of each name, what was selected, every loss and the target.

    Shares are columns `<prefix>_<name>`.
    """
    sources = sorted({source for item in results for source in item.losses})
    rows = [
        {
            "run_id": item.run_id, "kind": item.kind, "seed": item.seed, "status": item.status, "reason": item.reason,
            "subset": item.subset, "documents": item.documents, "tokens": item.tokens, "read_tokens": item.read_tokens,
            **{f"{prefix}_{name}": item.shares[i] if item.shares else None for i, name in enumerate(names)},
            **{f"loss_{source}": item.losses.get(source) for source in sources},
            "target": target(item) if item.status == "finished" else None,
        }
        for item in sorted(results, key=lambda item: item.run_id)
    ]  # fmt: skip
    texts, counts = ("run_id", "kind", "status", "reason", "subset"), ("seed", "documents", "tokens", "read_tokens")
    types = dict.fromkeys(texts, pa.string()) | dict.fromkeys(counts, pa.int64())
    return pa.Table.from_pylist(rows, pa.schema([(name, types.get(name, pa.float64())) for name in rows[0]]))
