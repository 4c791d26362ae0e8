"""The documents of a workspace as what a study trains and measures on: tokens, a pool of pieces, held-out documents.

The pool is a table of candidates (`curriculum.visits.CANDIDATE_SCHEMA`) that every run draws from, a row a piece: a
document is cut into pieces of a sequence's length, so that a batch of a small model is not one text. All pieces of a
document have its scores, turned so that higher is better. No held-out document is in it, and no rephrasing of one.

Tokens and tokenizer are shared by all studies of the same documents. Everything is an artifact `experiments/...`, made
where it is missing.

How it is used: `data = prepare(shop, [documents], study, "hour", columns={"score": "edu"}, roles={})`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from corpus.artifacts import Artifact, InputRef
from corpus.config import nearest
from corpus.errors import ArtifactError, ConfigError, InputError
from corpus.fingerprints import fingerprint
from corpus.shards import read_table, write_table
from corpus.tokens import Ids, read_token_shard
from curriculum.order import codes_and_names
from mixtures.available import keys_of, owned_sources
from pipelines.build import Workshop
from pipelines.candidates import scores_of
from pipelines.experiments.arms import arms_of
from pipelines.experiments.columns import DOCUMENT, bound_columns, check_names
from pipelines.experiments.documents import (
    HELD_OUT,
    cut_to,
    document_table,
    limited,
    names_in_study,
    pieces,
    without_unscored,
)
from pipelines.experiments.drawing import check_filled
from pipelines.experiments.each_source import each_source
from pipelines.experiments.heldout import check_measured, heldout_sets, heldout_table, write_heldout
from pipelines.experiments.study import SCORE, ArmSettings, SizeSettings, Study
from pipelines.mix_proxies import source_tokens
from pipelines.phase_orders import columns_read
from pipelines.reading import tokenised, trained_tokenizer
from pipelines.token_source import TokenSource

if TYPE_CHECKING:
    from trainer_hooks.evaluation import HeldOut

VERSION = 1
POOL = "pool.parquet"


@dataclass(frozen=True)
class StudyData:
    """What all runs of a study read and are measured on: names of artifacts in the workspace `root`.

    Attributes:
        tokens: artifacts of token shards, whose shards a pool and orders count one after the other.
        fingerprint: of all of it.
    """

    root: Path
    tokenizer: str
    tokens: tuple[str, ...]
    pool: str
    heldout: str
    curve: str
    fingerprint: str

    @property
    def vocabulary(self) -> int:
        """Tokens of the tokenizer."""
        return int(Artifact(self.root / self.tokenizer).manifest.totals["vocabulary"])

    @property
    def tokenizer_file(self) -> Path:
        """The tokenizer.json."""
        return Artifact(self.root / self.tokenizer).files(".json")[0]

    def token_artifacts(self) -> list[Artifact]:
        """The artifacts of token shards."""
        return [Artifact(self.root / name) for name in self.tokens]

    def shard_names(self) -> list[str]:
        """Names of the token shards, in the order in which the pool and orders count them."""
        return [f"{item.name}/{path.name}" for item in self.token_artifacts() for path in item.files(".npy")]

    def token_arrays(self) -> list[Ids]:
        """The token ids of each shard, mapped, as `trainer_hooks.trainer.train` takes them."""
        return [read_token_shard(path) for item in self.token_artifacts() for path in item.files(".npy")]

    def pool_table(self) -> pa.Table:
        """The pool: CANDIDATE_SCHEMA, the study's columns, and those of `pipelines.experiments.columns`."""
        return read_table(self.root / self.pool / POOL).unify_dictionaries()

    def heldout_sets(self) -> "dict[str, HeldOut]":
        """What is measured on at the end, by source, and the best documents (`results.BEST`) where there is a score."""
        return heldout_sets(Artifact(self.root / self.heldout))

    def curve_sets(self) -> "dict[str, HeldOut]":
        """The same sets, smaller, for measuring while training."""
        return heldout_sets(Artifact(self.root / self.curve))

    def heldout_table(self) -> pa.Table:
        """The documents of the held-out sets (`heldout.SCHEMA`): by source as in the sets, and in their order."""
        return heldout_table(Artifact(self.root / self.heldout))


