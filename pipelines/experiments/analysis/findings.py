"""What a study found: everything its page and the terminal show, as one file of plain numbers.

`findings_of` (analysis/finding.py) makes it out of the runs' results; whoever shows it computes nothing. Lists are in
the order of the arms, sets and weights they are about. A number that cannot be known is null, and a note says why.

Signs: a `Difference` is positive where the arm is better, whatever it is a difference of. Losses and `forgetting` are
lower-is-better and as measured; scores on questions are higher-is-better.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from corpus.config import Config
from corpus.errors import ArtifactError
from corpus.shards import write_text

VERSION = 1
FILE = "findings.json"
Unit = Literal["bits per byte", "nats per token", "accuracy"]
BITS: Unit = "bits per byte"
NATS: Unit = "nats per token"
ACCURACY: Unit = "accuracy"
Verdict = Literal["better", "worse", "not distinguishable", "unknown"]
"""`better` and `worse` where the 95 % interval lies on one side of 0; `unknown` where there is no interval."""
Kind = Literal["same weights", "raw control", "averaging", "filter", "contrast"]
TARGET = "target"


class Spread(Config):
    """Values of one arm over its seeds."""

    n: int = Field(description="runs behind it")
    mean: float | None
    sd: float | None = Field(description="standard deviation, n - 1; null below two runs")
    lowest: float | None
    highest: float | None
    seeds: tuple[int, ...] = Field(description="rising")
    values: tuple[float, ...] = Field(description="one a seed")


class ByDocument(Config):
    """A difference's second uncertainty: had other documents been held out. Seeds are as they are."""

    documents: int = Field(description="drawn with replacement, within each source")
    draws: int
    low: float = Field(description="95 % percentile interval of the bootstrap; positive = better")
    high: float


class Difference(Config):
    """How much better one arm is than another, paired by seed. Positive = better, always."""

    unit: Unit
    pairs: int = Field(description="seeds that both have")
    seeds: tuple[int, ...]
    mean: float | None = Field(description="positive = the arm is better; null where no seed has both")
    low: float | None = Field(description="95 % interval over seeds, Student's t; null below two pairs")
    high: float | None
    p: float | None = Field(description="two-sided, of the same t test")
    documents: ByDocument | None = Field(None, description="of the target; null elsewhere, or not measured")
    verdict: Verdict = Field(description="of the interval over seeds alone")
    text: str = Field(description="+0.38 (uniform 50.1-50.9, ascend 50.6-51.2; n = 3 + 3): difference, both ranges, n")
    left_out: tuple[str, ...] = Field((), description="seeds that only one side has, each with what became of it")


class Comparison(Config):
    """An arm beside another, on the target and on each held-out set."""

    arm: str
    weights: str
    against: str
    against_weights: str
    kind: Kind = Field(
        description="same weights: its control under them; raw control: its control's raw weights; averaging: a "
        "control beside its own raw weights; filter: an order by a score beside keeping the best by that score and "
        "repeating them, under the same weights; contrast: as the study asks"
    )
    target: Difference
    sets: dict[str, Difference] = Field(description="by held-out set")
    roles: dict[str, Difference] = Field({}, description="`old` and `new`, for studies that tell them apart")
    holm_p: float | None = Field(None, description="p after Holm's correction over the table of all arms")
    holm_verdict: Verdict = Field("unknown", description="the verdict that the corrected p allows at 5 %")


class ContrastFinding(Config):
    """A comparison that the study asks for; the first is the main one."""

    name: str
    claim: str = Field(description="what the field says of it")
    comparison: Comparison | None = Field(description="null where one of its arms is not trained at this size")
    sentence: str = Field(description="what was found, with both ranges; says `not distinguishable` where it is not")


class SetLosses(Config):
    """An arm's loss on one held-out set, or on one tenth of the held-out documents by score. Lower is better."""

    weights: str
    set: str = Field(description="`target`, a held-out set, or a tenth's number, 0 the worst documents")
    kind: Literal["target", "set", "tenth"]
    bits_per_byte: Spread


class Curve(Config):
    """An arm's loss while it trained, over its seeds, on the curve's documents of the target. Lower is better."""

    weights: str
    set: str = Field(description="`target`, or a held-out set")
    tokens: tuple[int, ...] = Field(description="measured after; those that all its seeds have")
    mean: tuple[float, ...] = Field(description="nats a token, mean over seeds")
    lowest: tuple[float, ...]
    highest: tuple[float, ...]


class LostRun(Config):
    """A run of the study without a loss. It is in no mean."""

    run_id: str
    arm: str
    seed: int
    why: str = Field(description="`missing`, or how it failed")


