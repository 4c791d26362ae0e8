"""The command of a bundle: what it is asked, whether the machine will do, and one run after the other.

What is trained follows from the bundle alone, so the work may be divided over GPUs and machines in any way (`--part`,
`--arm`, `--seed`), stopped at any time and begun again; results that are there already are left as they are.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from corpus.errors import GradatimError
from pipelines.experiments.bundle_format import RESULTS, Bundle
from pipelines.experiments.bundle_runtime.machine import differing_versions, disk_report, left_of, report
from pipelines.experiments.bundle_runtime.one_run import do_run

Run = dict[str, Any]
STOPPED = 143


def main(folder: Path, arguments: Sequence[str]) -> int:
    """Do what the command line asks; returns the exit status: 0, 1 for an error, 143 when asked to stop."""
    asked = _asked(arguments)
    try:
        bundle = Bundle.open(folder)
        bundle.check()
        chosen = chosen_runs(bundle, asked.arm, asked.seed, asked.part)
        for line in report(bundle, chosen):
            print(line)
        if asked.check:
            return 0 if disk_report(bundle, chosen) is None else 1
        return _train(bundle, chosen, asked)
    except GradatimError as error:
        print(error.render(), file=sys.stderr)
        return 1


def chosen_runs(bundle: Bundle, arms: Sequence[str], seeds: Sequence[int], part: tuple[int, int]) -> list[Run]:
    """The runs that match, and those that they learn from; then one of n shares, about equal in FLOPs.

    Runs that need each other are in one share. Raises GradatimError where nothing matches.
    """
    runs: dict[str, Run] = {run["id"]: run for run in bundle.facts["runs"]}
    named = [
        name for name, run in runs.items()
        if (not arms or any(fnmatchcase(run["arm"], one) for one in arms)) and (not seeds or run["seed"] in seeds)
    ]  # fmt: skip
    if not named:
        raise GradatimError(
            "no run of this bundle matches", expected=", ".join(sorted({run["arm"] for run in runs.values()})),
            found=f"--arm {' '.join(arms) or '*'} --seed {' '.join(map(str, seeds)) or '*'}",
        )  # fmt: skip
    groups = _groups(named, runs)
    number, shares = part
    loads, held = [0.0] * shares, [set[str]() for _ in range(shares)]
    costs = [sum(runs[name]["flops"] for name in group) for group in groups]
    for cost, group in sorted(zip(costs, groups, strict=True), key=lambda one: -one[0]):  # a stable sort
        least = min(range(shares), key=loads.__getitem__)
        held[least] |= group
        loads[least] += cost
    return [run for name, run in runs.items() if name in held[number - 1]]


def _groups(named: Sequence[str], runs: dict[str, Run]) -> list[set[str]]:
    """Runs with all that they need, those together that have something in common."""
    found: list[set[str]] = []
    for name in named:
        group, waiting = set[str](), [name]
        while waiting:
            one = waiting.pop()
            if one not in group:
                group.add(one)
                waiting += runs[one]["needs"]
        apart = [other for other in found if not other & group]
        found = [*apart, group.union(*(other for other in found if other & group))]
    return found


def _train(bundle: Bundle, chosen: Sequence[Run], asked: argparse.Namespace) -> int:
    if problem := disk_report(bundle, chosen):
        raise GradatimError(problem, fix="make room, or train fewer runs at a time: --arm, --seed, --part")
    for line in differing_versions(bundle):
        print(f"warning: {line}", file=sys.stderr)
    left = left_of(bundle, chosen)
    for number, run in enumerate(left, 1):
        needed = {name for other in left[number - 1 :] for name in other["needs"]}
        print(f"[{number}/{len(left)}] {run['id']}", flush=True)
        if not do_run(bundle, run["id"], device=asked.device):
            print("stopped; the same command goes on from here", file=sys.stderr)
            return STOPPED
        if not asked.keep:
            still = {name for other in left[number:] for name in other["needs"]}
            for name in {run["id"], *needed} - still:
                shutil.rmtree(bundle.work(name), ignore_errors=True)
    print(f"done: the results of {len(chosen)} runs are in {bundle.folder / RESULTS}")
    return 0


def _asked(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.py", description="Train the runs of this bundle.")
    parser.add_argument("--check", action="store_true", help="check files, versions and disk, print the plan, and stop")
    parser.add_argument("--arm", action="append", default=[], metavar="PATTERN", help="only such arms; repeatable")
    parser.add_argument("--seed", action="append", default=[], type=int, help="only such seeds; repeatable")
    parser.add_argument("--part", type=_part, default=(1, 1), metavar="K/N", help="the k-th of n shares of the work")
    parser.add_argument("--device", help="cpu or cuda; default: a GPU where there is one")
    parser.add_argument("--keep", action="store_true", help="keep the checkpoints of runs that are done")
    return parser.parse_args(arguments)


def _part(text: str) -> tuple[int, int]:
    number, slash, shares = text.partition("/")
    if not slash or not number.isdigit() or not shares.isdigit() or not 1 <= int(number) <= int(shares):
        raise argparse.ArgumentTypeError(f"{text!r} is not a share of the work; write for example 1/4")
    return int(number), int(shares)
