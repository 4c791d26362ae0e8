"""The token shards of an order, opened only if they are those it was made from.

An order points into shards by number, so shards that were rebuilt since would be read in silence as other text. The
order's manifest names the token artifacts it was made from by fingerprint, and theirs hold each shard's size and
checksum: opening compares fingerprints and sizes, which costs nothing; `contents=True` reads every byte as well.

How it is used: `order.read(a, b, open_shards(order, workspace))`.
"""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np

from corpus.artifacts import Artifact
from corpus.errors import ArtifactError
from corpus.fingerprints import file_checksum
from corpus.tokens import Ids, read_token_shard
from curriculum.order import Order


class TokenShards(list[Ids]):
    """Memory-mapped token shards, one array each; sent to another process as paths and mapped again there."""

    def __init__(self, paths: Iterable[Path]) -> None:
        """Map the shards at `paths`. Raises ArtifactError for a file that is not a token shard."""
        self.paths = tuple(paths)
        super().__init__(read_token_shard(path).view(np.ndarray) for path in self.paths)

    def __reduce__(self) -> tuple[type["TokenShards"], tuple[tuple[Path, ...]]]:
        """Only paths are pickled."""
        return TokenShards, (self.paths,)


def open_shards(order: Order, root: Path, *, contents: bool = False) -> TokenShards:
    """Memory-map the token shards of an order, in the order of its `shards`, after `check_shards`.

    `root` is the workspace that the names of shards are relative to. Returns one array a shard, shape (n,). Raises
    ArtifactError for a token artifact or shard that is missing, or is not what the order was made from.
    """
    folders = dict.fromkeys(PurePosixPath(name).parent for name in order.shards)
    check_shards(order, [Artifact(root / folder) for folder in folders], contents=contents)
    return TokenShards(root / name for name in order.shards)


def check_shards(order: Order, tokens: Iterable[Artifact], *, contents: bool = False) -> None:
    """Raise ArtifactError, naming the first shard at fault, unless these artifacts hold the shards of an order.

    Args:
        tokens: finished token artifacts, by the names that the order's `shards` begin with.
        contents: compare checksums too, which reads every shard; otherwise fingerprints and sizes are compared.

    An artifact that the order does not list among its inputs is held to its own manifest only.
    """
    artifacts = {artifact.name: artifact for artifact in tokens}
    made_from = {ref.name: ref.fingerprint for ref in order.artifact.manifest.inputs}
    for shard in order.shards:
        name, file = str(PurePosixPath(shard).parent), PurePosixPath(shard).name
        artifact = artifacts.get(name)
        if artifact is None:
            given = ", ".join(sorted(artifacts)) or "no token artifacts"
            raise _changed(order, shard, f"the artifact {name}", given, f"give {name}, or order what there is")
        found = artifact.manifest.fingerprint
        if made_from.get(name, found) != found:
            expected = f"{name} with fingerprint {made_from[name]}"
            raise _changed(order, shard, expected, f"fingerprint {found}", f"{_again(order)}, or restore those tokens")
        part = next((part for part in artifact.manifest.parts if part.file == file), None)
        if part is None:
            raise _changed(order, shard, f"{file} in {name}", "no such shard in its manifest", _again(order))
        path = artifact.folder / file
        size = path.stat().st_size if path.exists() else None
        rebuild = f"remove {artifact.folder} and run what made it again"
        if size != part.bytes:
            raise _changed(
                order, shard, f"{part.bytes:,} bytes", "no file" if size is None else f"{size:,} bytes", rebuild
            )
        if contents and (checksum := file_checksum(path)) != part.xxh3:
            raise _changed(order, shard, f"checksum {part.xxh3}", f"checksum {checksum}", rebuild)


def _again(order: Order) -> str:
    return f"make {order.artifact.name} again from the tokens as they are now"


def _changed(order: Order, shard: str, expected: str, found: str, fix: str) -> ArtifactError:
    return ArtifactError(
        f"the token shard {shard} is not the one that {order.artifact.name} was made from",
        expected=expected,
        found=found,
        where=str(order.artifact.folder),
        fix=fix,
    )
