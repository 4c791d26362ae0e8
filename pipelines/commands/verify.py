"""`gradatim verify`: files against their manifests, or two workspaces against each other."""

import sys
from filecmp import cmp
from pathlib import Path

from corpus.artifacts import MANIFEST, Artifact, artifacts_in, own_files
from corpus.errors import ArtifactError


def verify_command(first: Path, second: Path | None) -> int:
    """Print every difference; returns 0 where there is none, else 1."""
    if second is None:
        artifacts = _artifacts(first)
        problems = [problem for artifact in artifacts for problem in artifact.differences()]
        problems += [problem for artifact in artifacts for problem in _stale_inputs(artifact, artifacts)]
        subject = f"{len(artifacts)} artifacts, {sum(len(a.manifest.parts) for a in artifacts)} files"
    else:
        problems, subject = _compare(first, second)
    for problem in problems:
        sys.stdout.write(problem + "\n")
    verdict = "no difference" if not problems else f"{len(problems)} differences"
    sys.stdout.write(f"{subject}: {verdict}\n")
    return 1 if problems else 0


def _artifacts(path: Path) -> list[Artifact]:
    found = [Artifact(path)] if (path / MANIFEST).exists() else artifacts_in(path)
    if not found:
        raise ArtifactError(f"{path} holds no finished artifact", expected="a workspace or an artifact's folder")
    return found


def _stale_inputs(artifact: Artifact, artifacts: list[Artifact]) -> list[str]:
    """An artifact whose input in the same workspace has another fingerprint by now."""
    current = {other.name: other.manifest.fingerprint for other in artifacts}
    return [
        f"{artifact.name}: made from {ref.name} {ref.fingerprint}, which is now {current[ref.name]}"
        for ref in artifact.manifest.inputs
        if current.get(ref.name, ref.fingerprint) != ref.fingerprint
    ]


def _compare(first: Path, second: Path) -> tuple[list[str], str]:
    ours = _by_name(first)
    theirs = _by_name(second)
    problems = [f"{name}: only in {first}" for name in sorted(set(ours) - set(theirs))]
    problems += [f"{name}: only in {second}" for name in sorted(set(theirs) - set(ours))]
    files = 0
    for name in sorted(set(ours) & set(theirs)):
        a, b = ours[name].folder, theirs[name].folder
        names = {path.relative_to(folder).as_posix() for folder in (a, b) for path in own_files(folder)} | {MANIFEST}
        for file in sorted(names):
            files += 1
            if not (a / file).exists() or not (b / file).exists():
                problems.append(f"{name}/{file}: only in {a if (a / file).exists() else b}")
            elif not cmp(a / file, b / file, shallow=False):
                problems.append(f"{name}/{file}: the bytes differ")
    return problems, f"{len(set(ours) & set(theirs))} artifacts, {files} files compared byte by byte"


def _by_name(path: Path) -> dict[str, Artifact]:
    found = _artifacts(path)
    if len(found) == 1 and found[0].folder == path:
        return {"artifact": found[0]}
    return {artifact.name: artifact for artifact in found}
