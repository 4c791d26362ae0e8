"""Token shards and where they come from: an artifact of a workspace, or links to one of another workspace."""

from dataclasses import dataclass
from pathlib import Path

from corpus.artifacts import MANIFEST, Artifact, artifacts_in
from corpus.errors import ArtifactError
from pipelines.reading import TOKENIZER


@dataclass(frozen=True)
class TokenSource:
    """The token shards of one input.

    Args:
        name: of the input.
        tokens: in the workspace of the mixture; origin: where they were made, the same unless they are linked.
        under: a name put before those of its sources; None: they keep theirs.
    """

    name: str
    tokens: Artifact
    origin: Artifact
    under: str | None = None

    @classmethod
    def of(cls, tokens: Artifact, name: str = "", under: str | None = None) -> "TokenSource":
        """Tokens of a workspace; where they are links, their origin is what these point to."""
        shards = tokens.files(".npy")
        folder = shards[0].resolve().parent if shards else tokens.folder
        linked = folder != tokens.folder.resolve() and (folder / MANIFEST).exists()
        return cls(name or tokens.name, tokens, Artifact(folder) if linked else tokens, under)

    @property
    def root(self) -> Path:
        """The workspace of the origin, where its documents, scores and tokenizer are."""
        return workspace_of(self.origin)

    @property
    def tokenizer(self) -> Path:
        """The file of the tokenizer that made the shards. Raises ArtifactError where it is not with them any more."""
        own = [path for path in self.origin.files(".json") if path.name == TOKENIZER]
        if own:
            return own[0]
        made_from = {(ref.name, ref.fingerprint) for ref in self.origin.manifest.inputs}
        for artifact in artifacts_in(self.root):
            if artifact.manifest.kind == "tokenizer" and (artifact.name, artifact.manifest.fingerprint) in made_from:
                return artifact.files(".json")[0]
        raise ArtifactError(
            f"the tokenizer of the input {self.name!r} is not in its workspace any more",
            expected=f"the tokenizer that {self.origin.name} was made with", where=str(self.root),
            fix="run what made those tokens again",
        )  # fmt: skip

    def source(self, name: str) -> str:
        """What one of its sources is called in the mixture."""
        return f"{self.under}/{name}" if self.under else name


def workspace_of(artifact: Artifact) -> Path:
    """The workspace that an artifact lies in."""
    return artifact.folder.parents[artifact.name.count("/")]
