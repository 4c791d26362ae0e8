"""Filters side by side with datatrove: the same decisions, the same reasons, and how much faster.

Runs datatrove's own Gopher, C4 and FineWeb filters and ours on the same texts on one core, prints per filter the
agreement of the decision and of the reason, every disagreement with the two verdicts and the deciding signal, and
the ratio of CPU time (thread time, so that a busy machine does not matter). Ours runs all four from one pass.

Run it:  python -m benchmarks.filters [texts.jsonl or texts.jsonl.gz] [number of texts]
"""

import gzip
import importlib.metadata
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.filter_rules import load_rules
from raters.filter_signals import first_failure, signals

DEMO = Path(__file__).parents[1] / "pipelines" / "demo" / "pages.jsonl"


def main() -> None:
    """Measure, print, and fail if a decision agrees on less than 99 % of the texts."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else DEMO
    texts = read_texts(path, int(sys.argv[2]) if len(sys.argv) > 2 else 1000)
    array = pa.array(texts, pa.string())
    signals(array.slice(0, 1))
    batch, ours_s = timed(lambda: signals(array))
    theirs_s, worst = 0.0, 1.0
    print(f"texts     {path.name}, {len(texts):,} texts, {array.nbytes / 1e6:.1f} MB; {machine()}")
    print("filter               decisions equal   reasons equal   dropped   datatrove docs/s")
    for name, peer in peers().items():
        rules = load_rules(name)
        mine = first_failure(batch, rules).to_pylist()
        theirs, seconds = timed(lambda peer=peer: [verdict(peer, text) for text in texts])
        theirs_s += seconds
        decisions = sum((a is None) == (b is None) for a, b in zip(mine, theirs, strict=True)) / len(texts)
        reasons = sum(a == b for a, b in zip(mine, theirs, strict=True)) / len(texts)
        worst = min(worst, decisions)
        dropped = sum(a is not None for a in theirs)
        print(f"{name:<20} {decisions:>15.2%} {reasons:>15.2%} {dropped:>9} {len(texts) / seconds:>18,.0f}")
        for row, (a, b) in enumerate(zip(mine, theirs, strict=True)):
            if a != b:
                print(f"    text {row}: ours {a}, datatrove {b}; {deciding(batch, rules, row, {a, b})}")
    _, rules_s = timed(lambda: [first_failure(batch, load_rules(name)) for name in peers()])
    ours_s += rules_s
    print(
        f"all four: ours {len(texts) / ours_s:,.0f} docs/s ({array.nbytes / ours_s / 1e6:.1f} MB/s), "
        f"datatrove {len(texts) / theirs_s:,.1f} docs/s, ratio {theirs_s / ours_s:,.0f}"
    )
    if worst < 0.99:
        sys.exit(f"a filter's decisions agree on {worst:.2%} of the texts only")


def peers() -> dict[str, object]:
    """Our rule sets' names and datatrove's filters."""
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    return {
        "gopher_quality": GopherQualityFilter(),
        "gopher_repetition": GopherRepetitionFilter(),
        "c4": C4QualityFilter(),
        "fineweb": FineWebQualityFilter(),
    }


def verdict(peer: object, text: str) -> str | None:
    """datatrove's reason for dropping the text, None if it keeps it."""
    from datatrove.data import Document
    from datatrove.utils.text import split_into_parts

    split_into_parts.cache_clear()
    result = peer.filter(Document(text=text, id="0"))  # type: ignore[attr-defined]
    return None if result is True else result[1]


def deciding(batch: pa.RecordBatch, rules: tuple, row: int, reasons: set) -> str:
    """The values of the signals in question, with their bounds."""
    found = [rule for rule in rules if rule.reason in reasons]
    return ", ".join(
        f"{rule.signal} = {batch.column(rule.signal)[row].as_py():.6g} (min {rule.min}, max {rule.max})"
        for rule in found
    )


def read_texts(path: Path, limit: int) -> list[str]:
    """The `text` fields of the first documents of a JSONL file."""
    opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for _, line in zip(range(limit), lines, strict=False)]


def timed(work: Callable[[], object]):  # type: ignore[no-untyped-def]
    """The result of `work` and the CPU seconds of this thread."""
    start = time.thread_time()
    result = work()
    return result, time.thread_time() - start


def machine() -> str:
    """Hardware and versions, for the record."""
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "?",
    )
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("numba", "pyarrow", "datatrove", "spacy")
    )
    return f"one core of {cpu}; Python {platform.python_version()}, {versions}"


if __name__ == "__main__":
    main()
