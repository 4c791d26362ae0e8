"""Learn the weights of scores, step by step: pool, design, proxies, regression, and a last check of what was learned.

Each step is an artifact `weigh/...` of the workspace, so a rerun skips what is done, a killed one goes on at the proxy
it was in, and a changed setting redoes only what depends on it. Proxies are tasks: they run side by side over
cores, GPUs or Spark executors, and their losses are joined to their weightings by run id.

Source of the procedure: Meta-rater (arXiv 2504.14194); the statistics around it are this project's.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from corpus.artifacts import Artifact
from corpus.fingerprints import fingerprint
from corpus.shards import read_table, write_table, write_text
from corpus.tokenizer import train_tokenizer
from mixtures.learned_shares import LearnedShares, learn_shares
from mixtures.share_design import Design, draw_design
from mixtures.share_runs import join_runs
from pipelines.build import Workshop
from pipelines.combining import COMPOSITE, WEIGHTS, definitions_of, fit_sidecars
from pipelines.proxies import ProxyResult, results_of, train_proxies
from pipelines.stages.tokenize import TokenizeWork, texts_of
from pipelines.tasks import Work
from pipelines.weigh.evidence import Confirmation, conclude, runs_table
from pipelines.weigh.pool import HELD_OUT, pool_table, rated, write_validation
from pipelines.weigh.proxy import WeighProxy, check_budget
from pipelines.weigh.settings import WeighSettings
from raters.composite import CompositeSettings
from raters.weights_file import Evidence, WeightsFile, write_weights

RANDOM, LEARNED = "random", "learned"
Run = tuple[str, str, tuple[float, ...] | None, int]
"""Its id, its kind, its weights (None: documents at random) and its training seed."""


class Made(NamedTuple):
    """What every proxy reads."""

    tokens: Artifact
    pool: Artifact
    composite: Artifact
    validation: Artifact


class Weighing:
    """Learning weights over the rated documents of a workshop."""

    def __init__(
        self, shop: Workshop, documents: Artifact, scores: Iterable[Artifact], settings: WeighSettings
    ) -> None:
        self.shop, self.documents, self.settings = shop, documents, settings
        self.columns = rated(documents, list(scores), settings.scores, settings.exclude)

    def cost(self) -> str:
        """What is about to be trained, in a sentence."""
        from trainer_hooks.model import Decoder, count_parameters

        settings, design = self.settings, draw_design(len(self.columns), self.settings.design)
        n = len(design.rows) + settings.random_subsets + settings.confirm
        size = count_parameters(Decoder(settings.proxy, 0)) / 1e6
        return (
            f"[bold]{n} proxies[/] of {size:.2f} M parameters, {settings.plan.tokens / 1e6:g} M tokens each, "
            f"over {len(self.columns)} scores of {self.documents.name}"
        )

    def run(self) -> Artifact:
        """Make `weigh/weights`: the weights file with its evidence, and every run behind it."""
        design = draw_design(len(self.columns), self.settings.design)
        tokens, composite = self.tokens(self.tokenizer()), self.composite()
        pool = self.pool(tokens)
        made = Made(tokens, pool, composite, self.validation(pool, tokens))
        runs = train_proxies(self.shop, "weigh/runs", self._design_work(design, made), made)
        learned = self.learned(design, runs)
        confirmed = train_proxies(self.shop, "weigh/confirmed", self._confirming(learned, made), [*made, learned])
        return self.weights(design, runs, learned, confirmed, composite)

    # ---- the pool

    def tokenizer(self) -> Artifact:
        """The proxies' own small tokenizer, trained on the documents."""

        def make(folder: Path) -> dict[str, int]:
            train_tokenizer(texts_of(self.documents.files()), self.settings.vocabulary, folder / "tokenizer.json")
            return {"vocabulary": self.settings.vocabulary}

        config = {"vocabulary": self.settings.vocabulary, "pattern": "gpt2"}
        return self.shop.build_here("weigh/tokenizer", "tokenizer", config=config, inputs=[self.documents], make=make)

    def tokens(self, tokenizer: Artifact) -> Artifact:
        """The documents as token shards."""
        model = tokenizer.files(".json")[0]
        work: dict[str, Work] = {path.stem: TokenizeWork(path, model) for path in self.documents.files()}
        inputs = [self.documents, tokenizer]
        return self.shop.build_tasks("weigh/tokens", "tokens", config={}, inputs=inputs, work=work)

    def pool(self, tokens: Artifact) -> Artifact:
        """The table that subsets are selected from."""
        settings = self.settings

        def make(folder: Path) -> dict[str, Any]:
            pool = pool_table(tokens, self.columns, settings.validation, settings.seed)
            write_table(folder / "pool.parquet", pool)
            held = pool.filter(pool[HELD_OUT])
            return {
                "documents": pool.num_rows, "tokens": _tokens(pool),
                "held_out_documents": held.num_rows, "held_out_tokens": _tokens(held),
            }  # fmt: skip

        held_out = settings.validation.model_dump(include={"sources", "share", "target"})
        config = {"scores": list(self.columns), "validation": held_out, "seed": settings.seed}
        return self.shop.build_here("weigh/pool", "pool", config=config, inputs=[tokens, *self._sidecars()], make=make)

    def composite(self) -> Artifact:
        """The normalisers, fitted once on a reference sample of the documents and frozen."""
        settings = CompositeSettings(scores=tuple(self.columns), **self.settings.combine.model_dump())

        def make(folder: Path) -> dict[str, Any]:
            composite = fit_sidecars(self.documents, self._sidecars(), settings)
            write_text(folder / COMPOSITE, composite.model_dump_json(indent=1) + "\n")
            return {"documents": composite.n_documents}

        config = settings.model_dump()
        return self.shop.build_here(
            "weigh/composite", "rater", config=config, inputs=[self.documents, *self._sidecars()], make=make
        )

    def validation(self, pool: Artifact, tokens: Artifact) -> Artifact:
        """The held-out documents that losses are measured on, a token shard a source."""
        settings = self.settings

        def make(folder: Path) -> dict[str, Any]:
            table = read_table(pool.files()[0])
            return write_validation(table, tokens, settings.validation, settings.seed, folder)

        config = {"validation": settings.validation.model_dump(), "seed": settings.seed}
        return self.shop.build_here("weigh/validation", "tokens", config=config, inputs=[pool, tokens], make=make)

    # ---- the proxies

    def _design_work(self, design: Design, made: Made) -> list[WeighProxy]:
        runs: list[Run] = [(row.run_id, row.kind, row.shares, row.seed) for row in design.rows]
        first = self.settings.design.seed  # repeats of equal weights count up from it: pairs by seed
        runs += [(f"r{i:02d}", RANDOM, None, first + i) for i in range(self.settings.random_subsets)]
        return self._proxies(runs, made)

    def _confirming(self, learned: Artifact, made: Made) -> list[WeighProxy]:
        """The learned weights on the seeds of the equal ones, so that the two can be compared seed by seed."""
        named = read_learned(learned).by_name()
        shares, first = tuple(named[name] for name in self.columns), self.settings.design.seed
        runs: list[Run] = [(f"l{i:02d}", LEARNED, shares, first + i) for i in range(self.settings.confirm)]
        return self._proxies(runs, made)

    def _proxies(self, runs: list[Run], made: Made) -> list[WeighProxy]:
        table = read_table(made.pool.files()[0], ["length", HELD_OUT])
        free = _tokens(table.filter(pc.invert(table[HELD_OUT])))
        subset = self.settings.subset
        inputs = fingerprint([item.ref for item in made])
        budget = subset.tokens or int((subset.share or 0.0) * free)
        check_budget(budget, self.settings.plan, table)
        return [
            WeighProxy(
                root=self.shop.root, inputs=inputs, tokens=made.tokens.name, validation=made.validation.name,
                run_id=run_id, kind=kind, shares=shares, seed=seed, plan=self.settings.plan, model=self.settings.proxy,
                number=number, budget=budget, tie_seed=self.settings.seed,
            )
            for number, (run_id, kind, shares, seed) in enumerate(runs)
        ]  # fmt: skip

    # ---- what they teach

    def learned(self, design: Design, runs: Artifact) -> Artifact:
        """Regress the target loss on the weights, and search the best ones."""
        settings = self.settings

        def make(folder: Path) -> dict[str, Any]:
            results = results_of(runs)
            own = {row.run_id for row in design.rows}
            outcomes = {
                run_id: self.target(item) if item.status == "finished" else item.reason
                for run_id, item in results.items()
                if run_id in own
            }
            table = join_runs(design, outcomes)
            found = learn_shares(tuple(self.columns), table, settings.learn)
            write_text(folder / "learned.json", found.model_dump_json(indent=1) + "\n")
            return {"runs": len(table.run_ids), "failed": len(table.failed)}

        config = {
            "learn": settings.learn.model_dump(),
            "target": list(settings.validation.target),
            "design": design.hash,
        }
        return self.shop.build_here("weigh/learned", "weights", config=config, inputs=[runs], make=make)

    def target(self, result: ProxyResult) -> float:
        """The loss that decides: mean held-out bits per byte over the target's sources."""
        sources = self.settings.validation.target or tuple(result.losses)
        return sum(result.losses[source] for source in sources) / len(sources)

    def weights(
        self, design: Design, runs: Artifact, learned: Artifact, confirmed: Artifact, composite: Artifact
    ) -> Artifact:
        """The weights file, and the table of all runs."""

        def make(folder: Path) -> dict[str, Any]:
            results = list((results_of(runs) | results_of(confirmed)).values())
            write_table(folder / "runs.parquet", runs_table(results, list(self.columns), self.target))
            found = conclude(results, self.target)
            write_weights(folder / WEIGHTS, self._file(read_learned(learned), found))
            write_text(folder / "confirmation.json", found.model_dump_json(indent=1) + "\n")
            return {"runs": len(results), "scores": len(self.columns)}

        inputs = [learned, runs, confirmed, composite]
        return self.shop.build_here("weigh/weights", "weights", config={}, inputs=inputs, make=make)

    def _file(self, learned: LearnedShares, found: Confirmation) -> WeightsFile:
        better = {score.name: score.better for score in definitions_of(self._sidecars())}
        shares = learned.by_name()
        measured = {
            "learned": learned.model_dump(mode="json"), "confirmation": found.model_dump(mode="json"),
            "target": self.settings.validation.model_dump(mode="json"), "subset": self.settings.subset.model_dump(),
            "proxy": self.settings.proxy.model_dump(), "plan": self.settings.plan.model_dump(mode="json"),
        }  # fmt: skip
        return WeightsFile(
            scores=tuple(shares), weights=tuple(shares.values()),
            directions={name: better[name] for name in shares},
            evidence=Evidence(summary=f"{learned.verdict} {found.verdict}", measured=measured),
            **self.settings.combine.model_dump(),
        )  # fmt: skip

    def _sidecars(self) -> list[Artifact]:
        return list({artifact.name: artifact for artifact in self.columns.values()}.values())


def read_learned(artifact: Artifact) -> LearnedShares:
    """What the regression learned, from the artifact `weigh/learned`."""
    return LearnedShares.model_validate_json((artifact.folder / "learned.json").read_bytes())


def read_confirmation(weights: Artifact) -> Confirmation:
    """What the learned weights were measured to be worth, from the artifact `weigh/weights`."""
    return Confirmation.model_validate_json((weights.folder / "confirmation.json").read_bytes())


def _tokens(table: pa.Table) -> int:
    return int(pc.sum(table["length"]).as_py() or 0)