def prepare(
    shop: Workshop,
    documents: Sequence[Artifact],
    study: Study,
    size: str,
    *,
    columns: Mapping[str, str],
    roles: Mapping[str, Sequence[str]],
) -> StudyData:
    """Make what a study reads at a size, where it is missing.

    Args:
        documents: artifacts of documents, each source in one of them.
        columns: for the study's columns the scores they are (`pipelines.experiments.columns`), over its own defaults.
        roles: for each role of the study the sources that play it, by name or by what they lie below.

    Raises: ConfigError for a role or a score that is missing or not there; ArtifactError for artifacts of another kind;
        InputError where there is nothing to measure on; MixtureError where the pool cannot fill an arm.
    """
    bound = study.model_copy(update={"columns": {**study.columns, **columns}})
    return _Preparation(shop, documents, bound, size, roles).run()


class _Preparation:
    """The steps of `prepare`, which share what they read."""

    def __init__(
        self, shop: Workshop, documents: Sequence[Artifact], study: Study, size: str,
        roles: Mapping[str, Sequence[str]],
    ) -> None:  # fmt: skip
        _check_roles(study, roles)
        check_names(study.columns)
        self.shop, self.study, self.size_name, self.roles = shop, study, size, roles
        self.size: SizeSettings = study.size(size)
        self.documents = _documents(documents)
        self.arms = {name: arm.settings for name, arm in arms_of(study, size).items()}
        self.sequence_length = _sequence_length(self.arms)
        self.read = {column for arm in self.arms.values() for column in columns_read(arm.mixture, arm.order)}

    def run(self) -> StudyData:
        tokenizer, tokens = self.tokenised()
        self.tokenizer = tokenizer.files(".json")[0]
        self.sources = [TokenSource.of(item) for item in tokens]
        columns = {name: held for name, held in self.study.bound.items() if name in {*self.read, SCORE}}
        self.held = bound_columns(self.shop, self.documents, columns)
        self.scores = scores_of(self.sources, self.held)
        made = [self.pool(), self.heldout("heldout", self.size.measured.tokens),
                self.heldout("curve", self.size.measured.curve_tokens)]  # fmt: skip
        identity = fingerprint([VERSION, *(item.ref for item in (tokenizer, *tokens, *made))])
        pool, heldout, curve = (item.name for item in made)
        names = tuple(item.name for item in tokens)
        data = StudyData(self.shop.root, tokenizer.name, names, pool, heldout, curve, identity)
        check_filled(data.pool_table(), self.arms, self.size_name)
        return data

    def tokenised(self) -> tuple[Artifact, list[Artifact]]:
        """The documents as token shards, by a tokenizer of their own; both named after what they are made of."""
        of = f"{self.size.vocabulary}-{fingerprint([item.ref for item in self.documents])[:8]}"
        try:
            tokenizer = trained_tokenizer(
                self.shop, self.documents, self.size.vocabulary, f"experiments/tokenizer-{of}"
            )
        except ConfigError as error:  # it knows of no study
            fix = f"lower sizes.{self.size_name}.vocabulary, or name more documents"
            raise ConfigError(error.what, expected=error.expected, found=error.found, fix=fix) from None
        return tokenizer, [
            tokenised(self.shop, f"experiments/tokens-{of}/{item.name}", [item], tokenizer) for item in self.documents
        ]

    def pool(self) -> Artifact:
        """The pieces that runs draw from."""

        def make(folder: Path) -> dict[str, Any]:
            free = _of_sources(self.table.filter(pc.invert(self.table[HELD_OUT])), self.read_sources)
            scored = without_unscored(free, sorted(self.read & set(self.held)))
            pool = pieces(limited(scored, self.size.pool), self.sequence_length)
            write_table(folder / POOL, pool)
            return {
                "documents": len(pc.unique(pool[DOCUMENT])), "pieces": pool.num_rows,
                "tokens": int(pc.sum(pool["length"]).as_py() or 0),
                "unscored": free.num_rows - scored.num_rows,
            }  # fmt: skip

        config = {"pool": self.size.pool.model_dump(), "sequence_length": self.sequence_length,
                  "read": sorted(self.read)}  # fmt: skip
        return self.build("pool", "pool", config, make)

    def heldout(self, name: str, limit: int) -> Artifact:
        """The documents that losses are measured on, at most `limit` tokens a source."""
        measured, longest = self.size.measured, self.size.pool.longest

        def make(folder: Path) -> dict[str, Any]:
            held = _of_sources(self.table.filter(self.table[HELD_OUT]), self.measured_sources)
            held = held.set_column(held.schema.get_field_index("source"), "source", held["source"].cast(pa.string()))
            check_measured(held, self.measured_sources, measured.share)
            arrays = [read_token_shard(path) for source in self.sources for path in source.tokens.files(".npy")]
            return write_heldout(cut_to(held, longest), arrays, self.tokenizer, measured, limit, folder)

        config = {"limit": limit, "best": measured.best, "target": measured.target, "longest": longest}
        return self.build(name, "tokens", config, make)

    def build(self, name: str, kind: str, config: dict[str, Any], make: Callable[[Path], dict[str, Any]]) -> Artifact:
        """An artifact of the study, identified by its own settings and by how documents are parted and named."""
        whole = {
            **config, "version": VERSION, "share": self.size.measured.share,
            "roles": {role: list(names) for role, names in sorted(self.roles.items())},
            "columns": {column: list(held) for column, held in self.held.items()},
            "sources": self.read_sources,
        }  # fmt: skip
        inputs: list[Artifact | InputRef] = [*(source.tokens for source in self.sources), *self.scores.inputs]
        full = f"experiments/{self.study.name}-{self.size_name}/{name}"
        return self.shop.build_here(full, kind, config=whole, inputs=inputs, make=make)

    @cached_property
    def table(self) -> pa.Table:
        """Every document, as `documents.document_table` gives it."""
        share = self.size.measured.share
        return document_table(self.sources, self.scores, self.held, self.documents, self.roles, share)

    @cached_property
    def read_sources(self) -> list[str]:
        """Sources that some arm may read; those of an unknown name are refused when the arms are filled."""
        held = {name: None for source in self.sources for name in source_tokens(source.tokens)}
        names = list(names_in_study(sorted(held), self.roles).values())
        found: set[str] = set()
        for arm in self.arms.values():
            keys = keys_of(each_source(arm.mixture, names))
            owned = owned_sources(dict.fromkeys(names), keys, empty_allowed=True)
            found |= {name for held in owned.values() for name in held}
        return sorted(found or names)

    @cached_property
    def measured_sources(self) -> list[str]:
        """Sources with a set of their own: those that are read and hold no rephrasings, and those of the target."""
        codes, names = codes_and_names(self.table["source"])
        rephrased = self.table["rephrased"].to_numpy(zero_copy_only=False)
        synthetic = {name for code, name in enumerate(names) if rephrased[codes == code].any()}
        owned = owned_sources(dict.fromkeys(names), self.size.measured.target, empty_allowed=True)
        for name, found in owned.items():
            if not found:
                raise ConfigError(
                    f"there is no source {name!r} to measure on{nearest(name, names)}",
                    where=f"sizes.{self.size_name}.measured.target",
                )
        return sorted({*self.read_sources} - synthetic | {name for found in owned.values() for name in found})