class ArmFinding(Config):
    """One arm."""

    name: str
    levels: dict[str, str] = Field(description="by factor; empty for an extra arm")
    control: str | None = Field(description="null for a control")
    unmatched: str = Field("", description="why it may read other tokens, or spend other FLOPs; mostly empty")
    planned: tuple[int, ...] = Field(description="its seeds")
    finished: tuple[int, ...]
    tokens: int = Field(description="of a run")
    flops: float = Field(description="of a run")
    parameters: int | None
    end_ratio: float = Field(description="learning rate at the end, as a ratio of the peak")
    mean_rate: float = Field(description="mean learning rate over steps, as a ratio of the peak: what was spent of it")
    tokens_by_source: dict[str, int] = Field(description="read, mean over seeds")
    mean_visits: float | None = Field(description="tokens read over distinct tokens, mean over seeds")
    spearman: float | None = Field(description="of place and score: 1 is ascending, 0 shuffled; mean over seeds")
    branched: int = Field(description="of its runs, those that went on from another run's checkpoint")
    shared: int = Field(description="tokens of its runs that another run had trained already: what branching saved")
    losses: tuple[SetLosses, ...]
    curves: tuple[Curve, ...]


class NoiseFloor(Config):
    """How far apart equal runs lie: differences within it say nothing."""

    arm: str = Field(description="the control of the main contrast")
    weights: str
    spread: Spread = Field(description="of the target loss, bits per byte")
    range: float | None = Field(description="highest less lowest")
    detectable: float | None = Field(
        description="half-width of the 95 % interval of a difference of two arms with such a spread and so many seeds, "
        "not paired: what is smaller is not seen"
    )
    random: tuple[Comparison, ...] = Field((), description="arms in the order of a random score beside the shuffled "
                                           "ones, which differ from them by noise alone")  # fmt: skip


class LevelEffect(Config):
    """A factor's level beside its plain one, over all levels of the other factors."""

    level: str
    against: str = Field(description="the factor's plain level, the one it has in controls where it has one")
    difference: Difference


class PermutationTest(Config):
    """How often a statistic as large arises when levels are exchanged within seeds."""

    p: float
    permutations: int = Field(description="all of them where exact, else drawn")
    exact: bool
    smallest: float = Field(description="the smallest p that so many seeds and levels can give")


class Effect(Config):
    """A factor's main effect on the target loss."""

    factor: str
    weights: str
    seeds: tuple[int, ...]
    over: tuple[str, ...] = Field(description="the combinations of other levels it is averaged over, joined by dots")
    levels: tuple[LevelEffect, ...]
    test: PermutationTest


class Cell(Config):
    """One combination of two levels."""

    levels: tuple[str, str]
    beyond: float = Field(description="bits per byte better than the two main effects add up to; positive = better")


class Interaction(Config):
    """Whether one factor's effect depends on another's level."""

    factors: tuple[str, str]
    weights: str
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    test: PermutationTest


class GapPoint(Config):
    """What a level gains over its control at one place of the other factors: a point of the paper's central figure."""

    factor: str = Field(description="the factor of the study's `control`, mostly order; several are joined by dots")
    level: str
    at: dict[str, str] = Field(description="the levels of the other factors")
    end_ratio: float = Field(description="where the arm's learning rate ends, as a ratio of the peak")
    weights: str = Field(description="of both")
    difference: Difference


class TimeToTarget(Config):
    """After how many tokens an arm has its control's final loss. Lower is better."""

    arm: str
    weights: str
    control: str
    control_weights: str
    seeds: tuple[int, ...]
    tokens: tuple[float | None, ...] = Field(description="one a seed, interpolated; null: not reached")
    share: tuple[float | None, ...] = Field(description="of the control's tokens, one a seed: the data efficiency")
    median_tokens: float | None = Field(description="over seeds, a miss counting as infinite; null: not reached")
    median_share: float | None
    reached: int = Field(description="of the seeds")
    text: str = Field(description="`not reached` where the median is a miss")


class ProfileScore(Config):
    """AlgoPerf's score of an arm, with held-out sets as workloads: 1 where it is first to every target. Higher is
    better."""

    arm: str
    weights: str
    score: float = Field(ge=0, le=1)
    ratios: dict[str, float | None] = Field(description="by set, its tokens over the fewest of all; null: not reached")


class Continual(Config):
    """What an arm forgets of old text and learns of new, from its curve since the second phase began, raw base."""

    arm: str
    weights: str
    seeds: tuple[int, ...]
    begins: int = Field(description="tokens after which the loss before was measured")
    depth: Spread = Field(description="the largest rise on old text, nats a token; lower is better")
    depth_at: Spread = Field(description="tokens of the second phase, there")
    recovery: tuple[float | None, ...] = Field(
        description="one a seed: tokens of the second phase until the rise is back within noise; null: not recovered"
    )
    area: Spread = Field(description="rise x tokens; lower is better")
    forgetting: Spread = Field(description="the rise left at the end; positive = worse")
    learning: Spread = Field(description="change on new text at the end, nats a token; negative = learnt")
    removed: Spread = Field(description="share of its control's forgetting that it removes; 1 = all. n = 0: nothing "
                            "was forgotten, or it is the control")  # fmt: skip
    old: Difference | None = Field(None, description="on old text at the end, beside the control's raw weights")
    new: Difference | None = Field(None, description="the same on new text")


