"""How much old data continued training reads, to the place of every batch, and published recipes for it as numbers.

Replay keeps a share of an earlier mixture in a later phase. The total is fixed: x of it is old, the rest new, in
every batch (the compute-equivalent rule). Replay on top of all new data is another experiment, with more compute:
25 % on top is 1.33 times as much. Old data keeps its original order; only how many of it come is decided here.

How it is used: `Replay(WEAK_SHIFT).split(300 * 10**9)`; `Replay(STRONG_SHIFT).counts(batch=512, batches=1000)`.

Source: arXiv 2403.08763.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from corpus.config import nearest
from mixtures.shares import MixtureError, Number, finite, normalised

WEAK_SHIFT = Fraction(1, 20)
"""Replay for a weak shift, such as one English web text to another: 78 % of the forgetting is gone in the losses of
2403.08763 at 405M (secondary); .5 % already removes 63 %."""
STRONG_SHIFT = Fraction(1, 4)
"""Replay for a strong shift, such as a new language: 88 % of the forgetting is gone in the same study (secondary)."""

CMR_UNIT_TOKENS = 200_000_000
CMR_FINANCE_20B = {460_000_000: 0.298, 940_000_000: 0.349, 1_600_000_000: 0.414, 3_100_000_000: 0.478}
"""Critical share of the new domain, by parameters: finance, 20B tokens (arXiv 2407.17467, secondary)."""

STABILITY_GAP_SUBSET = Fraction(1, 10)
STABILITY_GAP_EPOCHS = 4
"""The best 5B of 50B tokens, read 4 to 5 times; 1B overfits, 10B shows the gap (arXiv 2406.14833, paper)."""


@dataclass(frozen=True)
class Replay:
    """The share of old data along a run, constant or on a ramp first. Places are tokens or sequences.

    Args:
        share: of old data, in [0, 1]; 0.05 is 5 %.
        ramp_from: the share at the first place; None: `share` from the beginning.
        ramp: places over which the share moves in a straight line from `ramp_from` to `share`.

    Raises: MixtureError for a share outside [0, 1], or a ramp without a length.
    """

    share: Number
    ramp_from: Number | None = None
    ramp: int = 0

    def __post_init__(self) -> None:
        for where, value in (("replay.share", self.share), ("replay.ramp_from", self.ramp_from)):
            if value is not None and finite(value, where) > 1:
                raise MixtureError(
                    f"{where} cannot be used", expected="a share from 0 to 1", found=f"{float(value):g}", where=where
                )
        if (self.ramp_from is None) != (self.ramp == 0) or self.ramp < 0:
            raise MixtureError(
                "a replay ramp needs where it starts and how long it is",
                expected="ramp_from and ramp, or neither",
                found=f"ramp_from {self.ramp_from}, ramp {self.ramp}",
                where="replay.ramp",
            )

    def share_at(self, place: int) -> Fraction:
        """The share of old data after `place` places."""
        end = finite(self.share, "replay.share")
        if self.ramp_from is None or place >= self.ramp:
            return end
        start = finite(self.ramp_from, "replay.ramp_from")
        return start + (end - start) * place / self.ramp

    def before(self, places: Sequence[int]) -> list[int]:
        """Old places among the first m, for each m of `places`: the integral of the share, rounded down."""
        end = finite(self.share, "replay.share")
        start = end if self.ramp_from is None else finite(self.ramp_from, "replay.ramp_from")
        unit, length = start.denominator * end.denominator, max(self.ramp, 1)
        a, b, ramp = int(start * unit), int(end * unit), self.ramp
        whole = 2 * length * unit  # in these parts of a place every sum below is a whole number
        return [
            (2 * length * a * min(m, ramp) + (b - a) * min(m, ramp) ** 2 + 2 * length * b * max(m - ramp, 0)) // whole
            for m in places
        ]

    def split(self, total: int) -> tuple[int, int]:
        """Old and new places of a run of `total`, as many as its batches hold together."""
        old = self.before([total])[0]
        return old, total - old

    def counts(self, *, batch: int, batches: int, first: int = 0) -> npt.NDArray[np.int64]:
        """Old places in each batch, shape (batches,), from batch `first` on: stratified, exact, and never drifting.

        Batch t has floor(S((t+1) batch)) - floor(S(t batch)) of them, where S is the integral of the share; so any
        run of batches holds its share to within one place, and a run may be resumed or extended at any batch.

        Raises: MixtureError for a batch without a place.
        """
        if batch < 1 or batches < 0 or first < 0:
            raise MixtureError(
                "these batches cannot be counted",
                expected="batch of 1 or more, batches and first of 0 or more",
                found=f"batch {batch}, batches {batches}, first {first}",
            )
        edges = self.before([t * batch for t in range(first, first + batches + 1)])
        return np.diff(np.array(edges, np.int64))


@dataclass(frozen=True)
class StabilityGap:
    """The stability-gap recipe for one domain, in tokens.

    Args:
        subset_tokens: of the domain's best text, by the lowest perplexity of a reference model of the domain.
        epochs: how often the subset is read.
        shares: of the mixture: the subset under its name, the other sources at their old shares, drawn anew each epoch.
        tokens: of the whole run.
    """

    subset_tokens: int
    epochs: Number
    shares: dict[str, Fraction]
    tokens: int


def stability_gap(
    domain: str,
    domain_tokens: int,
    pretraining: Mapping[str, Number],
    *,
    replaced: str = "web",
    subset: Number = STABILITY_GAP_SUBSET,
    epochs: Number = STABILITY_GAP_EPOCHS,
) -> StabilityGap:
    """A run over the best part of a domain, several epochs, in the place of the web text of the pretraining mixture.

    Args:
        domain: its name among the sources; domain_tokens: all it holds.
        pretraining: shares of the mixture the model was trained on; `replaced` is the source the subset stands in
            for (82 % of it in the paper).
        subset: the part of the domain that is read; epochs: how often.

    Raises: MixtureError when `replaced` has no share, the domain is among the old sources, or nothing is left to read.

    Source: arXiv 2406.14833 (paper). Its run of 20B tokens reads 5B for 4 to 5 epochs; whether the rest of the mixture
    is counted in the 20B is not known, so here the run's length follows from the epochs and the share.
    """
    exact, _ = normalised(list(pretraining.values()), list(pretraining))
    old = dict(zip(pretraining, exact, strict=True))
    if not old.get(replaced):
        raise MixtureError(
            f"the pretraining mixture has no share of {replaced!r}{nearest(replaced, old)}", where="replaced"
        )
    if domain in old and domain != replaced:
        raise MixtureError(f"the domain {domain!r} is already in the pretraining mixture", where="domain")
    part, times = finite(subset, "subset"), finite(epochs, "epochs")
    read = int(part * domain_tokens)
    tokens = int(read * times / old[replaced])
    if part > 1 or not tokens:
        raise MixtureError(
            "the subset cannot be read",
            expected="a subset of more than 0 and at most 1 of a domain that holds tokens, epochs above 0",
            found=f"subset {float(part):g} of {domain_tokens:,} tokens, {float(times):g} epochs",
            where="subset",
        )
    shares = {(domain if name == replaced else name): share for name, share in old.items()}
    return StabilityGap(read, epochs, shares, tokens)


def cmr_law(tokens: int, terms: Sequence[tuple[float, float]], offset: float) -> float:
    """The form of the critical-mixture-ratio law: the sum of a T^s over (a, s) in `terms`, plus `offset`.

    T is `tokens` in units of CMR_UNIT_TOKENS. One form for three figures: the change of the domain's loss (one term),
    of the general loss (two terms), and the critical share of the domain (one term), the largest at which the
    general loss rises by at most .05. Coefficients come from fits to one's own runs; none are printed.

    Raises: MixtureError for no tokens.

    Source: arXiv 2407.17467 (secondary).
    """
    if tokens < 1:
        raise MixtureError("the law needs tokens", expected="1 or more", found=str(tokens), where="tokens")
    scaled = tokens / CMR_UNIT_TOKENS
    return float(sum(scale * scaled**power for scale, power in terms) + offset)
