"""DSIR importance, compiled, against the published per-document Python: the same scores, how much faster; and what
the scores tell apart.

The peer does what p-lambda/dsir does for one document: the WordPunct pattern, `hashlib.sha256` of every word and pair,
NumPy counts, and their product with the log ratios of each target. Both run on one core on the same texts, with the
same three targets; counts must be equal, and so must scores as float32. Times are CPU times of the thread. The
pattern is matched by `re`, as NLTK 3.8 did; the engine of NLTK 3.10 is slower and takes other characters for letters.

With a folder of real text it fits the first half of each of its files (a book's chapters stand together) and states
how well `dsir_<target>` puts the second half of a target above the second halves of the others.

Run it:  python -m benchmarks.importance [texts.jsonl or texts.jsonl.gz] [number of texts]
         python -m benchmarks.importance --targets FOLDER    with web_en, enwiki, openstax, books_en .jsonl.gz
"""

import re
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.filters import DEMO, machine, read_texts, timed
from raters.fasttext_evaluation import auc
from raters.importance import Importance
from raters.importance_reference import bucket
from raters.importance_table import BUCKETS, fit, load_weights
from raters.text.ngram_buckets import add_feature_counts

RAW, TARGETS = "web_en", {"wiki": "enwiki", "textbooks": "openstax", "books": "books_en"}
N_TARGETS = 3
BATCH_TEXTS = 2_000


def main() -> None:
    """Measure, print, and fail if a count or a score differs."""
    if sys.argv[1:2] == ["--targets"]:
        tell_apart(Path(sys.argv[2]))
        return
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else DEMO
    texts = read_texts(path, int(sys.argv[2]) if len(sys.argv) > 2 else 1000)
    batch = pa.record_batch({"text": pa.array(texts, pa.string())})
    with tempfile.TemporaryDirectory() as folder:
        thirds = {f"t{i}": [batch.column("text")[i::N_TARGETS]] for i in range(N_TARGETS)}
        fit(thirds, [batch.column("text")], Path(folder), min_features=1)
        rater = Importance.from_folder(Path(folder), "dsir")
        rater.rate(batch.slice(0, 1))
        runs = [timed(lambda: rater.rate(batch)) for _ in range(3)]
        weights = load_weights(rater.path, rater.checksum, rater.pseudo_count)
    seconds = sorted(run[1] for run in runs)
    (counts, sums), peer_s = timed(lambda: published(texts, weights))
    mine = np.zeros((len(texts), BUCKETS), np.int64)
    add_feature_counts(batch.column("text"), np.arange(len(texts)), mine)
    sizes = counts.sum(axis=1)
    different = int((mine != counts).sum())
    for i in range(N_TARGETS):
        for column, values in zip((2 * i, 2 * i + 1), (sums[:, i] / np.maximum(sizes, 1), sums[:, i]), strict=True):
            expected = pa.array(values.astype(np.float32), mask=sizes == 0)
            different += sum(a != b for a, b in zip(runs[0][0].column(column), expected, strict=True))
    megabytes = batch.nbytes / 1e6
    print(f"texts   {path.name}, {len(texts):,} texts, {megabytes:.1f} MB, {sizes.sum():,} features; {machine()}")
    print(
        f"ours    {len(texts) / seconds[0]:,.0f} docs/s, {megabytes / seconds[0]:.1f} MB/s "
        f"({megabytes / seconds[-1]:.1f} to {megabytes / seconds[0]:.1f}, 3 runs), {N_TARGETS} targets"
    )
    print(f"peer    {len(texts) / peer_s:,.0f} docs/s, {megabytes / peer_s:.2f} MB/s; ratio {peer_s / seconds[0]:.1f}")
    print(f"checked {counts.size:,} counts and {6 * len(texts):,} scores, values that differ: {different}")
    if different:
        sys.exit("the compiled importance differs from the published form")


def published(
    texts: list[str], weights: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Counts (n, buckets) and sums (n, targets), one document at a time, as a user of the public code gets them."""
    tokenize = re.compile(r"\w+|[^\w\s]+").findall
    counts = np.zeros((len(texts), len(weights)), dtype=np.int64)
    sums = np.zeros((len(texts), weights.shape[1]))
    for row, text in enumerate(texts):
        found = counts[row]
        words = tokenize(text.lower())
        for word in words:
            found[bucket(word, len(weights))] += 1
        for pair in pairwise(words):
            found[bucket(" ".join(pair), len(weights))] += 1
        sums[row] = found @ weights
    return counts, sums


def tell_apart(folder: Path) -> None:
    """Fit on the first half of each source, and print how the second halves are ranked."""
    texts = {name: read_texts(folder / f"{name}.jsonl.gz", 10**9) for name in (RAW, *TARGETS.values())}
    print(
        f"{machine()}\nfitted on (as many are held out): "
        + ", ".join(f"{name} {len(texts[name]) // 2:,}" for name in texts)
    )
    with tempfile.TemporaryDirectory() as where:
        corpora = {target: batches(first_half(texts[name])) for target, name in TARGETS.items()}
        facts, seconds = timed(lambda: fit(corpora, batches(first_half(texts[RAW])), Path(where)))
        rater = Importance.from_folder(Path(where), "dsir")
        held_out = {
            name: rater.rate(pa.record_batch({"text": found[len(found) // 2 :]})) for name, found in texts.items()
        }
    sizes = ", ".join(f"{name} {n / 1e6:.1f} M" for name, n in facts["features"].items())
    print(f"fit {seconds:.1f} s; features {sizes}")
    print("AUC of held-out pages of the column's target over those of   " + "".join(f"{n:>10}" for n in texts))
    for target, name in TARGETS.items():
        for column in (f"dsir_{target}", f"dsir_{target}_sum"):
            own, *others = (
                held_out[n].column(column).drop_null().to_numpy() for n in (name, *(n for n in texts if n != name))
            )
            cells = iter([f"{auc(own, other):>10.3f}" for other in others])
            print(f"{column:<61}" + "".join(f"{'-':>10}" if n == name else next(cells) for n in texts))


def first_half(texts: list[str]) -> list[str]:
    """What targets and raw text are fitted on."""
    return texts[: len(texts) // 2]


def batches(texts: list[str]) -> list[pa.StringArray]:
    """Some thousands of texts at a time."""
    return [pa.array(texts[i : i + BATCH_TEXTS], pa.string()) for i in range(0, len(texts), BATCH_TEXTS)]


if __name__ == "__main__":
    main()
