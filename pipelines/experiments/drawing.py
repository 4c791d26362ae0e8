"""The mixture of an arm: as long as its plan, and counted out over the documents of a pool.

A study's mixture says no tokens: those of the plan's whole steps are read, and one more, which is the last one's
target. Phases end on whole steps, as those of a plan do, and the one token more belongs to the first, so that a phase's
last target lies inside it: two runs that differ only in a later phase train alike up to its end.

How it is used: `allocation = counted_out(candidates, arm.settings)`, then `mixtures.draw.draw`.
"""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curriculum.order import codes_and_names
from curriculum.visits import place_digests
from mixtures.allocate import allocate
from mixtures.allocation import Allocation
from mixtures.available import Available, Held, available
from mixtures.bands import QUALITY
from mixtures.config import Extent, MixtureConfig, PhaseConfig, SourceConfig
from mixtures.phases import lay_out
from mixtures.shares import MixtureError, exactly
from pipelines.experiments.columns import DOCUMENT, DOCUMENT_TOKENS, LENGTH, PAIRED, RANDOM
from pipelines.experiments.each_source import each_source
from pipelines.experiments.study import ArmSettings
from pipelines.synthetic import check_share
from trainer_hooks.lengths import half_up
from trainer_hooks.plan import ResolvedPlan
from trainer_hooks.resolution import resolve

_MANY = 1_000_000
_RANDOM_SEED = 0x72616E646F6D  # apart from those of draws and shuffles


def arm_mixture(settings: ArmSettings, sources: Iterable[str]) -> MixtureConfig:
    """An arm's mixture over some sources, with the tokens of its plan, and phases of whole steps.

    Raises MixtureError for phases that do not add up to the plan.
    """
    resolved, mixture = resolve(settings.plan), each_source(settings.mixture, sources)
    spare = (mixture.turns or 1) * (mixture.batch or 1)  # a whole turn where the mixture is read in turns
    lengths = _whole_steps(mixture, resolved)
    phases: list[PhaseConfig] = []
    for phase, tokens in zip(mixture.phases, lengths, strict=True):
        asks = None if phase.sources is None else _by_document(phase.sources)
        extent = Extent(tokens=tokens if phases else tokens + spare)
        phases.append(phase.model_copy(update={"tokens": extent, "sources": asks}))
    tokens = resolved.tokens + spare
    changes = {"tokens": tokens, "sources": _by_document(mixture.sources), "phases": tuple(phases)}
    return mixture.model_copy(update=changes)


def run_candidates(pool: pa.Table, settings: ArmSettings, seed: int) -> pa.Table:
    """What a run of an arm may read: the pieces of a pool, with the column `random` of its seed.

    `random` is a float32 in [0, 1) that follows from the document and the seed: one number for all its pieces.
    """
    if settings.mixture.pairing == "disjoint":
        pool = pool.filter(pc.invert(pool[PAIRED]))
    document = pool[DOCUMENT].to_numpy()
    hashes = place_digests(document, np.full(len(document), seed ^ _RANDOM_SEED, np.int64)).view(np.uint64)
    random = ((hashes >> np.uint64(40)).astype(np.float64) * 2.0**-24).astype(np.float32)
    return pool.drop_columns([DOCUMENT, PAIRED]).append_column(RANDOM, pa.array(random))


def counted_out(candidates: pa.Table, settings: ArmSettings) -> Allocation:
    """Exact tokens of each component and phase of an arm.

    Raises: MixtureError where the candidates cannot fill the mixture, or what it names is not there.
    """
    mixture = arm_mixture(settings, codes_and_names(candidates["source"])[1])
    allocation = allocate(available(candidates, mixture), mixture)
    check_share(candidates, allocation, mixture.max_synthetic)
    return allocation


def check_filled(pool: pa.Table, arms: Mapping[str, ArmSettings], size: str) -> None:
    """Raise MixtureError, naming the arm, where the pool cannot fill one; and what helps where tokens are missing."""
    for name, settings in arms.items():
        candidates = run_candidates(pool, settings, 0)
        try:
            counted_out(candidates, settings)
        except MixtureError as error:
            found, fix = error.found, error.fix or f"change it, or leave it out (sizes.{size}.arms)"
            if _short(candidates, settings):
                found = "; ".join(fact for fact in (found, _held(pool)) if fact)
                fix += f"; or read fewer tokens (sizes.{size}.plan.tokens), or let more into the pool "
                fix += f"(sizes.{size}.pool: longest, per_source, tokens), or name more documents"
            raise MixtureError(
                f"the arm {name} cannot be read: {error.what}", expected=error.expected, found=found,
                where=error.where, fix=fix,
            ) from None  # fmt: skip


def by_document(name: str) -> str:
    """A column's name, `length` and `-length` standing for the whole document's: pieces are nearly all equally long."""
    return name.removesuffix(LENGTH) + DOCUMENT_TOKENS if name.removeprefix("-") == LENGTH else name


def _by_document(asks: Mapping[str, SourceConfig]) -> dict[str, SourceConfig]:
    """What each source asks for, with columns as `by_document` names them."""
    changed = {}
    for key, ask in asks.items():
        cuts = {name: cut for name in QUALITY if (cut := getattr(ask, name)) is not None}
        renamed = {name: cut.model_copy(update={"by": by_document(cut.by)}) for name, cut in cuts.items()}
        changed[key] = ask.model_copy(update=renamed)
    return changed


def _whole_steps(mixture: MixtureConfig, resolved: ResolvedPlan) -> list[int]:
    """Tokens of each phase, its end rounded to the nearest whole step."""
    nominal, step = resolved.plan.tokens, resolved.step_tokens
    if not mixture.phases:
        return []
    plain = mixture.model_copy(update={"turns": None, "batch": None})
    lay_out(plain, nominal)  # refuses phases that do not add up to the plan, before they are rounded
    ends, at = [0], Fraction(0)
    for phase in mixture.phases:
        extent = phase.tokens
        at += Fraction(extent.tokens) if extent.tokens is not None else (exactly(extent.share or 0) or 0) * nominal
        ends.append(half_up(at / step) * step)
    return [end - begin for begin, end in pairwise(ends)]


def _held(pool: pa.Table) -> str:
    rows = pool.group_by("source", use_threads=False).aggregate([("length", "sum")]).to_pylist()
    by_source = sorted((str(row["source"]), row["length_sum"]) for row in rows)
    shown = ", ".join(f"{source} {tokens:,}" for source, tokens in by_source)
    return f"{sum(tokens for _, tokens in by_source):,} tokens in the pool: {shown}"


def _short(candidates: pa.Table, settings: ArmSettings) -> bool:
    """Whether only tokens are missing: a million times as many would do."""

    def more(what: Held) -> Held:
        return what[0] * _MANY, what[1] * _MANY

    try:
        mixture = arm_mixture(settings, codes_and_names(candidates["source"])[1])
        held = available(candidates, mixture)
        sources = {name: more(one) for name, one in held.sources.items()}
        bands = {key: tuple(more(band) for band in one) for key, one in held.bands.items()}
        check_share(candidates, allocate(Available(sources, bands), mixture), mixture.max_synthetic)
    except MixtureError:
        return False
    return True
