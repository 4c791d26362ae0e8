"""Published shapes of a run, as data: its phases on the token axis, and the roles they mix.

A role is what a source is for (`web`, `quality`, `code`); a mixture says which of its sources plays which role. Where
shares are not published a phase names its roles and leaves the shares to the user: nothing is filled in by guess.
`mark` says where the figures were read: the paper or the authors' own card or code, a secondary text, or this project.

How it is used: `preset("smollm3").phases`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from corpus.config import nearest
from mixtures.replay import STRONG_SHIFT, WEAK_SHIFT
from mixtures.shares import MixtureError, Number, normalised

Mark = Literal["paper", "authors", "secondary", "project"]


@dataclass(frozen=True)
class PresetPhase:
    """One interval of a run.

    Args:
        name: of the phase.
        length: its part of the run's tokens, above 0; the phases of a preset sum to one.
        roles: what it mixes.
        shares: share by role, summing to one; None where they are not published.
        ramp: part of the run's tokens, at the phase's beginning, over which shares move from the phase before.
        keep: the best part of each source that is read, by its quality score; 1 is all.
        lr: what the learning rate does, in words.
    """

    name: str
    length: Fraction
    roles: tuple[str, ...]
    shares: Mapping[str, Fraction] | None = None
    ramp: Fraction = Fraction(0)
    keep: Fraction = Fraction(1)
    lr: str = ""


@dataclass(frozen=True)
class Preset:
    """A published shape of a run.

    Args:
        name: what it is asked for by; source: where it comes from; mark: how its figures were read.
        notes: what a user must know, one fact each.
    """

    name: str
    source: str
    mark: Mark
    phases: tuple[PresetPhase, ...]
    notes: tuple[str, ...] = ()


def preset(name: str) -> Preset:
    """The preset of that name. Raises MixtureError for another name, with the nearest one."""
    if name not in PRESETS:
        raise MixtureError(f"there is no preset {name!r}{nearest(name, PRESETS)}", where="preset")
    return PRESETS[name]


def _mixed(
    name: str,
    length: Number,
    shares: Mapping[str, Number],
    *,
    lr: str = "",
    keep: Fraction = Fraction(1),
) -> PresetPhase:
    exact, _ = normalised(list(shares.values()), list(shares))
    return PresetPhase(name, Fraction(length), tuple(shares), dict(zip(shares, exact, strict=True)), keep=keep, lr=lr)


def _open(name: str, length: Number, *roles: str, lr: str = "") -> PresetPhase:
    return PresetPhase(name, Fraction(length), roles, lr=lr)


def _run(name: str, source: str, mark: Mark, phases: tuple[PresetPhase, ...], *notes: str) -> Preset:
    """A preset whose phases' lengths, given in any unit, are made to sum to one."""
    total = sum((phase.length for phase in phases), Fraction(0))
    scaled = tuple(replace(phase, length=phase.length / total) for phase in phases)
    return Preset(name, source, mark, scaled, notes)


