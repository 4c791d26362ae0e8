"""The whole way of a document, step by step: each method makes one artifact from the ones before it.

Reading this file from `run` down is reading the pipeline. Every step names its inputs and its settings; the
workshop decides whether anything is left to do. Map stages and SQL run on the chosen runtime; generation and
training run in a process of their own on this machine.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from corpus.artifacts import Artifact
from corpus.config import validated
from corpus.shards import write_table
from mixtures.mixed_orders import mixed_orders
from pipelines.build import Workshop
from pipelines.combining import combined, weights_of
from pipelines.inputs import InputChecksums
from pipelines.mix_settings import MixSettings
from pipelines.mixing import Mixing, Mixture
from pipelines.ordering import order_of_visits
from pipelines.phase_orders import phase_orders
from pipelines.rating import Rating, beside
from pipelines.reading import given_tokenizer, read_documents, tokenised, trained_tokenizer
from pipelines.recipe import FilterStep, Recipe, recipe_file
from pipelines.runtime import LocalRuntime
from pipelines.stages.base import Stage
from pipelines.stages.decontaminate import DecontaminateStep
from pipelines.stages.extract import Extract
from pipelines.stages.naming import source_of
from pipelines.tasks import Work
from pipelines.token_source import TokenSource
from raters.filter_signals import FilterSignals

if TYPE_CHECKING:
    from pipelines.decontaminating import Contamination


class Flow:
    """A recipe at work in a workshop. `base` is the folder that the recipe's relative paths start from."""

    def __init__(self, recipe: Recipe, shop: Workshop, recipe_path: Path) -> None:
        self.recipe, self.shop = recipe, shop
        self.base = recipe_file(recipe_path).parent
        self.checksums = InputChecksums(shop.root)
        self.rating = Rating(shop, self.base, self.checksums)
        weights_of(recipe.rate.composite, self.base)  # a weights file that cannot be used is refused before any work
        if recipe.rephrase:
            from pipelines.rephrasing import check_settings

            check_settings(recipe.rephrase, self.base)  # and so are a style that is not there and a model

    def run(self) -> None:
        """Make every artifact the recipe asks for."""
        recipe = self.recipe
        documents = self.documents()
        filtered = self.filtered(documents, self.rating.rated("signals", documents, FilterSignals()))
        scores = self.rating.scores(filtered, recipe.rate.raters)
        composite = self.composite(filtered, scores)
        duplicates = self.duplicates(filtered, composite)
        clean, heldout = self.split(filtered, duplicates)
        rephrased = self.rephrased(clean) if recipe.rephrase else None
        if recipe.mixture is None:
            return
        tokenizer = self.tokenizer(clean)
        tokens = self.tokens("tokens", [clean, *([rephrased] if rephrased else [])], tokenizer)
        mixture = self.mixture(tokens)
        heldout_tokens = self.tokens("heldout_tokens", [heldout], tokenizer)
        if recipe.train is None:
            return
        for name in recipe.train.arms:
            self.trained(name, self.order(name, mixture, tokens), tokens, heldout_tokens, tokenizer)

    # ---- from pages to scored documents

    def documents(self) -> Artifact:
        """Read every input file, extract its text, name its language: the documents, written once."""
        return read_documents(
            self.shop, self.checksums, self.base, self.recipe.inputs,
            extract=Extract(extractor=self.recipe.extract.extractor), shard_documents=self.recipe.shard_documents,
        )  # fmt: skip

    def filtered(self, documents: Artifact, signals: Artifact) -> Artifact:
        """Apply the recipe's filters to each source, in their order."""
        found = self._contaminations(documents)
        chains = {source: self._filters(source, found) for source in self.recipe.inputs}
        config = {"stages": {source: [stage.identity() for stage in chain] for source, chain in chains.items()}}
        work = self._map_work(documents, [signals], chains)
        inputs = [documents, signals, *(each.artifact for each in found.values())]
        return self.shop.build_tasks("filtered", "documents", config=config, inputs=inputs, work=work)

    def composite(self, filtered: Artifact, scores: list[Artifact]) -> Artifact:
        """Fit the normalisers on a reference sample, freeze them, and combine the scores with them."""
        return combined(self.rating, filtered, scores, self.recipe.rate.composite)

    # ---- from scored documents to a clean corpus

    def duplicates(self, filtered: Artifact, composite: Artifact) -> Artifact | None:
        """Find exact and near duplicates across all sources; the best-scored member of a group stays."""
        from pipelines.stages.deduplicate import (
            DUPLICATE_SCHEMA,
            PAIR_SCHEMA,
            PAIRS_SQL,
            REPEATED_SCHEMA,
            REPEATED_SQL,
            SketchWork,
            duplicate_table,
            refuse_repeated,
        )

        settings = self.recipe.dedup
        if settings is None:
            return None
        work: dict[str, Work] = {path.stem: SketchWork(path, settings) for path in filtered.files()}
        config = settings.model_dump()
        sketches = self.shop.build_tasks("sketches", "sketches", config=config, inputs=[filtered], work=work)

        def find(folder: Path) -> dict[str, int]:
            views = {"sketches": sketches.files(), "scores": composite.files()}
            refuse_repeated(self.shop.runtime.sql(REPEATED_SQL, views, REPEATED_SCHEMA))
            table = duplicate_table(self.shop.runtime.sql(PAIRS_SQL, views, PAIR_SCHEMA))
            assert table.schema.equals(DUPLICATE_SCHEMA)
            write_table(folder / "duplicates.parquet", table)
            kinds = table.column("kind").to_pylist()
            return {kind: kinds.count(kind) for kind in ("exact", "near")}

        inputs = [sketches, composite]
        return self.shop.build_here("duplicates", "duplicates", config={"keep": "best"}, inputs=inputs, make=find)

    def split(self, filtered: Artifact, duplicates: Artifact | None) -> tuple[Artifact, Artifact]:
        """Take out duplicates, then part the documents for training from those held out."""
        from pipelines.stages.drop import DropListed, HeldOut

        first: list[Stage] = [DropListed(table=duplicates.files()[0])] if duplicates else []
        sides = {}
        for name, keep in (("clean", False), ("heldout", True)):
            chain = [*first, HeldOut(share=self.recipe.heldout, seed=self.recipe.seed, keep=keep)]
            config = {"stages": [stage.identity() for stage in chain]}
            work = self._map_work(filtered, [], dict.fromkeys(self.recipe.inputs, chain))
            inputs = [filtered, *([duplicates] if duplicates else [])]
            sides[name] = self.shop.build_tasks(name, "documents", config=config, inputs=inputs, work=work)
        return sides["clean"], sides["heldout"]

    def rephrased(self, clean: Artifact) -> Artifact:
        """Rephrase some clean documents through the generation cache; scores are found by the settings' name."""
        from pipelines.rephrasing import Rephraser

        assert self.recipe.rephrase is not None
        return Rephraser(self.shop, self.base, self.recipe.rephrase, clean).run()

    # ---- from documents to tokens, an order, a model

    def tokenizer(self, clean: Artifact) -> Artifact:
        """Train the tokenizer on the clean documents, or copy the given one."""
        settings = self.recipe.tokenizer
        if settings.path is None:
            return trained_tokenizer(self.shop, [clean], settings.vocabulary)
        return given_tokenizer(self.shop, self.checksums, self.base / settings.path)

    def tokens(self, name: str, documents: list[Artifact], tokenizer: Artifact) -> Artifact:
        """Encode document shards into token shards of the same basenames."""
        return tokenised(self.shop, name, documents, tokenizer)

    def mixture(self, tokens: Artifact) -> Mixture:
        """Share out the token budget over the sources and draw the document visits, exact to the token."""
        settings = self.recipe.mixture
        assert settings is not None
        data = {
            **settings.model_dump(exclude_unset=True), "seed": self.recipe.seed,
            "inputs": {"tokens": {"kind": "artifact", "artifact": tokens.name}},
        }  # fmt: skip
        return Mixing(self.shop, validated(MixSettings, data, "mixture"), self.base).drawn("mixture")

    def order(self, arm: str, mixture: Mixture, tokens: Artifact) -> Artifact:
        """Put the mixture's visits into the arm's order, phase by phase."""
        assert self.recipe.train is not None
        policies = phase_orders(self.recipe.train.arms[arm].order, mixed_orders(mixture.allocation, self.recipe.seed))
        return order_of_visits(
            self.shop, f"orders/{arm}", mixture.artifact, policies, mixture.allocation.phases, [TokenSource.of(tokens)]
        )

    def trained(self, arm: str, order: Artifact, tokens: Artifact, heldout: Artifact, tokenizer: Artifact) -> Artifact:
        """Train one arm in a process of its own; a killed run goes on at its last checkpoint."""
        from pipelines.stages.train_work import TrainWork

        assert self.recipe.train is not None
        plan, model = self.recipe.train.arms[arm].plan, self.recipe.train.model
        work = TrainWork(self.shop.root, order.name, heldout.name, tokenizer.name, plan, model)
        config = {"plan": plan.model_dump(), "model": model.model_dump()}
        return self.shop.build_tasks(
            f"runs/{arm}", "run", config=config, inputs=[order, tokens, heldout, tokenizer], work={arm: work},
            runtime=_own_process(),
        )  # fmt: skip

    # ---- helpers

    def _contaminations(self, documents: Artifact) -> "dict[int, Contamination]":
        """What each decontaminate step found in the documents, by its place among the stages."""
        from pipelines.decontaminating import contamination

        steps = [(at, step) for at, step in enumerate(self.recipe.stages) if isinstance(step, DecontaminateStep)]
        return {
            at: contamination(
                self.shop, documents, step.decontaminate, self.base, self.checksums, sources=step.sources,
                name="contamination" if len(steps) == 1 else f"contamination{at}",
            )
            for at, step in steps
        }  # fmt: skip

    def _filters(self, source: str, found: "Mapping[int, Contamination]") -> tuple[Stage, ...]:
        from pipelines.stages.drop import rule_filter

        chain: list[Stage] = []
        for at, step in enumerate(self.recipe.stages):
            if step.sources and source not in step.sources:
                continue
            if isinstance(step, FilterStep):
                chain.append(rule_filter(step.filter, self.base))
            elif isinstance(step, DecontaminateStep):
                chain.append(found[at].stage())
            else:
                from pipelines.stages.datatrove_bridge import Datatrove

                chain.append(Datatrove(step=step.datatrove, args=step.args))
        return tuple(chain)

    def _map_work(
        self, documents: Artifact, sidecars: Sequence[Artifact], chains: Mapping[str, Sequence[Stage]]
    ) -> dict[str, Work]:
        from pipelines.stages.shard_work import MapWork

        return {
            path.stem: MapWork(path, beside(path, sidecars), tuple(chains[source_of(path)]))
            for path in documents.files()
        }


def _own_process() -> LocalRuntime:
    return LocalRuntime(1, own_process=True)
