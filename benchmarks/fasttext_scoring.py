"""fastText scoring: the whole stage beside the bare model, and beside datatrove's filter on the same file.

Three questions, one process each time, the same documents in one Parquet shard, the same model, scores compared:

- stage: read the shard, prepare, score, write the sidecar, as a task of `gradatim rate` does.
- bare: batches of texts through fastText's own `multilinePredict`, nothing else. The texts lie in memory, read and
  prepared already (lower case, one blank between words): no work but fastText's is in it. The ratio bare / stage
  says what share of the stage is fastText.
- datatrove: ParquetReader and FastTextClassifierFilter in one LocalPipelineExecutor task, which writes nothing. It
  runs on the same build of fastText as ours: the wheel it asks for by name is a slower one. Its text is the raw one
  with newlines made blanks, so our stage is measured once more with `form: lines`.

A loop of `re.sub` and `predict`, as many people write it, is the fourth. Works take turns; CPU time and wall time.

Run it:  python -m benchmarks.fasttext_scoring [documents.jsonl.gz ...]
"""

import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.filters import DEMO, machine, read_texts
from corpus.documents import documents
from corpus.shards import read_table, write_table
from pipelines.stages.shard_work import RateWork
from pipelines.tally import Tally
from raters.fasttext_model import POSITIVE, load, prepare
from raters.fasttext_rater import FastTextRater
from raters.fasttext_training import TrainingSettings, train

N_TEXTS = 5_000
RUNS = 5
BATCH = 2_000


def stage(shard: Path, rater: FastTextRater, folder: Path) -> np.ndarray:
    """The stage of one shard; returns the scores it wrote."""
    (path,) = RateWork(shard, (), rater).run(folder, Tally())
    return read_table(Path(path))[rater.name].to_numpy()


def bare(rater: FastTextRater, lines: list[str]) -> list[float]:
    """fastText alone over lines in memory."""
    model = load(rater.path, rater.checksum).f
    scores: list[float] = []
    for start in range(0, len(lines), BATCH):
        labels, probs = model.multilinePredict(lines[start : start + BATCH], -1, 0.0, "strict")
        scores += [p[names.index(POSITIVE)] for names, p in zip(labels, probs, strict=True)]
    return scores


def usual(rater: FastTextRater, texts: list[str]) -> list[float]:
    """The loop that people write."""
    model, blanks = load(rater.path, rater.checksum), re.compile(r"\s+")
    scores = []
    for text in texts:
        labels, probs = model.predict(blanks.sub(" ", text.lower()).strip(), k=2)
        scores.append(float(probs[labels.index(POSITIVE)]))
    return scores


def datatrove(shard: Path, rater: FastTextRater, folder: Path) -> list[float]:
    """datatrove's reader and filter on the same file; returns what the filter puts into the metadata."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.filters import FastTextClassifierFilter
    from datatrove.pipeline.readers import ParquetReader
    from loguru import logger

    logger.disable("datatrove")
    FastTextClassifierFilter._requires_dependencies = ["fasteners"]
    scores: list[float] = []

    def note(data, rank=0, world_size=1):
        for document in data:
            scores.append(document.metadata[POSITIVE])
            yield document

    reader = ParquetReader(str(shard.parent), read_metadata=False)
    classifier = FastTextClassifierFilter(rater.path, keep_labels=[("positive", 0.0)], newline_replacement=" ")
    logs = tempfile.mkdtemp(dir=folder)  # a task that is logged as done is not run again
    LocalPipelineExecutor([reader, classifier, note], tasks=1, logging_dir=logs).run()
    return scores


def measure(works: dict[str, Callable[[], object]]) -> dict[str, tuple[list[float], list[float]]]:
    """CPU and wall times of each work, sorted; the works take turns, so that a busy machine disturbs them alike."""
    cpu: dict[str, list[float]] = {name: [] for name in works}
    wall: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(RUNS):
        for name, work in works.items():
            started, used = time.perf_counter(), time.process_time()
            work()
            cpu[name].append(time.process_time() - used)
            wall[name].append(time.perf_counter() - started)
    return {name: (sorted(cpu[name]), sorted(wall[name])) for name in works}


def documents_of(paths: list[Path]) -> list[str]:
    """Up to 5,000 texts, from the files in turn; repeated with a number in front where there are fewer."""
    columns = [[text for text in read_texts(path, N_TEXTS) if text.strip()] for path in paths]
    texts = [text for text in chain.from_iterable(zip_longest(*columns)) if text is not None][:N_TEXTS]
    return [texts[i] if i < len(texts) else f"{i} {texts[i % len(texts)]}" for i in range(N_TEXTS)]


def main() -> None:
    """Measure, compare the scores, and print a record."""
    paths = [Path(name) for name in sys.argv[1:]] or [DEMO]
    texts = documents_of(paths)
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shard = folder / "documents" / "documents-00000.parquet"
        rows = [{"id": f"{i:032x}", "text": text, "source": "web"} for i, text in enumerate(texts)]
        write_table(shard, pa.Table.from_batches([documents(rows)]))
        train(texts[:2000:2], texts[1:2000:2], TrainingSettings(epochs=3), folder)
        rater = FastTextRater.from_file(folder / "model.bin", "prose")
        plain = FastTextRater.from_file(folder / "model.bin", "prose", form="lines")
        lines = [prepare(text) + "\n" for text in texts]
        works: dict[str, Callable[[], object]] = {
            "stage": lambda: stage(shard, rater, folder / "ours"),
            "bare": lambda: bare(rater, lines),
            "usual loop": lambda: usual(rater, texts),
            "stage, form lines": lambda: stage(shard, plain, folder / "ours"),
            "datatrove": lambda: datatrove(shard, rater, folder),
        }
        found = {name: np.minimum(np.asarray(work(), np.float64), 1).astype(np.float32) for name, work in works.items()}
        times = measure(works)
    np.testing.assert_array_equal(found["stage"], found["bare"])
    np.testing.assert_array_equal(found["stage"], found["usual loop"])
    apart = np.abs(found["stage, form lines"] - found["datatrove"])
    print(f"documents {N_TEXTS:,} of {', '.join(path.name for path in paths)}, {megabytes:.1f} MB; {machine()}, "
          f"fasttext-modern {version('fasttext-modern')}, datatrove {version('datatrove')}")  # fmt: skip
    for name, kinds in times.items():
        cpu, wall = (f"{statistics.median(t):6.2f} s ({t[0]:.2f} to {t[-1]:.2f})" for t in kinds)
        print(f"{name:<18} CPU {cpu}, wall {wall}, {megabytes / statistics.median(kinds[0]):5.1f} MB/s of CPU time")
    for ours, peer in (("stage", "bare"), ("stage", "usual loop"), ("stage, form lines", "datatrove")):
        ratios = [statistics.median(times[peer][i]) / statistics.median(times[ours][i]) for i in range(2)]
        fastest = times[peer][0][0] / times[ours][0][0]
        print(f"speed of {ours} / {peer}: CPU {ratios[0]:.2f} (fastest runs {fastest:.2f}), wall {ratios[1]:.2f}")
    print("checked   stage, bare and loop equal, bit for bit; form lines and datatrove: "
          f"{np.mean(apart == 0):.2%} equal, largest difference {apart.max():.2g}")  # fmt: skip


if __name__ == "__main__":
    main()
