"""Load a user's module from its file, with exactly the bytes it is known by, in this process or in a worker.

A worker lives on while files change, and Python's own cache of compiled files can miss an edit that comes within one
second; so a module is run from bytes that were just compared with a checksum, and run again when they differ.

How it is used: `load_module(name, file, folder, checksum)`, by `raters.custom`
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

import xxhash

from corpus.errors import ArtifactError, ConfigError

_loaded: dict[str, tuple[str, str]] = {}
"""Modules this process loaded from a file: name -> file, checksum of the bytes that were run."""


def loaded_module(name: str) -> ModuleType | None:
    """The module of that name if it was loaded here before."""
    return sys.modules.get(name) if name in _loaded else None


def find_module(name: str, folder: str) -> Path:
    """The source file of a module, in the folder first. Raises ConfigError when there is none."""
    stem = Path(folder, *name.split("."))
    for file in (stem.with_suffix(".py"), stem / "__init__.py"):
        if file.is_file():
            return file
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # a parent that is missing, or no package
        spec = None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise ConfigError(
            f"there is no module {name!r} to take a rater from",
            expected=f"{stem.with_suffix('.py')}, or an installed Python module", fix="check `rater`, or write it",
        )  # fmt: skip
    return Path(spec.origin)


def load_module(name: str, file: str, folder: str, checksum: str) -> ModuleType:
    """The module run from this file with these bytes; it is run again only when they are not those that ran.

    `folder` comes first on the module path while it is loaded, and last from then on.

    Raises:
        ArtifactError: the file is missing or differs from the checksum.
        ConfigError: its code fails, or the name belongs to another module that is in use already.
    """
    if name in sys.modules and _loaded.get(name) == (file, checksum):
        return sys.modules[name]
    taken = sys.modules.get(name)
    if taken is not None and name not in _loaded and getattr(taken, "__file__", None) != file:
        raise ConfigError(
            f"the module name {name!r} is taken", found=f"{getattr(taken, '__file__', 'a module of Python')}",
            where=file, fix="give your file another name",
        )  # fmt: skip
    content = Path(file).read_bytes() if Path(file).is_file() else b""
    found = xxhash.xxh3_64_hexdigest(content)
    if found != checksum:
        raise ArtifactError(
            f"the module {name} was changed or removed after its rater was made", expected=f"xxh3 {checksum}",
            found=f"xxh3 {found}" if content else "no such file", where=file, fix="run the command again",
        )  # fmt: skip
    with _first_on_path(folder):
        module = _run(name, file, content)
    _loaded[name] = (file, checksum)
    return module


class _Source(SourceFileLoader):
    """Runs the bytes it is given, and neither reads nor writes a file of compiled code."""

    def __init__(self, name: str, file: str, content: bytes) -> None:
        super().__init__(name, file)
        self._content = content

    def get_code(self, fullname: str) -> CodeType:
        """The code of those bytes."""
        return self.source_to_code(self._content, self.path)


def _run(name: str, file: str, content: bytes) -> ModuleType:
    before = sys.modules.get(name)
    try:
        if parent := name.rpartition(".")[0]:
            importlib.import_module(parent)
        folders = [str(Path(file).parent)] if Path(file).name == "__init__.py" else None
        spec = importlib.util.spec_from_file_location(
            name, file, loader=_Source(name, file, content), submodule_search_locations=folders
        )
        assert spec is not None, "a spec is made of any file name when its loader is given"
        assert spec.loader is not None, "as above"
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except Exception as error:  # code that is not ours may raise anything, and the user wants to know where
        sys.modules.pop(name, None)
        if before is not None:
            sys.modules[name] = before
        raise ConfigError(
            f"the module {name} cannot be loaded", found=f"{type(error).__name__}: {error}", where=file
        ) from error
    return module


@contextmanager
def _first_on_path(folder: str) -> Iterator[None]:
    """Put the folder before all others while a module is loaded, and behind all others from then on."""
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)
