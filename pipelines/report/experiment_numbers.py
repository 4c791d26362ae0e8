"""How a study's page and terminal write the numbers of its findings: the same digits, and never a number alone.

A loss comes with its range and n, a difference with its interval, n and verdict. What is not known is said, not left
blank.
"""

from collections.abc import Sequence

from pipelines.experiments.analysis.findings import ACCURACY, ArmFinding, Comparison, Difference, Findings, SetLosses
from pipelines.experiments.analysis.findings import Spread as Values
from pipelines.report.experiment_strips import Spread
from pipelines.report.quantities import count, signed

PAINTS = {"better": "--kept", "worse": "--alarm"}
UNKNOWN = "not known"
DIGITS = 4


def loss(value: float | None) -> str:
    """A loss, four decimals; higher counts of digits would be noise."""
    return UNKNOWN if value is None else f"{value:.{DIGITS}f}"


def ranged(values: Values, digits: int = DIGITS) -> str:
    """The lowest and the highest value of seeds."""
    if values.lowest is None or values.highest is None:
        return UNKNOWN
    return f"{values.lowest:.{digits}f} to {values.highest:.{digits}f}"


def difference(found: Difference) -> str:
    """Mean and interval: `+0.0209 (−0.0046 to +0.0465)`; accuracies in points of a hundred. `outcome` goes with it."""
    if found.mean is None:
        return UNKNOWN
    if found.low is None or found.high is None:
        return f"{moved(found.mean, found)} (no interval)"
    return f"{moved(found.mean, found)} ({moved(found.low, found)} to {moved(found.high, found)})"


def outcome(found: Difference) -> str:
    """Verdict and pairs: `not distinguishable, n = 4`."""
    return f"{verdict(found)}, n = {found.pairs}"


def moved(value: float, found: Difference) -> str:
    """A difference's number in its unit."""
    return f"{signed(100 * value, 2)}" if found.unit == ACCURACY else signed(value, DIGITS)


def verdict(found: Difference) -> str:
    """What the interval over seeds allows to say."""
    return "one pair says nothing" if found.verdict == "unknown" and found.pairs == 1 else found.verdict


def paint(found: Difference) -> str:
    """The CSS variable of a difference: green where better, red where worse, grey where nothing can be said."""
    return PAINTS.get(found.verdict, "--muted")


def weighted(arm: str, weights: str) -> str:
    """An arm under a kind of weights, as a name."""
    return arm if weights == "raw" else f"{arm} · {weights}"


def sides(one: Comparison) -> str:
    """What is compared with what."""
    return f"{weighted(one.arm, one.weights)} beside {weighted(one.against, one.against_weights)}"


def spread_of(found: Difference, dots: Sequence[float] = ()) -> Spread | None:
    """A difference as it is drawn; None where no seed has both sides."""
    if found.mean is None:
        return None
    documents = found.documents
    within = None if documents is None else (documents.low, documents.high)
    return Spread(found.mean, found.low, found.high, tuple(dots), within)


def losses_of(arm: ArmFinding, weights: str, name: str, kind: str) -> SetLosses | None:
    """An arm's losses on a set or tenth; None where it has none."""
    return next((x for x in arm.losses if (x.weights, x.set, x.kind) == (weights, name, kind)), None)


def seed_gains(findings: Findings, one: Comparison, name: str = "target", kind: str = "target") -> dict[int, float]:
    """How much better the arm is than what it is compared with, in bits per byte, seed by seed; positive = better.

    These are the numbers whose mean a `Difference` is.
    """
    arms = {arm.name: arm for arm in findings.arms}
    if one.arm not in arms or one.against not in arms:
        return {}
    mine = losses_of(arms[one.arm], one.weights, name, kind)
    theirs = losses_of(arms[one.against], one.against_weights, name, kind)
    if mine is None or theirs is None:
        return {}
    own = dict(zip(mine.bits_per_byte.seeds, mine.bits_per_byte.values, strict=True))
    other = dict(zip(theirs.bits_per_byte.seeds, theirs.bits_per_byte.values, strict=True))
    return {seed: other[seed] - own[seed] for seed in sorted(own.keys() & other.keys())}


def probability(value: float) -> str:
    """A p value; never 0."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def large(value: float) -> str:
    """FLOPs and the like: `1.2e15`."""
    return count(value) if value < 1e6 else f"{value:.2e}".replace("e+", "e")
