"""Select the best documents of a workspace for a token budget: a cut through the ranking, applied shard by shard.

Three artifacts: `<name>.cut` says where the ranking is cut, `<name>` holds the documents with a reason for each one
left out, `<name>.report` shows how the choice shifts length, sources and languages. Texts are read once, by the tasks
that write; what ranks them is read from sidecars in two or three passes, and memory does not grow with the corpus.

Run it:  chosen = Selecting(shop, documents, SelectionSettings(budget="10M", by="education")).run("selected")
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, model_validator

from corpus.artifacts import Artifact, InputRef
from corpus.config import Config, Count
from corpus.errors import ConfigError, InputError
from corpus.shards import read_table, write_text
from pipelines.aligned_scores import ScoreColumn, find_column, score_columns
from pipelines.build import Workshop
from pipelines.tasks import Work
from raters.budget_cut import Chunk, Cut, find_cuts
from raters.normalise import Floats, Names, Normaliser, aligned, fit
from raters.quotas import Group, Quotas, budget_groups, within_caps
from raters.reference_sample import ReferenceSample
from raters.select import Ints, Rule, drawn_keys
from raters.token_count import N_TOKENS

CUT = "cut.json"
REASON = "U32"
"""numpy type of reasons, as long as the longest."""


class SelectionSettings(Config):
    """What is selected."""

    budget: Count = Field(gt=0, description="tokens to select: 10M, 30B")
    by: str = Field("composite", description="the score that ranks documents; its definition says which end is good")
    rule: Rule = Field("prefix", description="prefix, crossing or fill: what happens at the end of the budget")
    temperature: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="0: the best; above: drawn in proportion to exp(z / temperature)"
    )
    quotas: Quotas = Quotas()
    min_tokens: Count = Field(0, description="shorter documents are left out")
    max_tokens: Count | None = Field(None, description="longer documents are left out")
    bytes_per_token: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="estimate tokens from bytes instead of counting them"
    )
    seed: int = Field(0, description="breaks ties, and keys the draw")

    @model_validator(mode="after")
    def _limits_agree(self) -> "SelectionSettings":
        if self.max_tokens is not None and self.max_tokens < self.min_tokens:
            raise ValueError(f"min_tokens {self.min_tokens:,} is above max_tokens {self.max_tokens:,}")
        return self


class GroupCut(Config):
    """The cut of one group of sources."""

    name: str
    sources: tuple[str, ...] | None = Field(description="null: all of them")
    budget: int
    cut: Cut


class CutFile(Config):
    """Where a ranking is cut."""

    settings: SelectionSettings
    score: str
    better: str
    z: tuple[float, ...] = Field((), description="mean and standard deviation of the score, for a draw")
    middle: Normaliser | None = Field(None, description="finds the middle, for a score whose middle is good")
    n_scored: int
    n_documents: int
    groups: tuple[GroupCut, ...]

    @property
    def tokens(self) -> int:
        """Tokens selected."""
        return sum(group.cut.tokens for group in self.groups)


@dataclass(frozen=True)
class Numbers:
    """What ranks the documents of one shard, each of shape (n,): scores as rated, NaN for none; tokens, -1 for none."""

    scores: Floats
    tokens: Ints
    sources: npt.NDArray[np.object_] | None


@dataclass(frozen=True)
class ShardNumbers:
    """Reads the numbers of a shard. Holds paths and settings only, so it crosses process borders."""

    settings: SelectionSettings
    score: ScoreColumn
    length: ScoreColumn | None  # None: estimated from bytes

    def ids(self, path: Path) -> pa.ChunkedArray:
        """The ids of a shard's documents."""
        return read_table(path, ["id"]).column("id")

    def read(self, path: Path, *, sources: bool, check: bool = False) -> Numbers:
        """One shard; `sources` reads them too, `check` compares ids. An infinite score counts as none."""
        ids = partial(self.ids, path)
        scores = self.score.read(path, ids, check=check)
        named = read_table(path, ["source"]).column(0).to_numpy() if sources else None
        if self.length is None:
            n_bytes = read_table(path, ["n_bytes"]).column(0).to_numpy()
            lengths = np.ceil(n_bytes / self.settings.bytes_per_token)
        else:
            lengths = self.length.read(path, ids, check=check)
        tokens = np.where(np.isfinite(lengths), lengths, -1).astype(np.int64)
        return Numbers(np.where(np.isfinite(scores), scores, np.nan), tokens, named)

    def reasons(self, numbers: Numbers) -> Names:
        """Why each document cannot take part, shape (n,); empty where it can."""
        reasons = np.full(len(numbers.scores), "", REASON)
        longest = self.settings.max_tokens
        reasons[numbers.tokens > (np.inf if longest is None else longest)] = "select: too long"
        reasons[numbers.tokens < self.settings.min_tokens] = "select: too short"
        reasons[numbers.tokens < 0] = "select: tokens not counted"
        reasons[np.isnan(numbers.scores)] = "select: not scored"
        return reasons