_ALL = (
    _run(
        "minicpm",
        "MiniCPM, arXiv 2404.06395",
        "paper",
        (
            _mixed("stable", 90, {"pretraining": 1}, lr="constant after a warm-up"),
            _open(
                "decay",
                10,
                "pretraining",
                "quality",
                "instruction",
                lr="exponential, half-life 5,000 steps (20B tokens)",
            ),
        ),
        "instruction and quality data in the decay, not only in tuning: MMLU 44.6 to 50.9, GSM8K 27.7 to 42.3",
    ),
    _run(
        "olmo2",
        "OLMo 2, arXiv 2501.00656",
        "authors",
        (
            _open("pretraining", 95, "web", "code", "papers", "math"),
            _mixed("mid-training", 5, {"quality": 50, "targeted": 50}, lr="linear to 0 from the checkpoint's rate"),
        ),
        "mid-training is 5 to 10 % of compute; the lower end stands here",
        "about half is quality web text; targeted is instruction, papers, wiki and synthetic math, without their split",
        "7B: three runs of 50B tokens in different orders, then averaged; quality data is read twice, not four times",
    ),
    _run(
        "olmo3",
        "OLMo 3, arXiv 2512.13961",
        "secondary",
        (
            _mixed(
                "pretraining",
                5930,
                {"web": 4510, "papers": Fraction("855.8"), "code": 409, "math": 152, "wiki": Fraction("2.51")},
            ),
            _open("mid-training", 100, "web", "code", "math", "instruction", lr="2.07e-4 linear to 0"),
            _open("long-context", 50, "long", "mid-training"),
        ),
        "lengths and shares are of billions of tokens; the mid-training is two runs, merged (authors' code)",
        "within a topic, text is read along the quality-aware upsampling curve",
    ),
    _run(
        "llama3",
        "The Llama 3 Herd of Models",
        "secondary",
        (
            _mixed("pretraining", 15_600_000 - 40, {"knowledge": 50, "math": 25, "code": 17, "multilingual": 8}),
            _open("annealing", 40, "knowledge", "math", "code", "multilingual", "quality", lr="linear to 0"),
        ),
        "lengths are of millions of tokens; the 40M of annealing are unverified, and next to nothing in a short run",
        "shares are rough; math is math and reasoning; annealing gives quality data more",
    ),
    _run(
        "llama3_probe",
        "The Llama 3 Herd of Models",
        "secondary",
        (_mixed("annealing", 1, {"default": 70, "new": 30}, lr="linear to 0 from a half-trained checkpoint"),),
        "annealing as a measure of a new source: 40B tokens on an 8B model; compare with default alone",
    ),
    _run(
        "smollm3",
        "SmolLM3, its model card and training configurations",
        "authors",
        (
            _mixed("stable", 3_450, {"web": 85, "code": 12, "math": 3}, lr="constant after a warm-up"),
            _mixed("stable-2", 750, {"web": 75, "code": 15, "math": 10}, lr="constant"),
            _mixed("decay", 520, {"web": 63, "code": 24, "math": 13}, lr="linear to 0"),
        ),
        "lengths are thousands of steps of 2.36M tokens; the shares of web, code and math are also in secondary texts",
    ),
    _run(
        "two_phase",
        "two-phase pretraining, arXiv 2412.15285",
        "secondary",
        (_mixed("diverse", 60, {"diverse": 1}), _mixed("quality", 40, {"quality": 1})),
        "the lengths are this project's choice",
        "its control is the same documents, shuffled",
    ),
    _run(
        "filter_repeat",
        "Kaiyuan-2B, arXiv 2512.07612",
        "secondary",
        (_mixed("filtered", 1, {"any": 1}, keep=Fraction("0.334")),),
        "the baseline of every curriculum; over the tokens of one full pass, the kept third is read three times",
        "1.5B, 30B tokens, core score: uniform 46.21, keep 33.4 % 46.65, keep 13.8 % 44.14",
    ),
    _run(
        "kaiyuan",
        "Kaiyuan-2B, arXiv 2512.07612",
        "secondary",
        tuple(
            _mixed(f"top-{100 * keep}", keep, {"any": 1}, keep=keep) if keep < 1 else _mixed(f"all-{i}", 1, {"any": 1})
            for i, keep in enumerate((Fraction(1), Fraction(1), Fraction(1, 2), Fraction(3, 10), Fraction(1, 10)), 1)
        ),
        "each phase is as long as one pass over what it keeps, which is this project's reading: the top tenth is read "
        "five times, 4 to 5 in the source",
    ),
    _run(
        "stability_gap",
        "stability gap, arXiv 2406.14833",
        "paper",
        (_mixed("continued", 1, {"domain": 82, "pretraining": 18}),),
        "domain: its best tenth by a reference model, 4 to 5 epochs; sized by mixtures.replay.stability_gap",
        "pretraining: the other sources at their old shares, drawn anew each epoch",
    ),
    _run(
        "replay_weak",
        "continual pretraining, arXiv 2403.08763",
        "secondary",
        (
            _mixed(
                "continued",
                1,
                {"new": 1 - WEAK_SHIFT, "old": WEAK_SHIFT},
                lr="from a decayed checkpoint: re-warm over 1 %",
            ),
        ),
        "the total is fixed; old data keeps its original order",
    ),
    _run(
        "replay_strong",
        "continual pretraining, arXiv 2403.08763",
        "secondary",
        (
            _mixed(
                "continued",
                1,
                {"new": 1 - STRONG_SHIFT, "old": STRONG_SHIFT},
                lr="from a decayed checkpoint: re-warm over 1 %",
            ),
        ),
        "the total is fixed; old data keeps its original order",
    ),
)
PRESETS: dict[str, Preset] = {one.name: one for one in _ALL}
"""All presets by name."""
