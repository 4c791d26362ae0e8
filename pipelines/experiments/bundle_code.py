"""Which of our modules a bundle carries: those that training imports, found by reading their import statements.

The files are copied as they are, so a bundle trains with the code that trains here. A module comes along when all that
it imports at its top can be imported with Python, torch, numpy and the bundle's stand-ins alone. Imports inside
functions are followed too, but a module that needs more (Parquet, say) is left out: only what never runs in a bundle
may ask for it, and `pack` refuses plans that would.
"""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OURS = ("corpus", "curriculum", "mixtures", "trainer_hooks", "pipelines")
RUNNER = "pipelines.experiments.bundle_runtime.runner"
RUNTIME = Path(__file__).parent / "bundle_runtime"
STAND_INS = ("pydantic", "safetensors", "xxhash", "yaml")
_AT_HAND = ("torch", "numpy", *STAND_INS)


def code_files() -> dict[str, bytes]:
    """The bundle's code: paths below the folder `code`, and what is in them."""
    files = {}
    for module in sorted(code_modules(frozenset(sys.stdlib_module_names))):
        path = source_of(module)
        assert path is not None
        files[path.relative_to(ROOT).as_posix()] = path.read_bytes()
    for path in sorted((RUNTIME / "stand_ins").rglob("*.py")):
        if path.parent.name != "stand_ins" or path.name != "__init__.py":
            files[f"stand_ins/{path.relative_to(RUNTIME / 'stand_ins').as_posix()}"] = path.read_bytes()
    return files


@cache
def code_modules(standard: frozenset[str]) -> frozenset[str]:
    """Names of the modules of ours that a bundle carries; `standard` are Python's own."""
    found: set[str] = set()
    waiting = [RUNNER]
    while waiting:
        module = waiting.pop()
        if module in found or not _is_lean(module, standard, frozenset()):
            continue
        found.add(module)
        parents = module.split(".")[:-1]
        waiting += [".".join(parents[: n + 1]) for n in range(len(parents))]
        waiting += [name for name, _ in imports_of(module) if name.split(".")[0] in OURS]
    return frozenset(found)


def source_of(module: str) -> Path | None:
    """The file of a module of ours; None where there is no such module."""
    path = ROOT.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@cache
def imports_of(module: str) -> tuple[tuple[str, bool], ...]:
    """Modules that a module imports, each with whether it does so at its top; what only types ask for is left out."""
    path = source_of(module)
    assert path is not None, module
    return tuple(_imports(ast.parse(path.read_text(encoding="utf-8")).body, at_top=True))


def _imports(body: list[ast.stmt], at_top: bool) -> Iterator[tuple[str, bool]]:
    for node in body:
        if isinstance(node, ast.Import):
            yield from ((alias.name, at_top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert node.level == 0, "imports of ours are absolute"
            yield node.module, at_top
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if node.module.split(".")[0] in OURS and source_of(name) is not None:
                    yield name, at_top
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for field in ("body", "orelse", "finalbody"):
                yield from _imports(getattr(node, field, []), at_top and not inside)
            for handler in getattr(node, "handlers", []):
                yield from _imports(handler.body, at_top)


def _is_lean(module: str, standard: frozenset[str], above: frozenset[str]) -> bool:
    """Whether a module can be imported with what a bundle's machine has; circles of imports are no obstacle."""
    if module in above:
        return True
    for name, at_top in imports_of(module):
        head = name.split(".")[0]
        if not at_top or head in standard or head in _AT_HAND:
            continue
        if head not in OURS or source_of(name) is None or not _is_lean(name, standard, above | {module}):
            return False
    return True


def carries(module: str) -> bool:
    """Whether a bundle has a module of ours."""
    return module in code_modules(frozenset(sys.stdlib_module_names))
