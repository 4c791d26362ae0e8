"""A mixture in a workspace: count what its inputs hold, allocate, draw the visits, and put them in order.

`plan` needs counts only, or none where sizes are declared. `build` writes `mixture/<name>` (the visits, what was
allocated, the settings) and `orders/<name>`, which any trainer can follow. Both are skipped when nothing has changed.

How it is used: `Mixing(shop, settings, base).build("mix")`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml
from pydantic import ValidationError

from corpus.artifacts import Artifact, InputRef
from corpus.config import nearest
from corpus.errors import ArtifactError
from corpus.shards import write_text
from curriculum.arrange import check
from curriculum.order import OrderError
from curriculum.policies.base import OrderPolicy
from mixtures.allocate import allocate
from mixtures.allocation import Allocation, amount
from mixtures.available import Available, available
from mixtures.mixed_orders import mixed_orders
from pipelines.build import Workshop
from pipelines.candidates import Scores, candidate_table, scores_of
from pipelines.mix_settings import MixSettings
from pipelines.mix_sources import MixSources
from pipelines.ordering import order_of_visits, write_visits
from pipelines.synthetic import check_share
from pipelines.token_source import TokenSource

ALLOCATION, SETTINGS, VISITS = "allocation.json", "mix.yaml", "visits.parquet"


@dataclass(frozen=True)
class Mixture:
    """A built mixture: its artifact, what was allocated, the settings it was built with."""

    artifact: Artifact
    allocation: Allocation
    settings: dict[str, Any]

    @classmethod
    def open(cls, artifact: Artifact) -> "Mixture":
        """Read a mixture. Raises ArtifactError for an artifact that is none."""
        files = {path.name: path for path in (*artifact.files(".json"), *artifact.files(".yaml"))}
        if artifact.manifest.kind != "mixture" or not {ALLOCATION, SETTINGS} <= set(files):
            raise ArtifactError(
                f"{artifact.name} is not a mixture of `gradatim mix build`", found=f"kind {artifact.manifest.kind}",
                where=str(artifact.folder), fix="gradatim ls lists what there is",
            )  # fmt: skip
        allocation = read_allocation(files[ALLOCATION])
        return cls(artifact, allocation, yaml.safe_load(files[SETTINGS].read_text(encoding="utf-8")))

    @property
    def visits(self) -> Path:
        """The table of visits."""
        return self.artifact.folder / VISITS

    def mixed_orders(self) -> dict[str, OrderPolicy]:
        """How each phase is read where nothing else is said: as the mixture merges its sources."""
        return dict(mixed_orders(self.allocation, int(self.settings.get("seed", 0))))


def read_allocation(path: Path) -> Allocation:
    """Read what was allocated. Raises ArtifactError for a file that another version wrote otherwise."""
    try:
        return Allocation.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ArtifactError(
            "this allocation cannot be read", found=str(error.errors()[0]["msg"]), where=str(path),
            fix="build the mixture again: it may be of another version of gradatim",
        ) from None  # fmt: skip


class Mixing:
    """A mixture at work in a workshop. `base` is the folder that relative paths of its settings start from."""

    def __init__(self, shop: Workshop, settings: MixSettings, base: Path) -> None:
        self.shop, self.settings, self.base = shop, settings, base

    @cached_property
    def sources(self) -> list[TokenSource]:
        """The token shards; texts are read and tokenised first."""
        return MixSources(self.shop, self.settings, self.base).open()

    @cached_property
    def scores(self) -> Scores:
        """The scores that the mixture names, and those its orders read."""
        return scores_of(self.sources, self.settings.score_names())

    @cached_property
    def candidates(self) -> pa.Table:
        """The documents that can be drawn, with their scores."""
        return candidate_table(self.sources, self.scores, pairing=self.settings.pairing)

    @cached_property
    def available(self) -> Available:
        """What the sources hold: as declared where anything is, else counted."""
        declared = self.settings.declare
        if declared:
            return Available({name: (one.documents or 0, one.available) for name, one in declared.items()})
        return available(self.candidates, self.settings)

    def plan(self) -> Allocation:
        """What the mixture comes to on what there is. Raises MixtureError where it cannot be had."""
        allocation = allocate(self.available, self.settings)
        if not self.settings.declare:
            check_share(self.candidates, allocation, self.settings.max_synthetic)
        return allocation

    def order_problems(self) -> tuple[str, ...]:
        """Why phases cannot be arranged as their orders ask, one text each; found by a draw of which nothing is kept.

        Where sizes are declared, or no order is asked for, there is nothing to check.
        """
        from mixtures.draw import draw

        if self.settings.declare or self.settings.order is None:
            return ()
        allocation, found = self.plan(), []
        policies = self.settings.orders(mixed_orders(allocation, self.settings.seed))
        visits, engine = draw(self.candidates, allocation, self.settings.seed), self.shop.order_engine()
        columns = engine.columns(visits)
        for phase in allocation.phases:
            try:
                check(visits, policies[phase], columns, engine, phase=phase if len(allocation.phases) > 1 else None)
            except OrderError as error:
                found.append(error.render())
        return tuple(found)

    def misdeclared(self) -> list[str]:
        """What the sources hold where it is not what was declared, one sentence each."""
        said, declared = [], self.settings.declare
        held = available(self.candidates).sources if declared else {}
        for name, one in declared.items():
            _, tokens = held.get(name, (0, 0))
            if tokens != one.available:
                said.append(f"{name} was declared with {amount(one.available)} tokens and holds {amount(tokens)}")
        return said

    def build(self, name: str) -> tuple[Mixture, Artifact]:
        """Write `mixture/<name>` and `orders/<name>`. Raises as `plan`, and OrderError where an order cannot be had."""
        mixture = self.drawn(f"mixture/{name}")
        policies = self.settings.orders(mixed_orders(mixture.allocation, self.settings.seed))
        order = order_of_visits(
            self.shop, f"orders/{name}", mixture.artifact, policies, mixture.allocation.phases, self.sources
        )
        return mixture, order

    def drawn(self, name: str) -> Mixture:
        """Write the artifact `name`: the visits, what was allocated, the settings. Raises as `plan`."""
        from mixtures.draw import draw

        inputs: list[Artifact | InputRef] = [*(source.tokens for source in self.sources), *self.scores.inputs]
        config = {
            "mixture": self.settings.mixture_data(), "seed": self.settings.seed,
            "scores": {name: list(held) for name, held in self.settings.score_names().items()},
            "under": {source.tokens.name: source.under for source in self.sources if source.under},
        }  # fmt: skip

        def make(folder: Path) -> dict[str, Any]:
            allocation = allocate(available(self.candidates, self.settings), self.settings)
            check_share(self.candidates, allocation, self.settings.max_synthetic)
            for warning in allocation.warnings:
                self.shop.progress.say(f"  note: {warning}")
            visits = draw(self.candidates, allocation, self.settings.seed)
            write_text(folder / ALLOCATION, allocation.model_dump_json(indent=1) + "\n")
            write_text(folder / SETTINGS, self._resolved())
            return write_visits(folder / VISITS, visits)

        return Mixture.open(self.shop.build_here(name, "mixture", config=config, inputs=inputs, make=make))

    def _resolved(self) -> str:
        """The settings, each input as the artifact it was read from, which build the same again."""
        inputs = {
            source.name: {"artifact": source.tokens.name, **({"under": source.under} if source.under else {})}
            for source in self.sources
        }
        return yaml.safe_dump({"inputs": inputs, **self.settings.told()}, sort_keys=False, allow_unicode=True)


def phase_policies(mixture: Mixture, policy: OrderPolicy, only: Sequence[str]) -> dict[str, OrderPolicy]:
    """A policy for each phase of a mixture, or for those in `only` while the others stay as they were mixed.

    Raises ArtifactError for a phase that the mixture does not have.
    """
    phases = mixture.allocation.phases
    for name in only:
        if name not in phases:
            raise ArtifactError(f"{mixture.artifact.name} has no phase {name!r}{nearest(name, phases)}")
    mixed = mixture.mixed_orders()
    return {name: policy if not only or name in only else mixed[name] for name in phases}
