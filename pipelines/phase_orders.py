"""Which policy arranges each phase, and which scores policies read: what recipes and mixtures both need to know."""

from collections.abc import Mapping

from corpus.errors import ConfigError
from curriculum.policies.base import OrderPolicy
from curriculum.visits import VISIT_SCHEMA
from mixtures.config import MixtureConfig


def phase_orders(
    order: OrderPolicy | Mapping[str, OrderPolicy] | None, phases: Mapping[str, OrderPolicy]
) -> dict[str, OrderPolicy]:
    """The policy of each phase: as set, else as the mixture itself suggests. Raises ConfigError for unknown phases."""
    if order is None:
        return dict(phases)
    if isinstance(order, OrderPolicy):
        return dict.fromkeys(phases, order)
    unknown = sorted(set(order) - set(phases))
    if unknown:
        raise ConfigError(f"order: there is no phase {unknown[0]!r}", found=f"phases {', '.join(phases)}")
    return {**phases, **order}


def score_columns_of(policy: OrderPolicy) -> list[str]:
    """The scores and labels that a policy reads, beside what every visit has."""
    return [name for name in policy.needs if name not in (*VISIT_SCHEMA.names, "place")]


def columns_read(mixture: MixtureConfig, order: OrderPolicy | Mapping[str, OrderPolicy] | None) -> set[str]:
    """Every score and label that a mixture keeps, upsamples or bands by, or an order reads."""
    used: set[str] = set()
    for sources in (mixture.sources, *(phase.sources or {} for phase in mixture.phases)):
        for ask in sources.values():
            used |= {choice.by.removeprefix("-") for choice in (ask.keep, ask.upsample, ask.bands) if choice}
    policies = order.values() if isinstance(order, Mapping) else [order] if order else []
    return used | {column for policy in policies for column in score_columns_of(policy)}