class ItemAccuracy(Config):
    """An arm's score on a file of questions. Higher is better."""

    arm: str
    weights: str
    file: str
    metric: str
    questions: int
    chance: float | None
    accuracy: Spread
    centred: float | None = Field(description="(accuracy - chance) / (1 - chance); null where chance is not known")
    item_error: float = Field(description="standard error of one run's accuracy, from the number of questions alone")


class ItemFlips(Config):
    """Answers that change from the control to an arm, question by question, under the same weights."""

    arm: str
    weights: str
    against: str
    file: str
    metric: str
    accuracy: Difference = Field(description="paired by seed")
    negative: float = Field(description="share of questions right before and wrong now, mean over seeds; down")
    positive: float = Field(description="share wrong before and right now; up")
    low: float | None = Field(description="95 % interval of the accuracy difference by bootstrap over questions")
    high: float | None
    noise: float | None = Field(description="share of answers that change between two seeds of the control")


class RateMass(Config):
    """Share of the learning rate's mass that each tenth of the score receives, per cent, mean over seeds."""

    arm: str
    weights: str
    tenths: tuple[float, ...] = Field(description="the worst first; a shuffle gives 10 everywhere")


class Provenance(Config):
    """What was measured on what, by what."""

    fingerprint: str = Field("", description="of the pool and the held-out documents")
    command: str = Field("", description="what makes this page")
    version: str = Field("", description="of gradatim")
    commit: str = ""
    device: str = Field("", description="what trained the runs")
    facts: dict[str, str] = Field({}, description="more, in words: the pool, the tokenizer, the model")


class Findings(Config):
    """What a study found at a size."""

    version: int = VERSION
    study: str
    size: str
    title: str
    question: str
    answer: str = Field(description="one sentence: direction, size, interval and n of the main contrast, or that it is "
                        "not distinguishable, or not answered and why")  # fmt: skip
    reading: Literal["better", "worse", "not distinguishable", "not answered"]
    source: tuple[str, ...]
    expected: str
    untested: tuple[str, ...]
    target: tuple[str, ...] = Field(description="the held-out sets whose mean loss, equally weighted, decides")
    sets: tuple[str, ...] = Field(description="all held-out sets")
    weights: tuple[str, ...] = Field(description="all kinds of weights, raw first")
    planned: int = Field(description="runs of arms; members of ensembles and teachers are not counted")
    lost: tuple[LostRun, ...] = Field(description="failed and missing runs")
    arms: tuple[ArmFinding, ...]
    contrasts: tuple[ContrastFinding, ...]
    comparisons: tuple[Comparison, ...] = Field(description="the table of all arms: each under each kind of weights")
    compared: int = Field(description="differences in that table with a p: how many Holm's correction is over")
    noise: NoiseFloor | None
    effects: tuple[Effect, ...] = Field(description="of the factorial; none where fewer than two seeds are whole")
    interactions: tuple[Interaction, ...]
    gaps: tuple[GapPoint, ...] = Field(description="by level, weights, and rising end of the learning rate")
    times: tuple[TimeToTarget, ...]
    profile: tuple[ProfileScore, ...] = Field(description="best first; the target of a set is the main control's final "
                                              "loss on it")  # fmt: skip
    continual: tuple[Continual, ...]
    items: tuple[ItemAccuracy, ...]
    flips: tuple[ItemFlips, ...]
    rate_mass: tuple[RateMass, ...]
    notes: tuple[str, ...] = Field(description="what a reader must know: lost runs, unequal spending, what is not said")
    provenance: Provenance

    def arm(self, name: str) -> ArmFinding:
        """The arm of a name. Raises KeyError where there is none."""
        return {arm.name: arm for arm in self.arms}[name]


def write_findings(findings: Findings, path: Path) -> None:
    """Write them as JSON, atomically; equal findings give equal bytes."""
    write_text(path, findings.model_dump_json(indent=1) + "\n")


def read_findings(path: Path) -> Findings:
    """Read them. Raises ArtifactError where they are none, or of another version."""
    try:
        found = Findings.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        what = str(error.errors()[0]["msg"]) if isinstance(error, ValidationError) else str(error)
        raise ArtifactError("these are not the findings of a study", found=what, where=str(path),
                            fix="collect the study's results again") from None  # fmt: skip
    if found.version != VERSION:
        raise ArtifactError(
            "these findings were made by another version of gradatim", expected=f"version {VERSION}",
            found=f"version {found.version}", where=str(path), fix="collect the study's results again",
        )  # fmt: skip
    return found