@dataclass(frozen=True)
class Ranking:
    """Turns scores into what ranks documents, higher first."""

    better: str
    temperature: float
    seed: int
    z: tuple[float, ...] = ()
    middle: Normaliser | None = None

    def values(self, scores: Floats) -> Floats:
        """Scores turned so that higher is better; shape (n,), NaN for none."""
        if self.better == "middle":
            assert self.middle is not None
            return aligned(self.middle.apply(scores), "middle")
        return -scores if self.better == "low" else scores

    def keys(self, scores: Floats, ids: Sequence[str]) -> Floats:
        """What documents are sorted by, shape (n,): the turned scores, or those with noise keyed by id."""
        values = self.values(scores)
        return drawn_keys(values, ids, self.seed, self.temperature, self.z) if self.temperature else values


class Selecting:
    """One selection from the documents of a workspace."""

    def __init__(self, shop: Workshop, documents: Artifact, settings: SelectionSettings) -> None:
        """Find the columns. Raises ConfigError when a score or the tokens are not there, InputError for no document."""
        if not documents.files():
            raise InputError(f"{documents.name} holds no document to select from")
        self.shop, self.documents, self.settings = shop, documents, settings
        columns = score_columns(shop.root, documents)
        self.score = find_column(columns, settings.by, documents)
        length = None if settings.bytes_per_token else _token_column(columns, documents)
        self.numbers = ShardNumbers(settings, self.score, length)
        names = {column.artifact for column in (self.score, length) if column}
        self.inputs = [documents, *(Artifact(shop.root / name) for name in sorted(names))]

    def run(self, name: str) -> Artifact:
        """Make the cut, the documents and the report; returns the documents."""
        from pipelines.stages.select_work import SelectWork

        config = {"selection": self.settings.model_dump(), "score": self.score.name, "version": 1}
        cut = self.shop.build_here(f"{name}.cut", "cut", config=config, inputs=self.inputs, make=self._cut)
        work: dict[str, Work] = {
            path.stem: SelectWork(path, self.numbers, cut.folder / CUT) for path in self.documents.files()
        }
        inputs: list[Artifact | InputRef] = [*self.inputs, cut]
        chosen = self.shop.build_tasks(name, "documents", config=config, inputs=inputs, work=work)
        self._report(name, chosen, cut)
        return chosen

    def _report(self, name: str, chosen: Artifact, cut: Artifact) -> None:
        from pipelines.report.selection import write_selection_report

        known = self.shop.root / "duplicates" / "manifest.json"
        duplicates = Artifact(known.parent) if known.exists() else None
        inputs = [chosen, cut, *([duplicates] if duplicates else [])]

        def make(folder: Path) -> dict[str, Any]:
            file, origin = read_cut(cut.folder / CUT), self.documents.name
            return write_selection_report(
                folder, chosen, file, origin, duplicates=duplicates, evidence=self._evidence()
            )

        self.shop.build_here(f"{name}.report", "report", config={"version": 1}, inputs=inputs, make=make)

    def _evidence(self) -> str:
        """Where the weights come from, if the score is a composite."""
        rater = Artifact(self.shop.root / self.score.artifact).manifest.config.get("rater", {})
        return str(rater.get("composite", {}).get("evidence", ""))

    # ---- the cut

    def _cut(self, folder: Path) -> dict[str, Any]:
        ranking, n_scored, n_documents = self._ranking()
        if not n_scored:
            raise InputError(
                f"no document of {self.documents.name} has the score {self.score.name!r}",
                found=f"{n_documents:,} documents, all without it", fix="rank by another score, or rate them again",
            )  # fmt: skip
        groups, cuts = self._groups(ranking)
        whole = not self.settings.quotas.by_source
        file = CutFile(
            settings=self.settings, score=self.score.name, better=self.score.score.better,
            z=ranking.z, middle=ranking.middle, n_scored=n_scored, n_documents=n_documents,
            groups=tuple(
                GroupCut(name=group.name, sources=None if whole else group.sources, budget=group.budget, cut=cut)
                for group, cut in zip(groups, cuts, strict=True)
            ),
        )  # fmt: skip
        write_text(folder / CUT, file.model_dump_json(indent=1) + "\n")
        return {"documents": sum(cut.documents for cut in cuts), "tokens": file.tokens}

    def _ranking(self) -> tuple[Ranking, int, int]:
        """The ranking, with what a draw or a middle needs; documents that have a score, and all documents.

        Only a draw and a middle need a reference sample; the pass over all documents also checks that ids agree.
        """
        plain = Ranking(self.score.score.better, self.settings.temperature, self.settings.seed)
        sampled = bool(plain.temperature) or plain.better == "middle"
        collected = ReferenceSample(seed=self.settings.seed)
        scored = total = 0
        for path in self.documents.files():
            ids = self.numbers.ids(path)
            scores = self.score.read(path, partial(_same, ids), check=True)
            scored, total = scored + int(np.isfinite(scores).sum()), total + len(scores)
            if sampled:
                collected.add(pa.table({"id": ids, "score": scores}))
        if not scored or not sampled:
            return plain, scored, total
        scores = collected.sample().columns["score"]
        middle = fit(scores, "quantile", self.score.name) if plain.better == "middle" else None
        turned = Ranking(plain.better, plain.temperature, plain.seed, middle=middle)
        z = fit(turned.values(scores), "z", self.score.name).table if plain.temperature else ()
        return Ranking(plain.better, plain.temperature, plain.seed, z, middle), scored, total

    def _groups(self, ranking: Ranking) -> tuple[list[Group], list[Cut]]:
        quotas, budget = self.settings.quotas, self.settings.budget
        if not quotas.by_source:
            groups = budget_groups(Quotas(), budget, {})
            return groups, self._solve(ranking, groups)
        offered = self._offered()
        groups = budget_groups(quotas, budget, offered)
        if not quotas.caps:
            return groups, self._solve(ranking, groups)

        def solve(groups: Sequence[Group]) -> tuple[list[Cut], list[dict[str, int]]]:
            cuts = self._solve(ranking, groups)
            return cuts, self._tokens_by_source(ranking, groups, cuts)

        return within_caps(quotas.caps, budget, sorted(offered), solve)

    def _solve(self, ranking: Ranking, groups: Sequence[Group]) -> list[Cut]:
        def chunks() -> Iterator[Chunk]:
            return (chunk for chunk, _ in self._chunks(ranking, groups))

        settings = self.settings
        return find_cuts(chunks, [group.budget for group in groups], seed=settings.seed, rule=settings.rule)

    def _chunks(self, ranking: Ranking, groups: Sequence[Group]) -> Iterator[tuple[Chunk, Numbers]]:
        by_source = self.settings.quotas.by_source
        for path in self.documents.files():
            numbers = self.numbers.read(path, sources=by_source)
            yield ranked_chunk(path, self.numbers, numbers, ranking, groups if by_source else None), numbers

    def _offered(self) -> dict[str, int]:
        """Tokens that can be selected, by source; sources with documents but none of these have 0."""
        offered: dict[str, int] = {}
        for path in self.documents.files():
            numbers = self.numbers.read(path, sources=True)
            free = self.numbers.reasons(numbers) == ""
            _add_by_source(offered, numbers, np.where(free, numbers.tokens, 0))
        return offered

    def _tokens_by_source(self, ranking: Ranking, groups: Sequence[Group], cuts: Sequence[Cut]) -> list[dict[str, int]]:
        got: list[dict[str, int]] = [{} for _ in groups]
        for chunk, numbers in self._chunks(ranking, groups):
            for i, cut in enumerate(cuts):
                mask = cut.takes(np.where(chunk.groups == i, chunk.keys, np.nan), chunk.ids, self.settings.seed)
                _add_by_source(got[i], numbers, np.where(mask, numbers.tokens, 0))
        return got


