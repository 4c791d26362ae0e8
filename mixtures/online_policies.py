"""Online mixtures: rules that move the shares of sources while a run trains, each a frozen class with a `step`.

    signal       what the trainer measures for a step, a number a source (or a matrix of them)
    memory       what a rule must remember between steps, plain lists of numbers; most need nothing

A rule is a pure function of shares, signal and memory, so a run's shares follow from its log
(`mixtures.online_shares`), and the order made of them is an artifact like any other. None of them is free, and none
is known to beat good static shares at scale: Aioli's authors find several behind plain stratified sampling. Hold each
against the same run with static shares.

How it is used: `OnlineShares(names, DoReMi(), shares).update(tokens, signal)`.

Source: the released code of each method (sangmichaelxie/doremi, princeton-nlp/LLM-Shearing, Olivia-fsm/DoGE,
HazyResearch/skill-it and aioli, yidingjiang/ado).
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from corpus.config import Config
from corpus.errors import ConfigError, InputError
from mixtures.loss_curves import LossCurve, fit_curve
from mixtures.share_design import Floats

Memory = dict[str, Any]
Step = tuple[Floats, Memory]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Smoothing = Annotated[float, Field(ge=0, lt=1)]


def multiplied(shares: Floats, exponents: Floats, smoothing: float = 0.0) -> Floats:
    """(1 - c) a + c / k, a proportional to shares times exp(exponents); shape (k,), summing to one."""
    raised = shares * np.exp(exponents - exponents.max())
    mixed: Floats = (1 - smoothing) * raised / raised.sum() + smoothing / len(shares)
    return mixed


class DoReMi(Config):
    """Raise the share of sources whose loss is still above a reference model's. Signal (k,): excess losses.

    The mixture to train the large model with is the mean over all steps (`mixtures.online_shares.mean_shares`).

    Evidence: by the abstract, shares from a 280M proxy took an 8B model on the Pile to its baseline's few-shot accuracy
    in 2.6 times fewer steps; Aioli's authors find no method of this kind that beats stratified sampling throughout.
    Cost: a trained reference model of the proxy's size, and the proxy, 200,000 steps each.

    Source: arXiv 2305.10429, algorithm 1.
    """

    kind: Literal["doremi"] = "doremi"
    eta: Rate = Field(1.0, description="step size")
    smoothing: Smoothing = Field(1e-4, description="share that is spread equally after every step")

    def begin(self, shares: Floats) -> Memory:
        """Nothing to remember."""
        return {}

    def step(self, shares: Floats, signal: Floats, memory: Memory, tokens: int) -> Step:
        """Shares after excess losses (k,), proxy minus reference; a negative one counts as 0."""
        return multiplied(shares, self.eta * np.maximum(signal, 0.0), self.smoothing), memory


class ShearedLoading(Config):
    """Raise the share of sources that lag behind their target loss. Signal (k,): losses at an evaluation.

    Evidence: its authors used it while continuing pruned models, against targets predicted from larger models of the
    same family; wrong targets steer wrongly. Cost: targets, and an evaluation of every source at each update.

    Source: arXiv 2310.06694, algorithm 1; as in the code, a loss below its target lowers the share.
    """

    kind: Literal["sheared"] = "sheared"
    targets: tuple[float, ...] = Field(description="the loss each source should reach")
    eta: Rate = Field(1.0, description="step size")
    smoothing: Smoothing = Field(1e-4, description="share that is spread equally after every step")

    def begin(self, shares: Floats) -> Memory:
        """Nothing to remember; the targets must fit the sources."""
        _fits("targets", len(self.targets), len(shares))
        return {}

    def step(self, shares: Floats, signal: Floats, memory: Memory, tokens: int) -> Step:
        """Shares after losses (k,)."""
        return multiplied(shares, self.eta * (signal - np.array(self.targets)), self.smoothing), memory


class DoGE(Config):
    """Raise the share of sources whose gradient agrees with the others'. Signal (k,): `doge_scores`.

    Evidence: by the abstract, better perplexity and few-shot accuracy than baselines on SlimPajama, for a base model
    trained with a proxy's shares. Cost: a gradient of every source at each step of that proxy, k backward passes for
    one.

    Source: arXiv 2310.15393, algorithm 1.
    """

    kind: Literal["doge"] = "doge"
    mu: Rate = Field(0.05, description="how slowly shares move")

    def begin(self, shares: Floats) -> Memory:
        """Nothing to remember."""
        return {}

    def step(self, shares: Floats, signal: Floats, memory: Memory, tokens: int) -> Step:
        """Shares after scores (k,)."""
        return multiplied(shares, signal / self.mu), memory


def doge_scores(products: Floats, lr: float) -> Floats:
    """DoGE's signal: lr (sum_j G_i . G_j - |G_i|^2) / mean |G|, between 0 and 5 lr; shape (k,).

    `products` has shape (k, k): the inner products G_i . G_j of the sources' gradients.
    """
    own = np.diag(products)
    others = products.sum(axis=1) - own
    scores: Floats = np.clip(lr * others / np.sqrt(own).mean(), 0.0, 5 * lr)
    return scores


class SkillIt(Config):
    """Raise what helps sources that are still poorly learned. Signal (m,): losses on m targets.

    A graph row is a source that is trained on, a column a target; an entry above 0 says that the first helps the
    second. Shares start over from the first ones at each step, by the losses of the last few.

    Evidence: its authors report gains on synthetic skills, fine-tuning tasks and continued training, where skills do
    build on each other; with an empty or a complete graph it has nothing to follow. Cost: the graph, one short run for
    each source or each pair.

    Source: arXiv 2307.14430, algorithm 1.
    """

    kind: Literal["skill_it"] = "skill_it"
    graph: tuple[tuple[float, ...], ...] = Field(description="a row for each source, a column for each target")
    eta: Rate = Field(0.5, description="step size; the authors use .1 to .8")
    window: int = Field(3, ge=1, description="losses of so many last steps are summed")

    def begin(self, shares: Floats) -> Memory:
        """The first shares, and no losses. Raises ConfigError for a graph that cannot move anything."""
        _fits("graph", len(self.graph), len(shares))
        if len({len(row) for row in self.graph}) != 1 or len(set(self.graph)) < 2:
            raise ConfigError(
                "this graph cannot steer a mixture: every source helps the same targets as much",
                expected="rows of one length, not all equal",
                where="graph",
                fix="measure it: train briefly on one source, and see which losses fall",
            )
        return {"first": shares.tolist(), "losses": []}

    def step(self, shares: Floats, signal: Floats, memory: Memory, tokens: int) -> Step:
        """Shares after losses (m,)."""
        graph = np.array(self.graph)
        _fits("signal", len(signal), graph.shape[1])
        losses = [*memory["losses"], signal.tolist()][-self.window :]
        moved = multiplied(np.array(memory["first"]), self.eta * (graph @ np.sum(losses, axis=0)))
        return moved, {**memory, "losses": losses}


class Aioli(Config):
    """Raise what lowered losses in short probes. Signal (k, k): `interactions`, the trained source in the COLUMN.

    With a moving average the shares start over from the first ones at each step; without one they go on from the last.

    Evidence: by the abstract, ahead of stratified sampling on 6 of 6 datasets, by .27 points of perplexity on average,
    where other methods fall up to 6.9 points behind it. Cost: probes inside the run (4 rounds of 4 steps for each
    source, every 250 steps), and an evaluation after each.

    Source: arXiv 2411.05735, algorithm 2.
    """

    kind: Literal["aioli"] = "aioli"
    eta: Rate = Field(0.2, description="step size")
    ema: float | None = Field(0.1, ge=0, lt=1, description="weight of the matrices before; null: no average")

    def begin(self, shares: Floats) -> Memory:
        """The first shares, and no matrix."""
        return {"first": shares.tolist(), "matrix": None}

    def step(self, shares: Floats, signal: Floats, memory: Memory, tokens: int) -> Step:
        """Shares after a matrix (k, k)."""
        if signal.shape != (len(shares), len(shares)):
            raise _shape("a matrix of sources by sources", signal)
        if self.ema is None:
            return multiplied(shares, self.eta * signal.sum(axis=0)), memory
        before = signal if memory["matrix"] is None else np.array(memory["matrix"], np.float64)
        matrix = (1 - self.ema) * signal + self.ema * before
        moved = multiplied(np.array(memory["first"]), self.eta * matrix.sum(axis=0))
        return moved, {**memory, "matrix": matrix.tolist()}


def probe_mixtures(k: int, own: float = 0.625) -> Floats:
    """Aioli's probes, shape (k, k): row j gives source j the share `own`, the others equal ones."""
    if k < 2 or not 1 / k < own <= 1:
        raise ConfigError("probes need two or more sources, and a share above an equal one", found=f"{k}, {own:g}")
    probes = np.full((k, k), (1 - own) / (k - 1))
    np.fill_diagonal(probes, own)
    return probes


