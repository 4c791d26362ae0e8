"""RegMix: which mixtures small proxies train on, and the best mixture learned from their losses.

A design draws mixtures around the flattened natural one, from nearly single sources to nearly the flattened mixture
itself, and drops what would read a source far above its natural share. The losses are regressed and searched by
`mixtures.learned_shares`, the same code that learns weights of scores: trees where they predict best, closed forms
where runs are few. The baseline that learned shares have to beat is the natural mixture, repeated under other seeds.

Evidence: on the published runs (512 proxies of 1M parameters, 17 sources) predictions rank 256 mixtures at 60M
parameters at .97 and more from 256 proxies on, and the learned mixture is predicted to beat every one of the 512 there
(`benchmarks/results/regmix.md`). What a ranking at 60M is worth at the size of a real run is not known from them. Cost:
one proxy a row of the design; the search takes seconds.

How it is used: `draw_mixtures(prior, settings)`, one proxy a row, `join_runs`, then `learn_shares` in `mixture_space`.

Source: arXiv 2407.01492 and its released code (sail-sg/regmix): temperature .5 on the prior, 15 strengths from .1 to 5,
at most 15 times the prior, nothing below 2e-4.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from corpus.config import Config
from corpus.errors import ConfigError
from corpus.keyed_random import keyed_hashes
from mixtures.share_design import Design, DesignRow, Floats, design_row
from mixtures.share_search import SearchSettings
from mixtures.share_space import ShareSpace

ATTEMPTS = 10_000
PROPORTIONAL: Literal["proportional"] = "proportional"
SEARCH = SearchSettings(candidates=100_000, best=128, concentrations=(0.1, 0.3, 1.0))
"""On the published runs a search of concentration 1 alone ends in a worse mixture than the best of the 512."""


class MixtureDesign(Config):
    """How many mixtures are tried, and how far they stray from the natural one."""

    runs: int = Field(64, ge=0, description="mixtures drawn; RegMix used 512, 64 ranked well on its data")
    power: float = Field(0.5, gt=0, le=1, description="the centre is prior^power, normalised: below 1 lifts the small")
    lowest_strength: float = Field(0.1, gt=0, allow_inf_nan=False, description="of the Dirichlet draws: sparse ones")
    highest_strength: float = Field(5.0, gt=0, allow_inf_nan=False, description="of the Dirichlet draws: dense ones")
    strengths: int = Field(15, ge=1, description="steps from the lowest to the highest, equal in their logarithm")
    most: float = Field(15.0, gt=1, allow_inf_nan=False, description="a draw with a share above this times its prior "
                        "is drawn again")  # fmt: skip
    floor: float = Field(2e-4, ge=0, lt=0.01, description="shares below it become 0, others multiples of it; 0: off")
    repeats: int = Field(4, ge=0, description="runs of the natural mixture, the first under the seed of the others")
    seed: int = Field(0, ge=0, lt=2**32, description="of the draws, and the training seed of all but later repeats")

    @model_validator(mode="after")
    def _rising(self) -> "MixtureDesign":
        if self.lowest_strength > self.highest_strength:
            raise ValueError(f"lowest_strength {self.lowest_strength:g} is above highest_strength")
        if not self.runs + self.repeats:
            raise ValueError("the design has no runs: set runs or repeats above 0")
        return self


def natural_shares(tokens: Mapping[str, int]) -> Floats:
    """Each source by its tokens, shape (K,). Raises ConfigError for fewer than two sources, or an empty one."""
    held = np.array(list(tokens.values()), np.float64)
    if len(held) < 2 or held.min() <= 0:
        raise ConfigError(
            "a mixture cannot be learned for these sources",
            expected="two or more sources, each with tokens",
            found=", ".join(f"{name}: {n:,}" for name, n in tokens.items()) or "none",
        )
    return held / held.sum()


def flattened(prior: Floats, power: float) -> Floats:
    """prior^power, normalised; shape (K,)."""
    lifted: Floats = prior**power
    return lifted / lifted.sum()


def draw_mixtures(prior: Floats, settings: MixtureDesign, caps: Floats | None = None) -> Design:
    """Draw the design: `d000`, ... mixtures, `u00`, ... the natural one under other training seeds.

    Args:
        prior: shape (K,), natural shares, each above zero, summing to one.
        caps: shape (K,), shares no proxy can have, because its source holds too few tokens.

    A mixture depends on the seed, its name, the prior and the caps, and on the mixtures before it in so far as none is
    drawn twice: a larger design keeps the rows of a smaller one.

    Raises: ConfigError when no draw keeps the bounds.
    """
    bound = np.minimum(1.0, settings.most * prior)
    bound = bound if caps is None else np.minimum(bound, caps)
    centre = flattened(prior, settings.power)
    rows: list[DesignRow] = []
    seen: set[tuple[float, ...]] = set()
    for i in range(settings.runs):
        row = _drawn(f"d{i:03d}", centre, bound, settings, seen)
        seen.add(row.shares)
        rows.append(row)
    natural = [design_row(f"u{r:02d}", PROPORTIONAL, prior, settings.seed + r) for r in range(settings.repeats)]
    return Design(n_shares=len(prior), rows=(*rows, *natural))


def _drawn(
    run_id: str, centre: Floats, bound: Floats, settings: MixtureDesign, seen: set[tuple[float, ...]]
) -> DesignRow:
    random = np.random.Generator(np.random.PCG64(int(keyed_hashes(settings.seed, [run_id])[0])))
    steps = np.geomspace(settings.lowest_strength, settings.highest_strength, settings.strengths)
    for _ in range(ATTEMPTS):
        strength = float(steps[random.integers(len(steps))])
        shares = random.dirichlet(strength * centre)
        if not np.isfinite(shares).all() or np.any(shares > bound):
            continue
        row = design_row(run_id, "dirichlet", _rounded(shares, settings.floor), settings.seed, strength)
        if row.shares not in seen:
            return row
    raise ConfigError(
        f"no draw of {ATTEMPTS:,} keeps every share within its bound",
        expected="shares up to " + ", ".join(f"{share:.3g}" for share in bound),
        fix="raise design.most or design.highest_strength, or give proxies fewer tokens so that small sources last",
    )


def _rounded(shares: Floats, floor: float) -> Floats:
    """Shares below the floor at 0, the others at multiples of it, then normalised."""
    if floor:
        kept = np.where(shares < floor, 0.0, shares)
        shares = np.round(kept / kept.sum() / floor) * floor
    return shares / shares.sum()


def mixture_space(prior: Floats, design: MixtureDesign, caps: Floats) -> ShareSpace:
    """Where the best mixture is searched: around the design's centre, under caps, against the natural mixture."""
    return ShareSpace(PROPORTIONAL, prior, flattened(prior, design.power), caps)
