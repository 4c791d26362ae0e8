"""`gradatim mix learn`: learn the shares of sources from proxies, and write them as a mixture with its evidence.

A design of mixtures is drawn around the natural one, a proxy is trained on each, and their held-out losses, joined by
run id, are regressed: by RegMix's simulation over the best of several regressors, or by log-linear laws solved exactly
under caps of visits (Olmix). Then the learned mixture itself is trained beside the natural one, seed by seed.

Every step is an artifact `mix/...` of the workspace: a rerun skips what is done, a killed one goes on at the proxy it
was in, and results of proxies are kept by content, so that a larger design trains only what is new.

How it is used: `MixLearning(shop, tokens, settings, validation).run()`, an artifact with `shares.yaml` (paste it into a
mixture), `evidence.json`, `runs.parquet` and `predicted.parquet`.

Source: RegMix, arXiv 2407.01492, and Olmix, arXiv 2602.12237. What proxies of a million parameters say of a large run
is the open question: Olmix's authors trust them from 15M parameters on.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from pydantic import Field

from corpus.artifacts import Artifact
from corpus.config import Config, Count, Share, nearest
from corpus.errors import ArtifactError, ConfigError, InputError
from corpus.fingerprints import fingerprint
from corpus.shards import write_table, write_text
from mixtures.learned_shares import REGRESSORS, LearnedShares, LearnSettings, learn_shares
from mixtures.log_linear_mixture import learn_log_linear
from mixtures.regmix import PROPORTIONAL, SEARCH, MixtureDesign, draw_mixtures, mixture_space, natural_shares
from mixtures.share_design import Design, Floats
from mixtures.share_runs import RunTable, join_runs
from mixtures.share_space import ShareSpace, rounded_shares, visit_caps
from pipelines.build import Workshop
from pipelines.mix_proxies import (
    POOL,
    MixProxy,
    Wanted,
    first_documents,
    held_out,
    largest_token,
    pool_of,
    source_tokens,
    tokens_read,
    write_heldout,
)
from pipelines.paired import Gain, Losses, gain, losses
from pipelines.proxies import ProxyResult, ProxySettings, results_of, train_proxies
from pipelines.weigh.evidence import runs_table, verdict

SHARES, EVIDENCE, PREDICTED, LEARNED = "shares.yaml", "evidence.json", "predicted.parquet", "learned.json"


class HeldOutSettings(Config):
    """The losses that decide."""

    target: dict[str, float] = Field(
        {}, description="weights of the held-out sources whose mean loss is made small (default: all, equally)"
    )
    share: Share = Field(
        0.05, gt=0, lt=1, description="share of documents held out, where no artifact of held-out tokens is given"
    )
    max_tokens: Count = Field(100_000, gt=1, description="tokens measured on, at most, in each source")


class MixLearnSettings(ProxySettings):
    """How a mixture is learned."""

    method: Literal["regmix", "log_linear"] = Field(
        "regmix", description="regmix: regress, simulate, average the best; log_linear: a law a loss, solved exactly"
    )
    sources: tuple[str, ...] = Field((), description="the sources to mix (default: all)")
    tokens: Count | None = Field(
        None, description="tokens of the run that the mixture is for: no share exceeds what its source can fill"
    )
    max_visits: float = Field(4, gt=0, allow_inf_nan=False, description="how often a source may be read at most")
    kl: float = Field(
        0.05, ge=0, allow_inf_nan=False, description="log_linear: pull towards the natural mixture, in units of loss"
    )
    validation: HeldOutSettings = HeldOutSettings()
    design: MixtureDesign = Field(MixtureDesign(), description="which mixtures are tried")
    confirm: int = Field(4, ge=0, description="runs with the learned mixture, on the seeds of the natural one's")
    learn: LearnSettings = Field(LearnSettings(search=SEARCH), description="how losses are regressed and searched")
    seed: int = Field(0, ge=0, description="keys the pool, the held-out documents and the sequence of both")


class MixEvidence(Config):
    """What a learned mixture rests on.

    Attributes:
        learned: the shares with intervals and the verdict by prediction; natural, caps: by source.
        gap: of the exact solution, in units of loss; null for regmix.
        measured: losses of the learned and the natural mixture, trained on the same seeds, and their difference.
        verdict: what that measurement says.
    """

    method: str
    learned: LearnedShares
    natural: dict[str, float]
    caps: dict[str, float]
    gap: float | None
    measured_learned: Losses
    measured_natural: Losses
    gain: Gain
    verdict: str


class Learnt(Config):
    """The shares before they are measured: rounded to millionths, under the caps."""

    shares: dict[str, float]
    gap: float | None
    learned: LearnedShares
    predicted: list[dict[str, float | str]]


class MixLearning:
    """Learning a mixture over token shards of a workshop.

    Args:
        tokens: token shards, with sources; validation: held-out token shards (default: documents of `tokens` are held
            out by their ids, and trained on by no proxy).
    """

    def __init__(
        self, shop: Workshop, tokens: Artifact, settings: MixLearnSettings, validation: Artifact | None = None
    ) -> None:
        self.shop, self.tokens, self.settings, self.given = shop, tokens, settings, validation
        for artifact in (tokens, *([validation] if validation else ())):
            if artifact.manifest.kind != "tokens":
                raise ArtifactError(f"{artifact.name} holds no tokens", expected="an artifact of kind tokens",
                                    found=f"kind {artifact.manifest.kind}", where=str(artifact.folder))  # fmt: skip
        held = source_tokens(tokens, settings.sources)
        self.names = tuple(held)
        self.natural = natural_shares(held)
        by_source, proxy = list(held.values()), tokens_read(settings.plan)
        longer = max(settings.tokens or 0, proxy)  # a share that no proxy could read is not learned either
        caps = visit_caps(by_source, longer, settings.max_visits)
        self.space = mixture_space(self.natural, settings.design, caps)
        self.design = draw_mixtures(self.natural, settings.design, visit_caps(by_source, proxy, settings.max_visits))

    def cost(self) -> str:
        """What is about to be trained, in a sentence."""
        settings = self.settings
        n = len(self.design.rows) + settings.confirm
        read = n * settings.plan.tokens / 1e6
        return f"[bold]{n} proxies[/], {settings.plan.tokens / 1e6:g} M tokens each ({read:g} M in all), over " + (
            f"{len(self.names)} sources of {self.tokens.name}"
        )

    def run(self) -> Artifact:
        """Make `mix/shares`. Raises InputError when too few proxies have a loss, as `learn_shares` does."""
        inputs = [self.pool(), self.validation()]
        self._check_target(inputs[1])
        rows = enumerate(self.design.rows)
        work = [self._proxy(row.run_id, row.kind, row.shares, row.seed, i, inputs) for i, row in rows]
        runs = train_proxies(self.shop, "mix/runs", work, [self.tokens, *inputs])
        learned = self.learned(runs)
        shares = tuple(read_learnt(learned).shares.values())
        first, n = self.settings.design.seed, len(work)
        again = [
            self._proxy(f"l{i:02d}", "learned", shares, first + i, n + i, inputs) for i in range(self.settings.confirm)
        ]
        confirmed = train_proxies(self.shop, "mix/confirmed", again, [self.tokens, *inputs, learned])
        return self.shares(runs, learned, confirmed)

    # ---- what proxies read and are measured on

    def pool(self) -> Artifact:
        """The first tokens of every source, in pieces."""
        settings, plan = self.settings, self.settings.plan

        def make(folder: Path) -> dict[str, Any]:
            documents = first_documents(self.tokens, tokens_read(plan), settings.seed, self.names, self._sides()[0])
            write_table(folder / POOL, pool_of(documents, plan.sequence_length))
            total, largest = int(pc.sum(documents["length"]).as_py()), largest_token(documents, self.tokens)
            return {"documents": documents.num_rows, "tokens": total, "largest_token": largest}

        config = {
            "tokens": tokens_read(plan), "sequence_length": plan.sequence_length, "seed": settings.seed,
            "sources": self.names, "held_out": None if self.given else settings.validation.share,
        }  # fmt: skip
        return self.shop.build_here("mix/pool", "pool", config=config, inputs=[self.tokens], make=make)

    def validation(self) -> Artifact:
        """Held-out documents, a token shard a source."""
        settings, origin = self.settings, self.given or self.tokens

        def make(folder: Path) -> dict[str, Any]:
            wanted = self._sides()[1]
            names = () if self.given else self.names
            documents = first_documents(origin, settings.validation.max_tokens, settings.seed + 1, names, wanted)
            by_source = write_heldout(documents, origin, folder)
            return {
                "tokens": sum(by_source.values()), "tokens_by_source": by_source,
                "largest_token": largest_token(documents, origin),
            }  # fmt: skip

        held = settings.validation.model_dump(exclude={"target", *({"share"} if self.given else ())})
        config = {"validation": held, "seed": settings.seed, "sources": () if self.given else self.names}
        return self.shop.build_here("mix/validation", "tokens", config=config, inputs=[origin], make=make)

    def _sides(self) -> tuple[Wanted | None, Wanted | None]:
        return (None, None) if self.given else held_out(self.settings.seed, self.settings.validation.share)

    def _check_target(self, validation: Artifact) -> None:
        known = validation.manifest.totals["tokens_by_source"]
        for name in self.settings.validation.target:
            if name not in known:
                raise ConfigError(
                    f"there is no held-out source {name!r}{nearest(name, known)}", where="validation.target"
                )

    def _proxy(
        self, run_id: str, kind: str, shares: tuple[float, ...], seed: int, number: int, inputs: Sequence[Artifact]
    ) -> MixProxy:
        pool, validation = inputs
        vocabulary = 1 + max(int(item.manifest.totals["largest_token"]) for item in inputs)
        return MixProxy(
            root=self.shop.root, inputs=fingerprint([self.tokens.ref, pool.ref, validation.ref]),
            tokens=self.tokens.name, validation=validation.name, run_id=run_id, kind=kind, shares=shares, seed=seed,
            plan=self.settings.plan, model=self.settings.proxy_of(vocabulary), number=number, names=self.names,
            pool=pool.name,
        )  # fmt: skip

    # ---- what they teach

    def target(self, result: ProxyResult) -> float:
        """The loss that decides: the weighted mean of held-out bits per byte."""
        weights = self.settings.validation.target or dict.fromkeys(result.losses, 1.0)
        return sum(result.losses[name] * weight for name, weight in weights.items()) / sum(weights.values())

    def learned(self, runs: Artifact) -> Artifact:
        """Regress the losses, and find the mixture with the lowest."""

        def make(folder: Path) -> dict[str, Any]:
            found = self._learn(results_of(runs))
            write_text(folder / LEARNED, found.model_dump_json(indent=1) + "\n")
            return {"runs": found.learned.runs, "failed": found.learned.failed}

        settings = self.settings
        config = {
            "method": settings.method, "learn": settings.learn.model_dump(), "design": self.design.hash,
            "kl": settings.kl if settings.method == "log_linear" else None, "target": settings.validation.target,
            "caps": self.space.caps.tolist(), "natural": self.natural.tolist(),
        }  # fmt: skip
        return self.shop.build_here("mix/learned", "weights", config=config, inputs=[runs], make=make)

    def _learn(self, results: dict[str, ProxyResult]) -> Learnt:
        tables = tables_of(self.design, results)
        mean = join_runs(
            self.design, {run_id: self.target(one) if one.losses else one.reason for run_id, one in results.items()}
        )
        weights = self.settings.validation.target or dict.fromkeys(tables, 1.0)
        gap = None
        if self.settings.method == "log_linear":
            used = {name: tables[name] for name in weights}
            found = learn_log_linear(
                self.names, used, self.space, kl=self.settings.kl, weights=weights, settings=self.settings.learn
            )
            learned, gap, shares = found.learned, found.solved.gap, found.solved.shares
        else:
            learned = learn_shares(self.names, mean, self.settings.learn, self.space)
            shares = np.array([one.share for one in learned.shares])
        rounded = rounded_shares(shares, self.space.caps)
        predicted = predictions(learned.regressor, tables, np.array(rounded), self.space, mean)
        return Learnt(shares=dict(zip(self.names, rounded, strict=True)), gap=gap, learned=learned, predicted=predicted)

    def shares(self, runs: Artifact, learned: Artifact, confirmed: Artifact) -> Artifact:
        """The mixture as YAML, its evidence, every run, and the predicted losses."""

        def make(folder: Path) -> dict[str, Any]:
            found, results = read_learnt(learned), [*results_of(runs).values(), *results_of(confirmed).values()]
            evidence = self._evidence(found, results)
            write_text(folder / SHARES, shares_yaml(found.shares, evidence, self.settings))
            write_text(folder / EVIDENCE, evidence.model_dump_json(indent=1) + "\n")
            write_table(folder / "runs.parquet", runs_table(results, self.names, self.target, "share"))
            write_table(folder / PREDICTED, pa.Table.from_pylist(found.predicted))
            return {"runs": len(results), "sources": len(self.names)}

        config = self.settings.model_dump(include={"method", "tokens", "max_visits"})
        inputs = [learned, runs, confirmed]
        return self.shop.build_here("mix/shares", "shares", config=config, inputs=inputs, make=make)

    def _evidence(self, found: Learnt, results: Sequence[ProxyResult]) -> MixEvidence:
        by_kind = {
            kind: {one.seed: self.target(one) for one in results if one.kind == kind and one.status == "finished"}
            for kind in (PROPORTIONAL, "learned")
        }
        over = gain(by_kind[PROPORTIONAL], by_kind["learned"])
        return MixEvidence(
            method=self.settings.method, learned=found.learned, gap=found.gap,
            natural=dict(zip(self.names, self.natural.tolist(), strict=True)),
            caps=dict(zip(self.names, self.space.caps.tolist(), strict=True)),
            measured_learned=losses(by_kind["learned"].values()),
            measured_natural=losses(by_kind[PROPORTIONAL].values()), gain=over,
            verdict=verdict(over, "The learned shares", "the natural ones"),
        )  # fmt: skip


def tables_of(design: Design, results: dict[str, ProxyResult]) -> dict[str, RunTable]:
    """A table of runs for each held-out source, by name. Raises InputError when no run has a loss."""
    names = sorted({name for one in results.values() for name in one.losses})
    if not names:
        reasons = sorted({one.reason for one in results.values()})
        raise InputError("no run has a loss", found="; ".join(reasons[:3]), fix="mend the cause, and run it again")
    return {
        name: join_runs(design, {run_id: one.losses.get(name, one.reason) for run_id, one in results.items()})
        for name in names
    }


def predictions(
    regressor: str, tables: dict[str, RunTable], shares: Floats, space: ShareSpace, mean: RunTable
) -> list[dict[str, float | str]]:
    """Predicted losses of each held-out source: of the learned mixture, the natural one, and the best that was run.

    Each source's losses are fitted anew by the regressor that was chosen for their mean; `measured_best` is what the
    best run had.
    """
    from mixtures.mixing_laws import LogLinear

    fit = LogLinear() if regressor == LogLinear().name else REGRESSORS[regressor]
    at = int(np.argmin(mean.losses))
    rows: list[dict[str, float | str]] = []
    for name, table in tables.items():
        fitted = fit.fit(table.shares, table.losses)
        values = fitted.predict(np.vstack([shares, space.baseline, table.shares[at]])).tolist()
        rows.append(
            {"source": name, "learned": values[0], "natural": values[1], "best_run": values[2],
             "measured_best": float(table.losses[at])}
        )  # fmt: skip
    return rows


def shares_yaml(shares: dict[str, float], evidence: MixEvidence, settings: MixLearnSettings) -> str:
    """The shares as the `sources` of a mixture, with what they rest on in comments."""
    learned = evidence.learned
    said = [
        f"Learned by {settings.method} from {learned.runs} proxies; regressor {learned.regressor}.",
        learned.verdict,
        evidence.verdict,
        *learned.warnings,
    ]
    body: dict[str, Any] = {"sources": shares}
    if settings.tokens is not None:
        body |= {"tokens": settings.tokens, "max_visits": settings.max_visits}
    comments = "".join(f"# {line}\n" for text in said for line in text.splitlines())
    return comments + yaml.safe_dump(body, sort_keys=False, allow_unicode=True)


def mixture_rows(evidence: MixEvidence) -> list[dict[str, str]]:
    """The learned mixture as rows of text for a terminal or a page, the largest share first."""
    return [
        {
            "source": one.name, "natural": f"{evidence.natural[one.name]:.2%}", "learned": f"{one.share:.2%}",
            "interval": f"{one.low:.2%} to {one.high:.2%}",
            "cap": f"{evidence.caps[one.name]:.2%}" if evidence.caps[one.name] < 1 else "", "": one.statement,
        }
        for one in sorted(evidence.learned.shares, key=lambda one: -one.share)
    ]  # fmt: skip


def read_learnt(artifact: Artifact) -> Learnt:
    """What the regression learned, from the artifact `mix/learned`."""
    return Learnt.model_validate_json((artifact.folder / LEARNED).read_bytes())


def read_evidence(artifact: Artifact) -> MixEvidence:
    """What a learned mixture rests on, from the artifact `mix/shares`."""
    return MixEvidence.model_validate_json((artifact.folder / EVIDENCE).read_bytes())
