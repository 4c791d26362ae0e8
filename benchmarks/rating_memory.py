"""Rating two million short documents: memory that does not grow with the corpus, and what Spark costs on top.

Documents are lines of the bundled pages, numbered so that no two are alike. Each run is a command of its own; its peak
is the proportional set size of the command and all its workers together, sampled ten times a second. Three corpora of
0.2, 1 and 2 million documents show whether the peak depends on their number.

Run it:  python -m benchmarks.rating_memory [millions ...]        writes about 0.5 GB into a temporary folder
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.filters import DEMO, machine, read_texts

RATERS = ["signals", "measures"]


def write_documents(folder: Path, n: int) -> None:
    """Short documents as JSONL."""
    lines = [line.strip() for text in read_texts(DEMO, 400) for line in text.split("\n")]
    sentences = [line for line in lines if len(line) > 40]
    with (folder / "short.jsonl").open("w", encoding="utf-8") as file:
        for i in range(n):
            text = f"{sentences[i % len(sentences)]} No. {i}."
            file.write(json.dumps({"id": str(i), "text": text}) + "\n")


def peak_of(command: list[str]) -> tuple[float, float]:
    """Seconds, and the peak of the summed resident memory of a command and its descendants, in MB."""
    started, peak = time.monotonic(), 0.0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, resident(process.pid))
        time.sleep(0.1)
    if process.returncode:
        sys.exit(f"failed: {' '.join(command)}")
    return time.monotonic() - started, peak


def resident(pid: int) -> float:
    """Proportional set size of a process and its descendants, MB: shared pages count once."""
    total, waiting = 0.0, [pid]
    while waiting:
        one = waiting.pop()
        try:
            rollup = Path(f"/proc/{one}/smaps_rollup").read_text()
            total += int(next(line for line in rollup.splitlines() if line.startswith("Pss:")).split()[1]) / 1e3
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError, PermissionError, StopIteration):
            continue
    return total


def main() -> None:
    """Measure and print."""
    gradatim = str(Path(sys.executable).with_name("gradatim"))
    raters = [part for name in RATERS for part in ("-r", name)]
    print(f"machine {machine()}; raters {', '.join(RATERS)}; 2 workers")
    for millions in map(float, sys.argv[1:] or ("0.2", "1", "2")):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            n = round(millions * 1e6)
            write_documents(folder, n)
            work = ["-w", str(folder / "w"), "--workers", "2"]
            show(n, "ingest, signals", peak_of([gradatim, "rate", str(folder / "short.jsonl"), *work]))
            for runtime in ("local", "spark"):
                shutil.rmtree(folder / "w/scores")
                command = [gradatim, "rate", "documents", *raters, *work, "--runtime", runtime]
                show(n, f"rate, {runtime}", peak_of(command))


def show(n: int, what: str, measured: tuple[float, float]) -> None:
    """One line of the record."""
    seconds, peak = measured
    print(
        f"{n:>9,} documents  {what:<16} {seconds:>6.1f} s  {n / seconds:>8,.0f} docs/s  peak {peak:,.0f} MB", flush=True
    )


if __name__ == "__main__":
    main()
