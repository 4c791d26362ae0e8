"""What a study's findings must have before anybody may read them as a page: controls, counts, ranges, intervals.

A number without its control, its n and its range looks like a result and is none, so such findings are refused.
"""

from collections.abc import Iterator

from corpus.errors import ArtifactError
from pipelines.experiments.analysis.findings import ArmFinding, Comparison, Difference, Findings, Spread

FIX = "collect the study's results again"


def check_reportable(findings: Findings) -> None:
    """Raise ArtifactError for findings without an answer, or with a number that lacks its control, n or range."""
    if not findings.answer.strip():
        raise _refused("they have no answer", "one sentence", findings.study)
    _check_controls(findings)
    for arm in findings.arms:
        for one in arm.losses:
            _check_spread(one.bits_per_byte, f"{arm.name}, {one.weights} weights, {one.set}")
    for where, found in _differences(findings):
        _check_difference(found, where)


def _check_controls(findings: Findings) -> None:
    names = {arm.name for arm in findings.arms}
    if not any(arm.control is None for arm in findings.arms):
        raise _refused("no arm is a control", "at least one", ", ".join(sorted(names)) or "no arms")
    beside = {one.arm for one in findings.comparisons}
    for arm in findings.arms:
        if arm.control is not None and arm.control not in names:
            raise _refused(f"the arm {arm.name} has no control", arm.control, ", ".join(sorted(names)))
        if arm.control is not None and _measured(arm) and arm.name not in beside:
            raise _refused(f"the arm {arm.name} is beside nothing", f"its difference to {arm.control}", "none")


def _measured(arm: ArmFinding) -> bool:
    return any(one.bits_per_byte.n for one in arm.losses)


def _check_spread(values: Spread, where: str) -> None:
    if values.n == 0 and values.mean is None:
        return
    if values.n < 1 or not len(values.values) == len(values.seeds) == values.n:
        raise _refused(
            "a loss does not say how many runs it is of", "n, and a value for each", f"n = {values.n}", where
        )
    if values.mean is None or values.lowest is None or values.highest is None:
        raise _refused("a loss has no range", "lowest, mean and highest", f"{values.lowest}, {values.highest}", where)


def _differences(findings: Findings) -> Iterator[tuple[str, Difference]]:
    for one in findings.comparisons:
        yield from _of(one)
    for contrast in findings.contrasts:
        if contrast.comparison is not None:
            yield from _of(contrast.comparison)
    for point in findings.gaps:
        yield f"{point.level} at {point.end_ratio:g}", point.difference
    for effect in findings.effects:
        for level in effect.levels:
            yield f"{effect.factor} {level.level}", level.difference


def _of(one: Comparison) -> Iterator[tuple[str, Difference]]:
    yield f"{one.arm} beside {one.against}", one.target
    for name, found in one.sets.items():
        yield f"{one.arm} beside {one.against} on {name}", found


def _check_difference(found: Difference, where: str) -> None:
    if found.mean is None:
        return
    if found.pairs < 1 or len(found.seeds) != found.pairs:
        raise _refused("a difference does not say how many pairs it is of", "pairs, with their seeds",
                       f"{found.pairs} pairs, {len(found.seeds)} seeds", where)  # fmt: skip
    if found.low is None or found.high is None:
        if found.pairs > 1 or found.verdict in ("better", "worse"):
            raise _refused("a difference has no interval", "low and high", f"{found.pairs} pairs", where)
    elif found.verdict in ("better", "worse") and found.low <= 0 <= found.high:
        raise _refused("a difference claims what its interval does not", "not distinguishable", found.verdict, where)


def _refused(what: str, expected: str, found: str, where: str = "") -> ArtifactError:
    return ArtifactError(
        f"these findings cannot be shown: {what}", expected=expected, found=found, where=where or "findings", fix=FIX
    )
