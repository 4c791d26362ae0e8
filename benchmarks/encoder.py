"""The encoder rater against a transformers pipeline: the same scores, how much faster on one core.

The peer is what its documentation shows: `pipeline("text-classification")` with truncation, one text after the other,
and the same with batches in the texts' own order. The classifier has six outputs of random weights on an encoder:
the one that GRADATIM_ENCODER names, or one of MiniLM's size with random weights and a tokenizer trained on the texts.
All run on one thread, and times are CPU times of the process; scores must agree within 1e-5.

Run it:  python -m benchmarks.encoder [texts.jsonl or texts.jsonl.gz] [number of texts] [max_length]
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.filters import DEMO, machine, read_texts
from raters.encoder import EncoderRater
from raters.text_windows import WindowPlan
from raters.torch_model import import_torch, import_transformers, load, local_model

CLASSES = 6
PEER_BATCH = 32


def main() -> None:
    """Measure, print, and fail if a score differs by more than 1e-5."""
    torch, transformers = import_torch(), import_transformers()
    torch.set_num_threads(1)
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else DEMO
    texts = [text for text in read_texts(path, int(sys.argv[2]) if len(sys.argv) > 2 else 354) if text.strip()]
    max_length = int(sys.argv[3]) if len(sys.argv) > 3 else 256
    with tempfile.TemporaryDirectory() as folder:
        make_classifier(Path(folder), texts)
        rater = EncoderRater(
            local_model(folder, Path(folder)), "quality", CLASSES, "expectation", plan=WindowPlan(max_length)
        )
        loaded = load("AutoModelForSequenceClassification", rater.model, rater.compute)
        peer = transformers.pipeline(
            "text-classification",
            model=loaded.model,
            tokenizer=loaded.tokenizer,
            top_k=None,
            function_to_apply="softmax",
        )
        runs: dict[str, Callable[[], Any]] = {
            "ours": lambda: rater.rate(pa.record_batch({"text": texts})).column(0).to_numpy(),
            "pipeline, one by one": lambda: expected(peer, texts, max_length, 1),
            f"pipeline, batches of {PEER_BATCH}": lambda: expected(peer, texts, max_length, PEER_BATCH),
        }
        runs["ours"]()
        found = {name: cpu_timed(run) for name, run in runs.items()}
    lengths = [len(ids) for ids in loaded.tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]]
    print(f"texts   {path.name}, {len(texts):,} texts, {np.mean(lengths):.0f} tokens each (cut at {max_length})")
    print(f"machine {machine()}; torch {torch.__version__}, transformers {transformers.__version__}")
    mine, seconds = found["ours"]
    for name, (scores, other_s) in found.items():
        print(
            f"{name:<24} {len(texts) / other_s:8.1f} docs/s, ours is {other_s / seconds:.2f} times as fast; "
            f"largest difference {np.abs(scores - mine).max():.1e}"
        )
    if any(np.abs(scores - mine).max() > 1e-5 for scores, _ in found.values()):
        sys.exit("the scores differ")


def make_classifier(folder: Path, texts: list[str]) -> None:
    """A classifier over the encoder that GRADATIM_ENCODER names, or over a random one of MiniLM's size."""
    torch, transformers = import_torch(), import_transformers()
    torch.manual_seed(1)
    named = os.environ.get("GRADATIM_ENCODER")
    if named:
        tokenizer = transformers.AutoTokenizer.from_pretrained(named)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(named, num_labels=CLASSES)
    else:
        tokenizer = train_tokenizer(texts)
        model = transformers.BertForSequenceClassification(
            transformers.BertConfig(
                vocab_size=len(tokenizer),
                hidden_size=384,
                num_hidden_layers=6,
                num_attention_heads=12,
                intermediate_size=1536,
                num_labels=CLASSES,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    with torch.no_grad():
        model.classifier.weight.mul_(20.0)  # so that the scores of texts lie apart
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)


def train_tokenizer(texts: list[str]) -> Any:
    """WordPiece with BERT's special tokens."""
    from tokenizers import BertWordPieceTokenizer

    tokenizer = BertWordPieceTokenizer()
    tokenizer.train_from_iterator(texts, vocab_size=8000, show_progress=False)
    return import_transformers().BertTokenizerFast(tokenizer_object=tokenizer._tokenizer)


def expected(peer: Any, texts: list[str], max_length: int, batch_size: int) -> np.ndarray:
    """The expected class from a pipeline's probabilities: shape (n,)."""
    answers = peer(texts, truncation=True, max_length=max_length, batch_size=batch_size)
    return np.array([sum(int(a["label"].removeprefix("LABEL_")) * a["score"] for a in answer) for answer in answers])


def cpu_timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """A result and the CPU seconds of this process that it took."""
    start = time.process_time()
    result = run()
    return result, time.process_time() - start


if __name__ == "__main__":
    main()
