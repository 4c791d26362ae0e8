"""A Python that sees torch, numpy and what these require, and no other package: the machine a bundle is made for."""

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

_START = """
import runpy, sys
sys.path.append(sys.argv[1])
del sys.argv[:2]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def site_of_torch(folder: Path) -> Path:
    """A folder of links to torch, numpy and all that they require."""
    waiting, found = ["torch", "numpy"], set()
    folder.mkdir()
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue
        required = (line for line in package.requires or [] if "extra ==" not in line)
        waiting += [re.match(r"[\w.-]+", line)[0] for line in required]
        for top in {file.parts[0] for file in package.files or []} - {"..", "__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(package.locate_file(top))
    return folder


def start(site: Path, script: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a script with nothing of this environment but `site`: -I and -S leave out all other packages."""
    command = [str(Path(sys.executable).resolve()), "-I", "-S", "-c", _START, str(site), str(script), *arguments]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def run(site: Path, script: Path, *arguments: str) -> str:
    """Run a script to its end; what it printed."""
    process = start(site, script, *arguments)
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    return printed