def ranked_chunk(
    path: Path, reader: ShardNumbers, numbers: Numbers, ranking: Ranking, groups: Sequence[Group | GroupCut] | None
) -> Chunk:
    """A shard as the search for the cut sees it; `groups` None: all documents fall under the first budget."""
    cached: list[list[str]] = []

    def ids() -> list[str]:
        if not cached:
            cached.append(reader.ids(path).to_pylist())
        return cached[0]

    free = reader.reasons(numbers) == ""
    keys = np.where(free, ranking.keys(numbers.scores, ids() if ranking.temperature else ()), np.nan)
    number = np.zeros(len(keys), np.int64)
    if groups is not None:
        assert numbers.sources is not None
        of = {source: i for i, group in enumerate(groups) for source in group.sources or ()}
        number = np.array([of.get(source, -1) for source in numbers.sources], np.int64)
    return Chunk(keys, np.maximum(numbers.tokens, 0), number, ids)


def _same(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    return ids


def read_cut(path: Path) -> CutFile:
    """Read a cut."""
    return CutFile.model_validate_json(path.read_bytes())


def ranking_of(file: CutFile) -> Ranking:
    """The ranking that a cut goes through."""
    return Ranking(file.better, file.settings.temperature, file.settings.seed, file.z, file.middle)


def _add_by_source(total: dict[str, int], numbers: Numbers, tokens: Ints) -> None:
    assert numbers.sources is not None
    names, codes = np.unique(numbers.sources.astype(np.str_), return_inverse=True)
    for i, name in enumerate(names):
        total[str(name)] = total.get(str(name), 0) + int(tokens[codes == i].sum())


def _token_column(columns: Iterable[ScoreColumn], documents: Artifact) -> ScoreColumn:
    known = list(columns)
    if not any(column.score.name == N_TOKENS for column in known):
        raise ConfigError(
            f"the tokens of {documents.name} were not counted", expected=f"a score column {N_TOKENS}",
            fix=f"gradatim rate {documents.name} --rater 'tokens={{kind: tokens, tokenizer: tokenizer.json}}', "
            "or --bytes-per-token 4 to estimate them",
        )  # fmt: skip
    return find_column(known, N_TOKENS, documents)
