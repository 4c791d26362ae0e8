"""How often the verdict on learned shares is right: surfaces whose truth is known, simulated runs.

Four surfaces over 25 shares: noise alone; one where equal shares are best although losses can be predicted; one that
falls linearly and one that falls concavely with shares of unlike importance. On the first two a claim is a false one.
Noise is half the surface's spread, and gains are in units of that spread: the true gain of the learned shares, what the
full fit predicts, and what is reported after optimism is taken off.

Run it:  python -m benchmarks.learned_shares [simulations]
"""

import sys
from collections.abc import Callable

import numpy as np

from benchmarks.filters import machine
from mixtures.learned_shares import LearnSettings, learn_shares
from mixtures.share_design import DesignSettings, draw_design
from mixtures.share_runs import join_runs
from mixtures.share_search import SearchSettings
from mixtures.share_selection import spearman

K = 25
Surface = Callable[[np.ndarray], np.ndarray]
SETTINGS = LearnSettings(
    regressors=("ridge", "ridge_sqrt", "gaussian_process"), search=SearchSettings(candidates=50_000, best=32)
)


def surfaces(seed: int) -> dict[str, tuple[Surface, np.ndarray | None]]:
    """Each surface and the importance of its shares; none where no share matters more than another."""
    slopes = np.random.default_rng(seed + 1000).permutation(np.linspace(0, 1, K))
    return {
        "noise alone": (lambda x: 0 * x[:, 0], None),
        "equal is best": (lambda x: -np.sqrt(x).sum(axis=1), None),
        "linear": (lambda x: -x @ slopes, slopes),
        "concave": (lambda x: -np.sqrt(x) @ slopes, slopes),
    }


def main() -> None:
    """Simulate and print; fail if more than a tenth of the claims on a surface without a gain are made."""
    simulations = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    print(f"{simulations} simulations a line, {K} shares, ridge and Gaussian process; {machine()}")
    headings = ("claims", "true gain", "predicted", "reported", "rank of shares")
    print(f"{'surface':<14}{'runs':>5}" + "".join(f"{heading:>15}" for heading in headings))
    false = 0.0
    for runs in (64, 128):
        for name in surfaces(0):
            found = np.array([one(name, runs, seed) for seed in range(simulations)])
            claims, true, predicted, reported, rank = found.mean(axis=0)
            print(f"{name:<14}{runs:>5}{claims:>15.0%}{true:>15.2f}{predicted:>15.2f}{reported:>15.2f}", end="")
            print(f"{'' if np.isnan(rank) else f'{rank:.2f}':>15}", flush=True)
            false = max(false, claims) if np.isnan(rank) else false
    if false > 0.1:
        sys.exit(f"{false:.0%} of the verdicts claim a gain where there is none")


def one(name: str, runs: int, seed: int) -> tuple[float, ...]:
    """Whether a gain is claimed; its truth, prediction and report; rank correlation of shares with importance."""
    surface, importance = surfaces(seed)[name]
    design = draw_design(K, DesignSettings(runs=runs, seed=seed))
    true = surface(design.shares)
    spread = float(true[:runs].std()) or 1.0
    losses = true + (1.0 if name == "noise alone" else 0.5) * spread * np.random.default_rng(seed).normal(
        size=len(true)
    )
    results = dict(zip([row.run_id for row in design.rows], losses.tolist(), strict=True))
    learned = learn_shares([f"s{i:02d}" for i in range(K)], join_runs(design, results), SETTINGS)
    shares = np.array([one.share for one in learned.shares])
    equal, at = surface(np.vstack([np.full(K, 1 / K), shares])).tolist()
    rank = float("nan") if importance is None else spearman(importance, shares)
    gains = (equal - at, learned.predicted_gain, learned.gain.value or float("nan"))
    return float(learned.distinguishable), *(gain / spread for gain in gains), rank


if __name__ == "__main__":
    main()
