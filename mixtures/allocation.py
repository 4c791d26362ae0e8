"""An allocation: exact tokens for each phase, component and quality band, and what bound each of them.

It is what a configuration comes to on what is there (mixtures/allocate.py), and all that a draw needs
(mixtures/draw.py). It is kept as JSON beside the visits: `allocation.model_dump_json()`,
`Allocation.model_validate_json`.
"""

from fractions import Fraction

from corpus.config import Config
from mixtures.config import Sequence
from mixtures.repeats import effective_epochs


class Band(Config):
    """A stream of visits: a component, or a quality band of it.

    Args:
        low, high: its ranks in the component, from 0 (worst) to 1.
        documents, available_tokens: what it holds, each document once.
        tokens: what it gives in each phase.
        weights: its exact share of the component in each phase.
    """

    low: Fraction
    high: Fraction
    documents: int
    available_tokens: int
    tokens: tuple[int, ...]
    weights: tuple[Fraction, ...]

    @property
    def epochs(self) -> float:
        """How often it is read over the run."""
        return sum(self.tokens) / self.available_tokens if self.available_tokens else 0.0


class Component(Config):
    """What one key of the mixture is given over the run.

    Args:
        name: the key; sources: those of the token shards it stands for.
        sequence: of its documents; by: the score its bands are cut by, None without bands.
        documents, available_tokens: what it holds in the bands that are read, each document once; under an upsampling
            curve all of it, as its cap counts.
        max_visits: the cap; tokens: given in all; bound: what decided that, phase by phase, for people.
    """

    name: str
    sources: tuple[str, ...]
    sequence: Sequence
    by: str | None
    documents: int
    available_tokens: int
    max_visits: float
    asked_tokens: int
    tokens: int
    bound: str
    bands: tuple[Band, ...]

    @property
    def epochs(self) -> float:
        """How often it is read: 1.45 means all of it once and 45 % of it twice."""
        return self.tokens / self.available_tokens if self.available_tokens else 0.0

    @property
    def effective_epochs(self) -> float:
        """What these epochs are worth in fresh text, by the law of arXiv 2305.16264."""
        return effective_epochs(self.epochs)


class PhaseRow(Config):
    """A component in a phase.

    Args:
        asked_share: what it asks for, all asks made to sum to one; asked_tokens: of the phase, rounded.
        start_share: at the phase's beginning, where a ramp begins; share: after the ramp.
        tokens: given; epochs: of what the phase reads of it.
        bound: what decided its share: asked, cap on visits, floor, ceiling, UniMax, the rest of others ...
    """

    component: str
    asked_share: Fraction
    asked_tokens: int
    start_share: Fraction
    share: Fraction
    tokens: int
    epochs: float
    bound: str


class PhaseAllocation(Config):
    """A phase: its length, the ramp at its beginning (a part of the length), and a row for each component."""

    name: str
    tokens: int
    ramp_tokens: int
    rows: tuple[PhaseRow, ...]


class Allocation(Config):
    """A mixture that can be had.

    Args:
        tokens: of the run.
        turns: tokens of a turn; None where documents are merged one by one.
        batch: turns of a batch, which come in keyed order; None where they come as the deadline rule has them.
        components: totals over the run; intervals: the phases in order.
        warnings: what is worth knowing, one sentence each.
    """

    tokens: int
    turns: int | None
    batch: int | None
    components: tuple[Component, ...]
    intervals: tuple[PhaseAllocation, ...]
    warnings: tuple[str, ...]

    @property
    def phases(self) -> tuple[str, ...]:
        """Names of the phases in order; one empty name for a mixture without phases."""
        return tuple(interval.name for interval in self.intervals)


def amount(tokens: float) -> str:
    """Tokens for people: 4.50 B."""
    for unit, size in (("T", 10**12), ("B", 10**9), ("M", 10**6)):
        if tokens >= size:
            return f"{tokens / size:.2f} {unit}"
    return f"{tokens:,.0f}"