def interactions(drops: Floats, own: float = 0.625) -> Floats:
    """Aioli's matrix, shape (k, k), entry (i, j): how fast training on source j alone would lower the loss on i.

    `drops` has shape (k, k): entry (i, j) is the mean drop of loss i after the probe that favours j.
    """
    solved = np.linalg.solve(probe_mixtures(len(drops), own), drops.T)
    return np.asarray(solved.T, np.float64)


class ADO(Config):
    """Raise sources whose loss still falls fast, by a power law of each. Signal (k,): training losses of a step.

    Evidence: by the abstract, comparable to or better than earlier methods; tried on the Pile at 124M and 1.3B. Cost:
    none but the fits; it follows losses that training knows anyway.

    Source: arXiv 2410.11820. The credit of a source is sqrt(h), h its recent share, as in the paper; the released code
    has sqrt(h (1 - h)) (`credit: variance`).
    """

    kind: Literal["ado"] = "ado"
    start: int = Field(500, ge=3, description="steps with the first shares before the first fit")
    refit: int = Field(1000, ge=1, description="steps between fits")
    thin: int = Field(10, ge=1, description="losses are averaged over so many steps, and the first such mean left out")
    least: float = Field(0.01, ge=0, lt=1, description="the smallest preference of a source, before averaging")
    recent: Smoothing = Field(0.9, description="weight of the shares before, in the recent share")
    inertia: Smoothing = Field(0.9, description="weight of the mean of all preferences beside the newest")
    credit: Literal["share", "variance"] = Field("share", description="of a recent share h: sqrt(h) or sqrt(h (1 - h))")

    def begin(self, shares: Floats) -> Memory:
        """The first shares as prior, recent shares and mean preference; no losses, no curves."""
        first = shares.tolist()
        return {"prior": first, "recent": first, "mean": first, "steps": 0, "open": [], "points": [], "curves": None}

    def step(self, shares: Floats, signal: Floats, memory: Memory, tokens: int) -> Step:
        """Shares after losses (k,) at so many tokens of the run."""
        steps = memory["steps"] + 1
        memory = self._noted({**memory, "steps": steps}, signal, tokens)
        recent = self.recent * np.array(memory["recent"]) + (1 - self.recent) * shares
        memory["recent"] = recent.tolist()
        due = steps >= self.start and ((steps - self.start) % self.refit == 0 or memory["curves"] is None)
        if due and len(memory["points"]) >= 3:
            memory["curves"] = _curves(memory["points"])
        if memory["curves"] is None:
            return shares, memory
        curves = [LossCurve(*curve) for curve in memory["curves"]]
        seen = np.full(len(shares), float(tokens))
        preferred = _lifted(ado_preference(curves, seen, np.array(memory["prior"]), recent, self.credit), self.least)
        mean = np.array(memory["mean"])
        memory["mean"] = ((1 - 1 / (steps + 1)) * mean + preferred / (steps + 1)).tolist()
        moved = self.inertia * mean + (1 - self.inertia) * preferred
        return moved / moved.sum(), memory

    def _noted(self, memory: Memory, losses: Floats, tokens: int) -> Memory:
        """The losses of a step, averaged over `thin` of them."""
        waiting = [*memory["open"], [float(tokens), *losses.tolist()]]
        if len(waiting) < self.thin:
            return {**memory, "open": waiting}
        points = [*memory["points"], np.mean(waiting, axis=0).tolist()]
        first = memory["steps"] == self.thin  # the first mean is of losses that fall too fast for any power law
        return {**memory, "open": [], "points": [] if first else points}


