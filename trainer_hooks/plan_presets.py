"""Published recipes as beginnings of plans: what a paper says of rate, averaging and decay, and how well it is known.

A preset fills in fields of a plan and nothing else; what is written beside it wins, field by field. Lengths are shares
of the run, so a preset fits any number of tokens. `mark` says how far its figures are known: read in the paper, told by
others (`secondary`), or chosen here (`project`); what was chosen here, because no text says it, is in `notes`. None of
them has been shown to help at another scale than its own: run a control beside it.

    plan: {preset: cdma, tokens: 2M, peak_lr: 3e-3}
    plan: {preset: infinite_compute_150m, unique_tokens: 200M}            # tokens are epochs times these

    validated(Plan, preset_plan("cdma", "2M", peak_lr=0.003), "plan")     # the same in Python
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from corpus.config import nearest, parse_count
from corpus.errors import ConfigError

Mark = Literal["paper", "secondary", "project"]


@dataclass(frozen=True)
class PlanPreset:
    """A recipe.

    Args:
        settings: fields of a plan, as a plan file has them.
        source: where it comes from; mark: how its figures are known.
        evidence: what was reported, at which size.
        notes: what was chosen here, and what a user must do beside it.
        epochs: how often the order reads each document, where that is part of the recipe.
    """

    settings: Mapping[str, Any]
    source: str
    mark: Mark
    evidence: str
    notes: tuple[str, ...] = ()
    epochs: int | None = None


_LAST_SIX = {"sma": {"kind": "sma", "last": 6, "window": "10%"}, "ema": {"kind": "ema", "last": 6, "window": "10%"}}
_CONSTANT = [{"warmup": "1%"}, {"stable": "99%"}]
_SPACING = "the distance of the averaged checkpoints is not known; the window of 10% is this project's"
_WARMUP = "the warm-up is this project's"
_CURRICULUM = "2511.18903, 1.5B parameters, 30B tokens, one table of averages over eight tasks"
_ORDER = "needs an order that ascends in quality (policy: sorted); over a shuffled one it is worse than decay"


def _infinite(peak_lr: float, epochs: int, weight_decay: float, size: str) -> PlanPreset:
    return PlanPreset(
        {
            "peak_lr": peak_lr,
            "optimizer": {"kind": "adamw", "weight_decay": weight_decay},
            "phases": [{"warmup": "1%"}, {"decay": "99%", "to": 0.0, "shape": "cosine"}],
        },
        source="arXiv 2509.14786",
        mark="secondary",
        evidence=f"the best of a search at {size} parameters over 200M tokens; 300M parameters reach 3.57 nats a token "
        "where the best run without tuned decay has 3.75",
        notes=(
            f"the order must read each document {epochs} times",
            "curve and warm-up are this project's; the search is over rate, epochs and decay only",
            "optima move with the number of unique tokens: search again around them for others than 200M",
        ),
        epochs=epochs,
    )


PRESETS: dict[str, PlanPreset] = {
    "wsd": PlanPreset(
        {"phases": [{"warmup": "1%"}, {"stable": "81%"}, {"decay": "18%", "to": "1/300", "shape": "1-sqrt"}]},
        source="arXiv 2511.18903",
        mark="secondary",
        evidence=f"the baseline of {_CURRICULUM}: 50.56 shuffled, 50.34 ascending; cosine has 49.13",
        notes=(_WARMUP, "decays of 37, 18 and 6% were tried; which one the table has is not known"),
    ),
    "cma": PlanPreset(
        {"phases": _CONSTANT, "average": _LAST_SIX},
        source="arXiv 2511.18903",
        mark="secondary",
        evidence=f"{_CURRICULUM}: 50.94 (sma) and 50.95 (ema), against 50.56 for shuffled data with decay to 1/300",
        notes=(_ORDER, _SPACING, _WARMUP, "read the averages, not the raw weights, which have not been annealed"),
    ),
    "cdma": PlanPreset(
        {
            "phases": [{"warmup": "1%"}, {"stable": "81%"}, {"decay": "18%", "to": "1/3", "shape": "1-sqrt"}],
            "average": _LAST_SIX,
        },
        source="arXiv 2511.18903",
        mark="secondary",
        evidence=f"{_CURRICULUM}: about 1.64 above shuffled data with decay to 1/300, with ema",
        notes=(_ORDER, _SPACING, _WARMUP, "the length of the decay is one of those tried in the paper"),
    ),
    "d2z_short": PlanPreset(
        {"phases": [{"warmup": "10%"}, {"decay": "90%", "to": 0.0, "shape": "linear"}]},
        source="arXiv 2502.15938",
        mark="paper",
        evidence="610M parameters: 80 tokens a parameter with linear decay to 0 beat 200 with decay to a tenth",
        notes=("the gain is a shorter run: set tokens to about 80 a parameter", "for shuffled data", _WARMUP),
    ),
    "pma": PlanPreset(
        {"phases": _CONSTANT, "average": {"kind": "pma", "last": 10, "every": "2%"}},
        source="arXiv 2505.12082",
        mark="secondary",
        evidence="means of about 10 checkpoints of the constant phase stand in for annealed ones; equal weights do as "
        "well as others late in training",
        notes=(
            "published distances are 4B tokens (.7B active parameters) to 80B (10B); the 2% are this project's",
            _WARMUP,
        ),
    ),
    "wsm": PlanPreset(
        {
            "phases": _CONSTANT,
            "average": {
                "curve": {"kind": "curve", "shape": "1-sqrt", "last": 9, "window": "20%"},
                "sma": {"kind": "sma", "last": 9, "window": "20%"},
            },
        },
        source="arXiv 2507.17634",
        mark="secondary",
        evidence="a 16.3B mixture of experts, 400B tokens: 64.06 with 1-sqrt coefficients, 63.95 with equal ones, "
        "against 62.67 with decay; its loss on text is slightly higher than with decay",
        notes=("the length of the window matters most; 20% is 80B of the 400B tokens", _WARMUP),
    ),
    "infinite_compute_150m": _infinite(3e-3, 16, 0.8, "150M"),
    "infinite_compute_300m": _infinite(3e-3, 16, 1.6, "300M"),
    "infinite_compute_600m": _infinite(1e-3, 8, 3.2, "600M"),
    "infinite_compute_1400m": _infinite(1e-3, 8, 3.2, "1.4B"),
}


def plan_preset(name: str) -> PlanPreset:
    """A preset by its name. Raises ConfigError for one that does not exist."""
    if name not in PRESETS:
        raise ConfigError(f"there is no preset {name!r} of a plan{nearest(str(name), PRESETS)}")
    return PRESETS[name]


def preset_plan(name: str, tokens: int | str | None = None, **changes: Any) -> dict[str, Any]:
    """What a plan file would hold: the preset's fields, and over them those that are given.

    Args:
        tokens: of the whole run; or give `unique_tokens` to a preset that reads its data several times.
        changes: fields of the plan; each replaces the preset's field of that name, and `schedule` its `phases`.

    Raises ConfigError for a preset that does not exist, or tokens that are given twice.
    """
    preset = plan_preset(name)
    unique = changes.pop("unique_tokens", None)
    if unique is not None:
        if preset.epochs is None or tokens is not None:
            raise ConfigError(
                f"unique_tokens cannot be used with preset {name}"
                + (": it has no number of epochs, so write tokens" if preset.epochs is None else " and tokens as well")
            )
        tokens = preset.epochs * parse_count(unique)
    replaced = {"phases"} if changes.get("schedule") is not None else set()
    filled = {key: value for key, value in preset.settings.items() if key not in replaced}
    return {**({} if tokens is None else {"tokens": tokens}), **filled, **changes}


def without_preset(data: Any) -> Any:
    """A plan as written, its `preset` replaced by the fields it stands for; other data as it is."""
    if not isinstance(data, dict) or "preset" not in data:
        return data
    written = {key: value for key, value in data.items() if key not in ("preset", "tokens")}
    return preset_plan(data["preset"], data.get("tokens"), **written)