def _of_sources(table: pa.Table, sources: Sequence[str]) -> pa.Table:
    return table.filter(pc.is_in(table["source"].cast(pa.string()), value_set=pa.array(sources, pa.string())))


# ---- what may be asked


def _documents(given: Sequence[Artifact]) -> list[Artifact]:
    """Artifacts of documents by name, each once."""
    found = {item.name: item for item in given}
    for item in found.values():
        if item.manifest.kind != "documents":
            raise ArtifactError(
                f"{item.name} holds no documents", expected="an artifact of kind documents",
                found=f"kind {item.manifest.kind}", where=str(item.folder), fix="gradatim ls prints kinds",
            )  # fmt: skip
    if not found:
        raise InputError("a study needs documents", fix="name an artifact of documents: --documents NAME")
    return [found[name] for name in sorted(found)]


def _check_roles(study: Study, roles: Mapping[str, Sequence[str]]) -> None:
    for role in roles:
        if role not in study.roles:
            hint = nearest(role, study.roles) if study.roles else "; it has none"
            raise ConfigError(f"the study {study.name} has no role {role!r}{hint}")
    for role, meaning in study.roles.items():
        if not roles.get(role):
            raise ConfigError(
                f"nothing plays the role {role!r} of the study {study.name}", expected=meaning,
                fix=f"--role {role}=SOURCE,...",
            )  # fmt: skip


def _sequence_length(arms: Mapping[str, ArmSettings]) -> int:
    """The one sequence length of all arms, which pieces are cut to."""
    by_length = {arm.plan.sequence_length: name for name, arm in arms.items()}
    if len(by_length) > 1:
        shown = ", ".join(f"{length} in {name}" for length, name in sorted(by_length.items()))
        raise ConfigError(
            "the arms read sequences of different lengths, and share one pool of pieces", found=shown,
            where="plan.sequence_length", fix="give all arms one sequence_length",
        )  # fmt: skip
    return next(iter(by_length))