def ado_preference(
    curves: Sequence[LossCurve], tokens: Floats, prior: Floats, recent: Floats, credit: str = "share"
) -> Floats:
    """ADO's preference, shape (k,): prior times slope times credit, normalised. `tokens` (k,) are what n stands for."""
    slopes = np.array([curve.slope(float(n)) for curve, n in zip(curves, tokens, strict=True)])
    earned = np.sqrt(recent if credit == "share" else recent * (1 - recent))
    raw = prior * slopes * earned
    if not raw.sum() > 0:  # no loss falls any more: nothing to prefer
        return prior
    preferred: Floats = raw / raw.sum()
    return preferred


def _lifted(shares: Floats, least: float) -> Floats:
    lifted: Floats = np.maximum(shares, least)
    return lifted / lifted.sum()


def _curves(points: Sequence[Sequence[float]]) -> list[list[float]]:
    table = np.array(points)
    fitted = [fit_curve(table[:, 0], table[:, 1 + i]) for i in range(table.shape[1] - 1)]
    return [[curve.e, curve.b, curve.a] for curve in fitted]


OnlinePolicy = Annotated[DoReMi | ShearedLoading | DoGE | SkillIt | Aioli | ADO, Field(discriminator="kind")]


def _fits(what: str, found: int, expected: int) -> None:
    if found != expected:
        raise ConfigError(f"the {what} of an online mixture does not fit", expected=f"{expected} numbers or rows",
                          found=f"{found}", where=what)  # fmt: skip


def _shape(expected: str, signal: Floats) -> InputError:
    return InputError("the signal of an online mixture has the wrong shape", expected=expected, found=f"{signal.shape}")
