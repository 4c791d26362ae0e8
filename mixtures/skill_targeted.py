"""Weights of documents by the skills a model still lacks: failed items, deficits, weights of skills, of documents.

    deficit of a skill     d = failed items that need it / items that need it
    weight of a skill      proportional to (d + eps)^gamma
    weight of a document   the mean weight of its skills; final = rho base + (1 - rho) weighted

Evidence: STAT selects examples for fine-tuning on mathematics this way, with a stronger model naming the missing
skills. For pretraining it is untested; there an item counts as failed when its loss is above a quantile
(`failed_by_loss`). Cost: a labelled validation set, one evaluation, and the skills of every document. Profile on
validation items only: items of a test set would leak into the choice of documents.

How it is used: `document_weights(skills, skill_weights(deficits(items)), base, settings)`.

Source: STAT (princeton-pli/STAT): gamma 1, difficult items by rewards of .85 and .7.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from corpus.config import Config, Share, nearest
from corpus.errors import InputError
from mixtures.share_design import Floats


class SkillSettings(Config):
    """How deficits become weights."""

    eps: float = Field(0.01, gt=0, allow_inf_nan=False, description="keeps a skill without failures in the mixture")
    gamma: float = Field(1.0, ge=0, allow_inf_nan=False, description="0 ignores deficits, above 1 sharpens them")
    rho: Share = Field(0.3, description="share of the final weights that stays with the base")


@dataclass(frozen=True)
class Item:
    """A validation item: the skills it needs, and whether the model failed it."""

    skills: frozenset[str]
    failed: bool


def is_difficult(rewards: Sequence[float]) -> bool:
    """STAT's rule on the rewards of an answer's steps: the last or the mean at most .85, or an earlier one at most .7.

    Raises InputError for an answer without steps.
    """
    if not rewards:
        raise InputError("an answer without steps has no rewards to judge it by")
    mean = sum(rewards) / len(rewards)
    return rewards[-1] <= 0.85 or mean <= 0.85 or any(reward <= 0.7 for reward in rewards[:-1])


def failed_by_loss(losses: Floats, quantile: float) -> list[bool]:
    """Which of n items count as failed by a base model: those with a loss above the quantile. Losses finite, (n,)."""
    if len(losses) == 0 or not np.isfinite(losses).all() or not 0 < quantile < 1:
        raise InputError("losses cannot be split here", found=f"{len(losses)} losses, quantile {quantile:g}")
    found: list[bool] = (losses > np.quantile(losses, quantile)).tolist()
    return found


def deficits(items: Iterable[Item]) -> dict[str, float]:
    """Failed items over items, in [0, 1], for every skill that an item needs; by name.

    Raises InputError when no item needs a skill.
    """
    needed: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for item in items:
        needed.update(item.skills)
        failed.update(item.skills if item.failed else ())
    if not needed:
        raise InputError("no validation item names a skill", fix="label the items with the skills they need")
    return {skill: failed[skill] / needed[skill] for skill in sorted(needed)}


def skill_weights(lacking: Mapping[str, float], settings: SkillSettings | None = None) -> dict[str, float]:
    """Weights of skills, summing to one, in the order given."""
    chosen = settings or SkillSettings()
    raised = {skill: (deficit + chosen.eps) ** chosen.gamma for skill, deficit in lacking.items()}
    total = sum(raised.values())
    return {skill: value / total for skill, value in raised.items()}


def document_weights(
    skills: Sequence[Collection[str]],
    weights: Mapping[str, float],
    base: Floats,
    settings: SkillSettings | None = None,
) -> Floats:
    """Weights of n documents, shape (n,), summing to one.

    Args:
        skills: the skills of each document; one with none keeps its base share alone.
        weights: of the skills.
        base: shape (n,), 0 or more, one above 0: weights without skills, such as tokens.

    Raises: InputError for a skill without a weight, a base that does not fit, or documents without any skill.
    """
    chosen = settings or SkillSettings()
    if len(base) != len(skills) or not np.isfinite(base).all() or len(base) == 0 or base.min() < 0 or base.sum() <= 0:
        raise InputError("base weights of documents must be finite, 0 or more, and as many as documents",
                         found=f"{len(base)} weights, {len(skills)} documents")  # fmt: skip
    unknown = sorted({skill for own in skills for skill in own} - set(weights))
    if unknown:
        raise InputError(f"skill {unknown[0]!r} of a document has no weight{nearest(unknown[0], weights)}",
                         found=f"{len(unknown)} such skills", fix="profile items that need them")  # fmt: skip
    targeted = np.array([sum(weights[skill] for skill in sorted(set(own))) / max(len(set(own)), 1) for own in skills])
    targeted = targeted * base
    if not targeted.sum() > 0:
        raise InputError("no document has any of the skills", fix="label documents, or use the base weights")
    mixed: Floats = chosen.rho * base / base.sum() + (1 - chosen.rho) * targeted / targeted.sum()
    return mixed
