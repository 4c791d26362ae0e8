"""The token shards of a mixture: artifacts as they are, other shards linked, and texts read and tokenised.

Everything lies under `sources/<input>/` of the workspace, one artifact an input, so that mixtures share what they have
in common and a new input leaves the others alone. Shards of another workspace are linked, not copied. All shards must
come from one tokenizer, which is known by the checksum of its file.

How it is used: `MixSources(shop, settings, base).open()`.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from corpus.artifacts import MANIFEST, Artifact, InputRef, begin, finish, is_finished
from corpus.errors import ConfigError
from corpus.fingerprints import file_checksum, fingerprint
from pipelines.bare_shards import bare_shards
from pipelines.build import Workshop
from pipelines.commands.inspect import open_by_name
from pipelines.inputs import InputChecksums
from pipelines.mix_settings import ArtifactInput, MixSettings, TokensInput
from pipelines.reading import given_tokenizer, read_documents, tokenised, trained_tokenizer
from pipelines.recipe import TokenizerConfig
from pipelines.token_source import TokenSource, workspace_of

FOLDER = "sources"


class MixSources:
    """Opens the inputs of a mixture in a workshop. `base` is the folder that their relative paths start from."""

    def __init__(self, shop: Workshop, settings: MixSettings, base: Path) -> None:
        self.shop, self.settings, self.base = shop, settings, base
        self.checksums = InputChecksums(shop.root)

    def open(self) -> list[TokenSource]:
        """The token shards of every input, in the order of the settings; what is missing is made first.

        Raises ConfigError where there are no inputs or their tokenizers differ, ArtifactError and InputError for inputs
        that are not there.
        """
        if not self.settings.inputs:
            raise ConfigError(
                "the mixture has no inputs", expected="what its sources are read from", where="inputs",
                fix="inputs: {web: crawl/*.jsonl.gz, books: {artifact: tokens}}; for a plan alone, declare: {web: 3T}",
            )  # fmt: skip
        for one in self.settings.inputs.values():
            if not isinstance(one, ArtifactInput | TokensInput):
                one.files(self.base)  # a missing file is found before any work
        held = {name: found for name in self.settings.inputs if (found := self._held(name))}
        texts = {
            name: documents for name in self.settings.inputs if name not in held for documents in [self._texts(name)]
        }
        if texts:
            tokenizer = self._tokenizer(list(held.values()), list(texts.values()))
            for name, documents in texts.items():
                tokens = tokenised(self.shop, f"{FOLDER}/{name}/tokens", [documents], tokenizer)
                held[name] = TokenSource(name, tokens, tokens, self._under(name))
        sources = [held[name] for name in self.settings.inputs]
        refuse_other_tokenizers(sources)
        return sources

    def _under(self, name: str) -> str | None:
        one = self.settings.inputs[name]
        return one.under if isinstance(one, ArtifactInput | TokensInput) else None

    def _held(self, name: str) -> TokenSource | None:
        """An input that is tokens already; None for one of text."""
        one = self.settings.inputs[name]
        if isinstance(one, TokensInput):
            folder = self.base / one.path.expanduser()
            if (folder / MANIFEST).exists():
                return self._tokens(name, Artifact(folder), one.under)
            made = bare_shards(
                self.shop,
                f"{FOLDER}/{name}/tokens",
                name,
                folder,
                self.base / one.tokenizer.expanduser(),
                self.checksums,
            )
            return TokenSource(name, made, made, one.under)
        if isinstance(one, ArtifactInput):
            root = self.base / one.workspace.expanduser() if one.workspace else self.shop.root
            artifact = open_by_name(root, one.artifact)
            return None if _own_documents(artifact, one, name) else self._tokens(name, artifact, one.under)
        return None

    def _tokens(self, name: str, artifact: Artifact, under: str | None) -> TokenSource:
        if artifact.manifest.kind != "tokens":
            raise ConfigError(
                f"the input {name!r} holds neither tokens nor documents", expected="an artifact of tokens or documents",
                found=f"{artifact.name}, an artifact of kind {artifact.manifest.kind}", where=f"inputs.{name}",
                fix="gradatim ls prints the kind of each artifact",
            )  # fmt: skip
        if workspace_of(artifact).resolve() != self.shop.root.resolve():
            artifact = linked(self.shop, f"{FOLDER}/{name}/tokens", name, artifact)
        return TokenSource.of(artifact, name, under)

    def _texts(self, name: str) -> Artifact:
        one = self.settings.inputs[name]
        if isinstance(one, ArtifactInput):
            return open_by_name(self.shop.root, one.artifact)
        assert not isinstance(one, TokensInput)
        return read_documents(
            self.shop, self.checksums, self.base, {name: one}, name=f"{FOLDER}/{name}/documents",
            shard_documents=self.settings.shard_documents,
        )  # fmt: skip

    def _tokenizer(self, held: Sequence[TokenSource], texts: Sequence[Artifact]) -> Artifact:
        name, asked = f"{FOLDER}/tokenizer", self.settings.tokenizer
        if asked and asked.path:
            return given_tokenizer(self.shop, self.checksums, self.base / asked.path.expanduser(), name)
        if held and asked is None:
            return given_tokenizer(self.shop, self.checksums, held[0].tokenizer, name)
        return trained_tokenizer(self.shop, texts, (asked or TokenizerConfig()).vocabulary, name)


def _own_documents(artifact: Artifact, one: ArtifactInput, name: str) -> bool:
    if artifact.manifest.kind != "documents":
        return False
    if one.workspace is not None:
        raise ConfigError(
            f"the input {name!r} is documents of another workspace", expected="tokens, or documents of this workspace",
            where=f"inputs.{name}", fix=f"name their folder: {name}: {one.workspace / artifact.name}",
        )  # fmt: skip
    return True


def linked(shop: Workshop, name: str, label: str, origin: Artifact) -> Artifact:
    """Token shards of another workspace as an artifact of this one, without a copy: links to its files."""
    folder, ref = shop.root / name, InputRef(name=f"{label}: {origin.name}", fingerprint=origin.manifest.fingerprint)
    identity = fingerprint({"kind": "tokens", "linked": ref})
    parts = [part for part in origin.manifest.parts if part.file.endswith((".npy", ".docs.parquet"))]
    target = origin.folder.resolve()
    if is_finished(folder, identity) and all((folder / part.file).resolve() == target / part.file for part in parts):
        shop.progress.skip(name)
        return Artifact(folder)
    begin(folder, identity)
    for part in parts:
        link = folder / part.file
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(target / part.file)
    return finish(
        folder, kind="tokens", name=name, fingerprint=identity, config={}, inputs=[ref], parts=parts,
        totals=origin.manifest.totals,
    )  # fmt: skip


def refuse_other_tokenizers(sources: Iterable[TokenSource]) -> None:
    """Raise ConfigError, naming two inputs, unless all token shards come from one tokenizer."""
    first: tuple[TokenSource, Path, str] | None = None
    for source in sources:
        path = source.tokenizer
        known = file_checksum(path)
        if first is None:
            first = (source, path, known)
        elif known != first[2]:
            raise ConfigError(
                f"the inputs {first[0].name!r} and {source.name!r} were made with different tokenizers",
                expected="one tokenizer for all sources of a mixture",
                found=f"{first[0].name}: {_described(first[1], first[2])}; {source.name}: {_described(path, known)}",
                where=f"inputs.{source.name}",
                fix="give one of them as text, and tokenizer.path the tokenizer of the other",
            )


def _described(path: Path, checksum: str) -> str:
    from corpus.tokenizer import load_encoder

    return f"{load_encoder(path).vocabulary:,} tokens (checksum {checksum})"
