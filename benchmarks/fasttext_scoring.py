"""fastText scoring beside the loop most people write: normalise by regular expression, predict one text at a time.

Both score the same documents with the same model on one core and must agree. The peer is a per-document loop,
`re.sub(r"\\s+", " ", text.lower()).strip()` and `model.predict(text, k=2)`. The gain is all in preparing texts;
fastText itself is bound by hashing and memory reads and does not care about batches.

The file is not named `fasttext.py`, because a script's folder comes first on the import path.

Run it:  python benchmarks/fasttext_scoring.py [documents.jsonl.gz]
"""

import gzip
import json
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa

from raters.fasttext_model import POSITIVE, load
from raters.fasttext_rater import FastTextRater
from raters.fasttext_training import TrainingSettings, train

ROOT = Path(__file__).parent.parent
N_DOCUMENTS = 5_000
RUNS = 3


def read_texts(path: Path) -> list[str]:
    """The texts of a JSONL file, repeated with a number in front up to 5,000 documents."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    return [texts[i] if i < len(texts) else f"{i} {texts[i % len(texts)]}" for i in range(N_DOCUMENTS)]


def peer(path: str, texts: list[str]) -> list[float]:
    """The usual loop; blank texts would get the prior, and there are none here."""
    model = load(path, FastTextRater.from_file(path, "peer").checksum)
    blanks = re.compile(r"\s+")
    scores = []
    for text in texts:
        labels, probs = model.predict(blanks.sub(" ", text.lower()).strip(), k=2)
        scores.append(min(1.0, float(probs[labels.index(POSITIVE)])))
    return scores


def seconds(*works: Callable[[], object]) -> list[list[float]]:
    """CPU times of three runs each, sorted; the works take turns, so that a busy machine disturbs them alike."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(RUNS):
        for work, taken in zip(works, times, strict=True):
            start = time.process_time()
            work()
            taken.append(time.process_time() - start)
    return [sorted(taken) for taken in times]


def main() -> None:
    """Measure both and print a record."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "pipelines/demo/pages.jsonl"
    texts = read_texts(path)
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    with tempfile.TemporaryDirectory() as folder:
        train(texts[:300:2], texts[1:300:2], TrainingSettings(epochs=3), Path(folder))
        rater = FastTextRater.from_file(Path(folder) / "model.bin", "prose")
        batch = pa.record_batch({"text": texts})
        ours = rater.rate(batch).column("prose").to_numpy()
        np.testing.assert_array_equal(ours, np.array(peer(rater.path, texts), dtype=np.float32))
        ours_s, peer_s = seconds(lambda: rater.rate(batch), lambda: peer(rater.path, texts))
    middle = RUNS // 2
    print(f"documents {N_DOCUMENTS:,} of {path.name}, {megabytes:.1f} MB; one core, CPU time, median of {RUNS} (range)")
    print(f"machine   {platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}, "
          f"fasttext-modern {version('fasttext-modern')}")  # fmt: skip
    for name, times in (("ours", ours_s), ("peer", peer_s)):
        rates = [N_DOCUMENTS / t for t in times]
        print(f"{name:<9} {rates[middle]:,.0f} documents/s ({rates[-1]:,.0f} to {rates[0]:,.0f}), "
              f"{megabytes / times[middle]:.1f} MB/s")  # fmt: skip
    print(f"ratio     {peer_s[middle] / ours_s[middle]:.2f}")
    print("checked   all scores equal")


if __name__ == "__main__":
    main()
