"""Rating documents in a workspace: raters are made from their settings, and write sidecars beside the documents.

`Rating` is shared by recipes and by `gradatim rate`. It offers raters what they may ask for while they are made
(`raters.base.Fitting`): texts to fit on, and an artifact `raters/<name>` that keeps what was fitted.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from corpus.artifacts import Artifact, InputRef
from corpus.errors import ConfigError
from pipelines.build import Workshop
from pipelines.examples import example_files, example_texts
from pipelines.inputs import InputChecksums
from pipelines.runtime import LocalRuntime
from pipelines.stages.shard_work import RateWork
from pipelines.tasks import Work
from raters.base import Rater, RaterSettings
from raters.examples import Examples


class Rating:
    """Rates documents in a workshop. `base` is the folder that relative paths of settings start from."""

    def __init__(self, shop: Workshop, base: Path, checksums: InputChecksums) -> None:
        self.shop, self.base, self.checksums = shop, base, checksums

    def scores(self, documents: Artifact, raters: Mapping[str, RaterSettings]) -> list[Artifact]:
        """The sidecars `scores/<name>` of each rater. Raises ConfigError when there is none to make them."""
        if not raters:
            raise ConfigError("no rater is named", fix="name one, such as signals: {kind: signals}")
        made = []
        for name, settings in raters.items():
            rater = settings.rater(name, RatingDesk(self, name, documents))
            made.append(self.rated(f"scores/{name}", documents, rater, own_process=settings.own_process))
        return made

    def rated(
        self,
        name: str,
        documents: Artifact,
        rater: Rater,
        sidecars: Sequence[Artifact] = (),
        *,
        own_process: bool = False,
    ) -> Artifact:
        """Write one rater's sidecars beside the shards of `documents`."""
        work: dict[str, Work] = {path.stem: RateWork(path, beside(path, sidecars), rater) for path in documents.files()}
        return self.shop.build_tasks(
            name, "scores", config={"rater": rater.identity()}, inputs=[documents, *sidecars], work=work,
            runtime=LocalRuntime(1, own_process=True) if own_process else None,
        )  # fmt: skip


@dataclass(frozen=True)
class RatingDesk:
    """What one rater may ask for while it is made: `raters.base.Fitting` over a workspace."""

    rating: Rating
    name: str
    documents: Artifact

    @property
    def cache(self) -> Path:
        """The generation cache of the workspace."""
        return self.rating.shop.root / "cache" / "generations"

    @property
    def log(self) -> Path:
        """What engines print."""
        return self.rating.shop.root / "logs" / f"{self.name}.log"

    def path(self, given: Path) -> Path:
        """A path of the recipe, taken from the recipe's folder when it is relative."""
        return self.rating.base / given.expanduser()

    def texts(self, examples: Examples | None, where: str) -> Iterator[pa.StringArray]:
        """The texts of examples; None: all documents."""
        yield from example_texts(examples, self.documents, self.rating.base, f"rate.raters.{self.name}.{where}")

    def keep(
        self,
        config: Mapping[str, Any],
        make: Callable[[Path], dict[str, Any]],
        *,
        examples: Sequence[Examples | None] = (),
        files: Sequence[Path] = (),
    ) -> Path:
        """The folder of what `make` fitted, as the artifact `raters/<name>`."""
        given = {file for item in examples if item for file in example_files(item, self.rating.base)}
        checksums = self.rating.checksums
        inputs: list[Artifact | InputRef] = [checksums.ref(file, file.name) for file in sorted({*given, *files})]
        checksums.save()
        if any(item is None or not item.files for item in examples):
            inputs.append(self.documents)
        name = f"raters/{self.name}"
        return self.rating.shop.build_here(name, "rater", config=dict(config), inputs=inputs, make=make).folder


def beside(path: Path, sidecars: Sequence[Artifact]) -> tuple[Path, ...]:
    """The sidecar files of a document shard."""
    return tuple(artifact.folder / path.name for artifact in sidecars)
