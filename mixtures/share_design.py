"""Which share vectors proxy models are trained on: seeded Dirichlet draws, single-share runs, repeats of equal shares.

A share vector is a point of the simplex: weights of scores, or shares of sources. Draws near the middle of the
simplex give nearly the same data and nearly the same loss; a few sparse vectors carry most of the information, hence
several concentrations. Repeats of equal shares under other training seeds measure the noise that any difference of
losses must exceed. Every other run trains under one seed, so differences of initial weights do not blur differences
of shares; the repeats hold that part too, and the noise they state is, if anything, too large.

A row depends on the seed, its name and the number of shares, and on nothing else: asking for more runs, other repeats
or the vertices keeps the rows that were there. NumPy may change its samplers between versions, so a design is stored
with its rows, and its hash says whether two are the same.

How it is used: `draw_design`, one proxy run a row, then `mixtures.share_runs.join_runs`.
"""

from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from corpus.config import Config
from corpus.errors import ConfigError
from corpus.fingerprints import fingerprint
from corpus.keyed_random import keyed_hashes

Floats = npt.NDArray[np.float64]
RunKind = Literal["dirichlet", "vertex", "uniform", "proportional"]
Concentration = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class DesignSettings(Config):
    """How many vectors of which kind."""

    runs: int = Field(
        64,
        ge=0,
        description="Dirichlet draws; 64 ranked mixtures well on RegMix's data, with noise below half the spread",
    )
    strata: tuple[Concentration, ...] = Field(
        (0.1, 0.3, 1.0),
        min_length=1,
        description="the concentration of draw i is strata[i mod length]; for 25 shares, .1 gives about 3 effective "
        "shares, .3 about 6 and 1 about 13",
    )
    vertices: bool = Field(False, description="also one run for each single share")
    repeats: int = Field(
        4,
        ge=0,
        description="runs of equal shares, the first under the seed of the others, later ones under the next",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="of the draws, and the training seed of all but the later repeats")


class DesignRow(Config):
    """One proxy run: its name, how its shares were drawn, the shares (they sum to one), and its training seed.

    `alpha` is the Dirichlet concentration, null for vertices and equal shares.
    """

    run_id: str
    kind: RunKind
    alpha: float | None
    shares: tuple[float, ...]
    seed: int


class Design(Config):
    """The runs to train: `d000`, `d001`, ... Dirichlet draws, `v00`, ... single shares, `u00`, ... the baseline."""

    n_shares: int
    rows: tuple[DesignRow, ...]

    @property
    def hash(self) -> str:
        """Identity of the rows, 16 hex digits: equal for equal names, shares and training seeds."""
        return fingerprint([self.n_shares, list(self.rows)])

    @property
    def shares(self) -> Floats:
        """All share vectors, shape (rows, n_shares)."""
        return np.array([row.shares for row in self.rows], np.float64)


def draw_design(n_shares: int, settings: DesignSettings) -> Design:
    """Draw the design for vectors of `n_shares` shares.

    Raises ConfigError for fewer than two shares, or for settings that ask for no run at all.

    Source: strata, vertices and repeats as in section 5.1 of the project's Meta-rater notes; arXiv 2504.14194 draws
    256 random vectors.
    """
    if n_shares < 2:
        raise ConfigError("shares cannot be learned for fewer than two things", found=f"{n_shares}")
    rows = [_drawn(i, n_shares, settings) for i in range(settings.runs)]
    if settings.vertices:
        corners = np.eye(n_shares)
        rows += [design_row(f"v{k:02d}", "vertex", corners[k], settings.seed) for k in range(n_shares)]
    equal = np.full(n_shares, 1 / n_shares)
    rows += [design_row(f"u{r:02d}", "uniform", equal, settings.seed + r) for r in range(settings.repeats)]
    if not rows:
        raise ConfigError("the design has no runs", fix="set runs or repeats above 0, or vertices: true")
    return Design(n_shares=n_shares, rows=tuple(rows))


def _drawn(i: int, n_shares: int, settings: DesignSettings) -> DesignRow:
    run_id, alpha = f"d{i:03d}", settings.strata[i % len(settings.strata)]
    random = np.random.Generator(np.random.PCG64(int(keyed_hashes(settings.seed, [run_id])[0])))
    shares = random.dirichlet(np.full(n_shares, alpha))
    return design_row(run_id, "dirichlet", shares / shares.sum(), settings.seed, alpha)


def design_row(run_id: str, kind: RunKind, shares: Floats, seed: int, alpha: float | None = None) -> DesignRow:
    """A row of a design."""
    return DesignRow(run_id=run_id, kind=kind, alpha=alpha, shares=tuple(shares.tolist()), seed=seed)
