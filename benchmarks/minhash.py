"""MinHash band keys against datasketch and datatrove: how fast, and how good the estimates are.

datasketch gets our words joined to 5-word shingles, 112 permutations; datatrove's signature step gets the texts and
makes its own words with spaCy. Quality is the error of the Jaccard estimate against the true value on pairs of real
texts and altered copies of them, ours and datasketch's; sqrt(s (1 - s) / 112) is what independent hashes give.
CPU times of the thread on one core.

Run it:  python -m benchmarks.minhash [texts.jsonl or texts.jsonl.gz] [number of texts]
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

from benchmarks.filters import DEMO, machine, read_texts, timed
from raters.text.minhash import BANDS, NGRAM, ROWS, band_keys, signatures
from raters.text.reference import normalised_words


def main() -> None:
    """Measure and print; fail if the estimate is worse than 1.3 times what independent hashes give."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else DEMO
    texts = read_texts(path, int(sys.argv[2]) if len(sys.argv) > 2 else 300)
    array = pa.array(texts, pa.string())
    band_keys(array.slice(0, 1))
    seconds = sorted(timed(lambda: band_keys(array))[1] for _ in range(3))
    sketches, sketch_s = timed(lambda: [datasketch_of(shingles(text)) for text in texts])
    datatrove_signatures(texts[:1])
    _, trove_s = timed(lambda: datatrove_signatures(texts[:50]))
    megabytes = array.nbytes / 1e6
    print(f"texts      {path.name}, {len(texts):,} texts, {megabytes:.1f} MB, {BANDS} bands x {ROWS}; {machine()}")
    print(f"ours       {len(texts) / seconds[0]:,.0f} docs/s, {megabytes / seconds[0]:.1f} MB/s")
    print(f"datasketch {len(texts) / sketch_s:,.0f} docs/s, ratio {sketch_s / seconds[0]:,.0f}")
    print(f"datatrove  {50 / trove_s:,.0f} docs/s, ratio {trove_s / 50 * len(texts) / seconds[0]:,.0f}")
    copies = [altered(text, np.random.default_rng(row)) for row, text in enumerate(texts)]
    truth = np.array([jaccard(shingles(a), shingles(b)) for a, b in zip(texts, copies, strict=True)])
    inside = (truth > 0) & (truth < 1)
    ours = (signatures(array).values == signatures(pa.array(copies)).values).mean(axis=1)
    peer = np.array([a.jaccard(datasketch_of(shingles(b))) for a, b in zip(sketches, copies, strict=True)])
    ideal = np.sqrt((truth * (1 - truth))[inside].mean() / (BANDS * ROWS))
    error, peer_error = (np.sqrt(((found - truth)[inside] ** 2).mean()) for found in (ours, peer))
    print(f"error      rms on {inside.sum()} pairs: ours {error:.4f}, datasketch {peer_error:.4f}, theory {ideal:.4f}")
    if error > 1.3 * ideal:
        sys.exit("the MinHash estimate is worse than independent hashes would be")


def shingles(text: str) -> set[str]:
    """The 5-word shingles of the normalised words; all words if there are fewer."""
    words = normalised_words(text)
    return {" ".join(words[i : i + NGRAM]) for i in range(max(len(words) - NGRAM, 0) + 1)}


def altered(text: str, rng: np.random.Generator) -> str:
    """The text with up to a tenth of its words replaced, so that similarities cover the whole range."""
    share = rng.uniform(0, 0.1)
    return " ".join("changed" if rng.random() < share else word for word in text.split())


def jaccard(left: set[str], right: set[str]) -> float:
    """Shingles in common over shingles in either."""
    return len(left & right) / max(len(left | right), 1)


def datasketch_of(grams: set[str]):  # type: ignore[no-untyped-def]
    """datasketch's signature of a shingle set."""
    from datasketch import MinHash

    sketch = MinHash(num_perm=BANDS * ROWS, seed=1)
    sketch.update_batch([gram.encode() for gram in grams])
    return sketch


def datatrove_signatures(texts: list[str]) -> list[object]:
    """datatrove's signatures, by the two methods that its pipeline step calls for each document."""
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature

    with TemporaryDirectory() as folder:
        step = MinhashDedupSignature(folder, MinhashConfig(num_buckets=BANDS, hashes_per_bucket=ROWS))
        found = [step.get_shingles(text) for text in texts]
    return [step.get_signature(hashes) for hashes in found if hashes.size]


if __name__ == "__main__":
    main()
