"""A run folder belongs to one plan, model, order and held-out set: plan.yaml says which, and a resume compares it.

Restoring only a step counter lets an edited setting bend the curve in the middle of a run. Here every field is
compared, and each one that differs is named. A plan or an order may still be edited for what is to come: with a
`Change` the run goes on under it, if everything up to its newest checkpoint would have been the same, to the bit.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel

from corpus.config import load_yaml, validated
from corpus.errors import ConfigError
from corpus.whole_files import write_text
from trainer_hooks.plan import ResolvedPlan
from trainer_hooks.plan_resume import resume_findings

if TYPE_CHECKING:
    from curriculum.order import Order

PLAN_FILE = "plan.yaml"


@dataclass(frozen=True)
class Change:
    """The wish to go on under an edited plan, and in another order where the order so far is given.

    Args:
        former_order: the order the run began with; its tokens up to the newest checkpoint must be the new one's too.
    """

    former_order: "Order | None" = None


def check_identity(
    folder: Path, parts: Mapping[str, Any], position: int = 0, change: Change | None = None, order: Any = None
) -> None:
    """Write plan.yaml into a new run folder, or compare it field by field with the one there.

    Args:
        parts: `resolved`, `model`, `order`, ... as models or plain values.
        position: tokens the run has seen, by its newest checkpoint.
        change: accept differences that leave everything up to `position` as it was; the plan before is kept as
            plan.before-POSITION.yaml. order: the new order, where that may differ.

    Raises ConfigError that names the fields that differ and, with a change, why it cannot be accepted.
    """
    asked = {
        name: part.model_dump(mode="json") if isinstance(part, BaseModel) else part for name, part in parts.items()
    }
    path = folder / PLAN_FILE
    if not path.exists():
        write_text(path, yaml.safe_dump(asked, sort_keys=False))
        return
    kept = load_yaml(path)
    differing = list(_differences(kept, asked, ""))
    if not differing:
        return
    if change is None:
        raise ConfigError(
            "this folder holds a run with other settings",
            found=_listed(differing),
            where=str(path),
            fix="use the settings the run began with, or another folder for a new run; "
            "what is still to come may be edited: gradatim train --accept-changes",
        )
    _check_change(kept, asked, position, change, order, path)
    write_text(folder / f"plan.before-{position}.yaml", path.read_text())
    write_text(path, yaml.safe_dump(asked, sort_keys=False))


def former_orders(folder: Path) -> set[str]:
    """Fingerprints of the orders that a run read before changes that were accepted."""
    return {str(load_yaml(path)["order"]) for path in folder.glob("plan.before-*.yaml")}


def _check_change(
    kept: dict[str, Any], asked: dict[str, Any], position: int, change: Change, order: Any, path: Path
) -> None:
    refused = [text for text in _differences(kept, asked, "") if not text.startswith(("resolved.", "order ", "order."))]
    old, new = (validated(ResolvedPlan, side["resolved"], str(path)) for side in (kept, asked))
    changes = resume_findings(old, new, position)
    refused += [f"{finding.where}: {finding.what}" for finding in changes.findings if finding.severity == "error"]
    if kept["order"] != asked["order"]:
        refused += _order_problems(kept["order"], change.former_order, order, position)
    if refused:
        raise ConfigError(
            "the run cannot go on under these changes: its past would have been another one",
            expected=f"the same up to {position:,} tokens, where the run is",
            found=_listed(refused),
            where=str(path),
            fix="edit only what is still to come, or begin a new run in a folder of its own",
        )


def _order_problems(fingerprint: str, former: "Order | None", order: Any, position: int) -> Iterator[str]:
    """Why a run that has read `position` tokens of one order cannot go on in another."""
    from curriculum.common_prefix import common_tokens
    from curriculum.order import Order

    if former is None or former.fingerprint != fingerprint:
        given = "none" if former is None else former.fingerprint
        yield f"order: the run began with {fingerprint}; to compare the new order with it, give it ({given} was given)"
        return
    if not isinstance(order, Order):
        yield "order: only orders of documents can be compared, not packed ones"
        return
    shared = common_tokens(former, order)
    if position and shared < position + 1:  # the last target of the last step is one token further
        yield f"order: the two have {shared:,} tokens in common, the run has read {position + 1:,}"


def _listed(texts: list[str]) -> str:
    return "; ".join(texts[:5] + [f"and {len(texts) - 5} more"] * (len(texts) > 5))


def _differences(old: Any, new: Any, where: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            yield from _differences(old.get(key), new.get(key), f"{where}.{key}".lstrip("."))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from _differences(a, b, f"{where}.{index}")
    elif old != new:
        yield f"{where} was {old!r}, is now {new!r}"
