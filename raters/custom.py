"""Raters of your own: a module beside the recipe, or in any installed package, is a rater like those that come along.

The module defines a `RaterSettings` subclass, or something callable that gives a `Rater`; README.md shows one whole.
It is loaded from its file, and the checksum of that file is part of what its scores are: an edited rater rates again.
(Files it imports are not looked at; a `version` in its `identity` covers those.) Worker processes and Spark's
executors may have started before the recipe's folder was known, or with other code of that name, so what travels is
a frozen envelope: where the module lies, which bytes it must have, and the rater as a pickle opened on first use.

In a recipe:  raters: {length: {kind: custom, rater: my_rater, settings: {longest: 20}}}
"""

import inspect
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast

import pyarrow as pa
from pydantic import Field

from corpus.config import nearest, validated
from corpus.errors import ConfigError
from corpus.fingerprints import file_checksum, fingerprint
from corpus.scores import Score
from raters.base import Fitting, Rater, RaterSettings
from raters.custom_module import find_module, load_module, loaded_module
from raters.examples import Examples

_PARTS = ("scores", "needs", "identity", "rate")


class CustomSettings(RaterSettings):
    """A rater defined in a module of your own."""

    kind: Literal["custom"] = "custom"
    target: str = Field(
        alias="rater",
        pattern=r"^[^\W\d]\w*(\.[^\W\d]\w*)*(:[^\W\d]\w*)?$",
        description="its module, found beside the recipe or installed, such as my_package.my_rater; `:Name` picks one",
    )
    settings: dict[str, Any] = Field({}, description="what your module's settings take")

    def rater(self, name: str, fitting: Fitting) -> "CustomRater":
        """Load the module and make its rater.

        Raises ConfigError when the module is missing, cannot be loaded, defines no rater or several, does not take
        these settings, or when what it makes is no rater or cannot be sent to another process.
        """
        module, _, chosen = self.target.partition(":")
        folder = str(fitting.path(Path()).resolve())
        file = find_module(module, folder)
        checksum = file_checksum(file)
        found = _definition(load_module(module, str(file), folder, checksum), chosen)
        where = f"settings of the rater {name} ({file})"
        if _is_settings(found):
            made = validated(found, self.settings, where).rater(name, cast(Fitting, _OwnFitting(fitting, file)))
        else:
            _check_arguments(found, name, self.settings, where)
            made = found(name, **self.settings)
        return CustomRater(module, str(file), folder, checksum, _packed(made, where))

    @property
    def own_process(self) -> bool:  # type: ignore[override]
        """As the module's settings class says; False before its rater was made, and for other callables."""
        name, _, chosen = self.target.partition(":")
        module = loaded_module(name)
        return module is not None and bool(getattr(_definition(module, chosen), "own_process", False))


@dataclass(frozen=True)
class CustomRater:
    """The envelope of a user's rater.

    Args:
        module: the name it is imported by.
        file, folder: its source, and what is put on the module path; not part of the identity.
        checksum: xxh3 of the source; a file that differs is refused.
        packed: the rater, pickled.
    """

    module: str
    file: str
    folder: str
    checksum: str
    packed: bytes = field(repr=False)

    @property
    def scores(self) -> tuple[Score, ...]:
        """As the rater says."""
        return _opened(self).scores

    @property
    def needs(self) -> tuple[str, ...]:
        """As the rater says."""
        return _opened(self).needs

    def identity(self) -> dict[str, Any]:
        """The module's name and bytes, and what the rater itself says."""
        inner = _opened(self).identity()
        return {"rater": "custom", "version": 1, "module": self.module, "source": self.checksum, "identity": inner}

    def rate(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """As the rater does. Raises ArtifactError when its module was changed since the rater was made."""
        return _opened(self).rate(batch)


@lru_cache(maxsize=8)
def _opened(envelope: CustomRater) -> Rater:
    load_module(envelope.module, envelope.file, envelope.folder, envelope.checksum)
    return cast(Rater, pickle.loads(envelope.packed))


def _is_settings(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, RaterSettings)


def _definition(module: ModuleType, chosen: str) -> Any:
    """What makes the rater: the object named, else the module's only settings class, else its function `rater`."""
    where = str(module.__file__)
    if chosen:
        if not callable(found := getattr(module, chosen, None)):
            raise ConfigError(f"{module.__name__} defines no {chosen!r}{nearest(chosen, vars(module))}", where=where)
        return found
    own = [item for item in vars(module).values() if _is_settings(item) and item.__module__ == module.__name__]
    if len(own) > 1:
        names = ", ".join(item.__name__ for item in own)
        raise ConfigError(
            f"{module.__name__} defines several raters", found=names, where=where,
            fix=f"pick one: rater: {module.__name__}:{own[0].__name__}",
        )  # fmt: skip
    if not own and not callable(getattr(module, "rater", None)):
        raise ConfigError(
            f"{module.__name__} defines no rater",
            expected="a subclass of raters.base.RaterSettings, or a function `rater`", where=where,
            fix=f"define one, or name what makes it: rater: {module.__name__}:Name",
        )  # fmt: skip
    return own[0] if own else vars(module)["rater"]


def _check_arguments(make: Callable[..., Any], name: str, settings: dict[str, Any], where: str) -> None:
    try:
        inspect.signature(make).bind(name, **settings)
    except TypeError as error:
        raise ConfigError(
            "your rater does not take these settings",
            expected=str(inspect.signature(make)), found=str(error), where=where,
        ) from None  # fmt: skip


def _packed(made: Any, where: str) -> bytes:
    """The rater as bytes. Raises ConfigError when it is none, has no identity, or cannot cross process borders."""
    missing = [part for part in _PARTS if not hasattr(made, part)]
    if missing:
        raise ConfigError(
            "what your module makes is no rater", expected=", ".join(_PARTS),
            found=f"{type(made).__name__} without {', '.join(missing)}", where=where,
        )  # fmt: skip
    if not made.scores or not all(isinstance(score, Score) for score in made.scores):
        raise ConfigError(
            "your rater names no scores", expected="corpus.scores.Score", found=repr(made.scores), where=where
        )
    fingerprint(made.identity())
    try:
        return pickle.dumps(made)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise ConfigError(
            "your rater cannot be sent to worker processes", expected="paths and settings only", found=str(error),
            where=where, fix="load models on first use, in a function under functools.lru_cache",
        ) from None  # fmt: skip


class _OwnFitting:
    """Fitting for a user's rater: what it keeps is made again when the module changes."""

    def __init__(self, fitting: Fitting, file: Path) -> None:
        self._fitting, self._file = fitting, file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fitting, name)

    def keep(
        self,
        config: Mapping[str, Any],
        make: Callable[[Path], dict[str, Any]],
        *,
        examples: Sequence[Examples | None] = (),
        files: Sequence[Path] = (),
    ) -> Path:
        """As `Fitting.keep`, with the module among the files."""
        return self._fitting.keep(config, make, examples=examples, files=(*files, self._file))
