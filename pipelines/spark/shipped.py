"""Pack our packages, code and data files, into one archive for executors that do not have them.

The archive is deterministic (sorted names, fixed times), and Spark unpacks it into real files on each executor:
numba keeps its compiled kernels beside the source, and data files are opened by path.
"""

import zipfile
from pathlib import Path

PACKAGES = ("corpus", "raters", "rephrase", "curriculum", "mixtures", "trainer_hooks", "pipelines")
_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(archive: Path, root: Path | None = None) -> Path:
    """Write the packages under `root` (where this one was imported from) to a zip file, and return its path."""
    root = root or Path(__file__).resolve().parents[2]
    files = sorted(path for package in PACKAGES for path in (root / package).rglob("*") if path.is_file())
    with zipfile.ZipFile(archive, "w") as out:
        for path in files:
            if "__pycache__" in path.parts:
                continue
            entry = zipfile.ZipInfo(path.relative_to(root).as_posix(), _EPOCH)
            entry.external_attr = 0o644 << 16
            out.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return archive
