"""Rephrasing beside bare vLLM: what the stage costs over `LLM.generate`, and what a rerun costs when all is cached.

Three questions, each on real web pages (`web_en.jsonl.gz` of the given folder) in the style `medium`:

1. Whole-stage throughput: documents are cut, asked, cached, judged and joined; against `LLM.generate` on the same
   prompts with the same engine settings. Each side runs in a process of its own, in turns, and is timed from a started
   engine. Generated tokens per second.
2. A rerun with everything cached: documents a second, whole stage, nothing loaded but the tokenizer; once with settled
   documents, once with a changed threshold, so that all outputs are judged again. The cache is filled by a scripted
   generator that says the passage again in other words, since 135M parameters on a CPU would take a day.
3. The store: the cost of keeping one answer, of finding it, and the size of a million.

Run it:  python -m benchmarks.rephrase FOLDER [documents of 1] [documents of 2]
"""

import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa

from benchmarks.filters import machine
from corpus.documents import document_id, documents
from corpus.keyed_random import keyed_hashes
from rephrase.chat_tokenizer import ChatTokenizer
from rephrase.course import Bench, Source
from rephrase.courses import course_of
from rephrase.gates.instruments import NO_INSTRUMENTS
from rephrase.generator import Answer, Generation, GenerationRequest, Message
from rephrase.packaged_models import model_folder
from rephrase.rephrase import open_cache, open_settled, rephrase_documents
from rephrase.style import Style, load_style
from rephrase.vllm_engine import VllmGenerator
from rephrase.vllm_settings import VllmSettings

SETTINGS = VllmSettings(max_context=2048, max_concurrent=64)
STYLE = "medium"
ROUNDS = 2
LONGEST = 4_000  # characters: a page of two or three chunks


def main() -> None:
    """Run the three questions, or one side of the first one in a child process."""
    if sys.argv[1] == "--side":
        side(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
        return
    folder = Path(sys.argv[1])
    few, many = (int(sys.argv[i]) if len(sys.argv) > i else default for i, default in ((2, 100), (3, 2_000)))
    print(f"machine  {machine()}")
    throughput(folder, few)
    with tempfile.TemporaryDirectory() as scratch:
        cached(folder, many, Path(scratch))
    with tempfile.TemporaryDirectory() as scratch:
        store(folder, Path(scratch))


def pages(folder: Path, n: int) -> pa.RecordBatch:
    """n web pages by a keyed draw, each cut to LONGEST characters."""
    with gzip.open(folder / "web_en.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    hashes = keyed_hashes(0, [row["id"] for row in rows])
    drawn = [rows[i] for i in sorted(range(len(rows)), key=lambda i: hashes[i])]
    drawn = (drawn * (n // len(drawn) + 1))[:n]
    return documents(
        [
            {"id": document_id("web", f"{row['id']}/{i}"), "source": "web", "lang": "en", "text": row["text"][:LONGEST]}
            for i, row in enumerate(drawn)
        ]
    )


# ---- 1. beside LLM.generate


def throughput(folder: Path, n: int) -> None:
    """Both sides in turns; the median of each, and the ratio."""
    found: dict[str, list[dict[str, float]]] = {"bare": [], "ours": []}
    for turn in range(ROUNDS):
        for name in ("bare", "ours") if turn % 2 == 0 else ("ours", "bare"):
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.rephrase", "--side", name, str(folder), str(n)],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    print(f"\n1. {n} pages, style {STYLE}, SmolLM2-135M-Instruct, {ROUNDS} runs a side")
    for name, runs in found.items():
        rates = ", ".join(f"{run['tokens'] / run['seconds']:.1f}" for run in runs)
        print(f"   {name}  {runs[0]['requests']:,} requests, {runs[0]['tokens']:,} tokens, tokens/s: {rates}")
    ours, bare = (median(run["tokens"] / run["seconds"] for run in found[name]) for name in ("ours", "bare"))
    print(f"   whole stage over LLM.generate: {ours / bare:.3f}")


def side(name: str, folder: Path, n: int) -> None:
    """One side in this process: prints what it generated and how long that took, engine started before."""
    batch, style = pages(folder, n), load_style(STYLE)
    with tempfile.TemporaryDirectory() as scratch:
        generator = VllmGenerator(SETTINGS, log=Path(scratch) / "log")
        warm = GenerationRequest((Message("user", "Say hello."),), 4)
        list(generator.generate([warm], seed=0))
        made = bare(batch, style, generator) if name == "bare" else whole_stage(batch, style, generator, Path(scratch))
        generator.close()
    print(json.dumps(made))


def requests_of(batch: pa.RecordBatch, style: Style, generator: VllmGenerator) -> list[GenerationRequest]:
    """What the stage asks first, in the order in which it hands it to the engine."""
    bench = Bench(generator, NO_INSTRUMENTS)
    asked = []
    for row in batch.to_pylist():
        course = course_of(style)(Source(row["id"], row["text"], row["lang"]), style, bench)
        try:
            asked += [ask.request for ask in next(course)]
        except StopIteration:
            continue
    return sorted(asked, key=lambda request: -len(request.messages[-1].content))


def bare(batch: pa.RecordBatch, style: Style, generator: VllmGenerator) -> dict[str, float]:
    """The same prompts through `LLM.generate` itself; cutting and tokenising them is not timed."""
    from rephrase.vllm_engine import _sampling

    asked = requests_of(batch, style, generator)
    engine, tokenizer = generator._engine, generator._tokenizer
    prompts = [{"prompt_token_ids": tokenizer.prompt(request.messages)} for request in asked]
    sampling = [_sampling(request, {}) for request in asked]
    started = time.perf_counter()
    outputs = engine.generate(prompts, sampling, use_tqdm=False)
    seconds = time.perf_counter() - started
    tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
    return {"seconds": seconds, "tokens": tokens, "requests": len(asked)}


def whole_stage(batch: pa.RecordBatch, style: Style, generator: VllmGenerator, folder: Path) -> dict[str, float]:
    """`rephrase_documents` on an empty cache: cut, ask, keep, judge, join."""
    bench = Bench(generator, NO_INSTRUMENTS)
    cache, settled = open_cache(folder, generator), open_settled(folder, style, bench)
    started = time.perf_counter()
    made = rephrase_documents(batch, style, bench, cache, settled)
    cache.close()
    settled.close()
    seconds = time.perf_counter() - started
    tokens = sum(n or 0 for n in made.attempts.column("n_out").to_pylist())
    sent = made.attempts.num_rows - made.attempts.column("n_out").null_count
    return {"seconds": seconds, "tokens": tokens, "requests": sent}


# ---- 2. everything cached


class Scripted:
    """Answers at once with the passage's words in another order: a stand-in for a model, with a real tokenizer."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = ChatTokenizer(folder)
        self.identity: Mapping[str, str] = {"model": "scripted", "weights": "0" * 16, "engine": "benchmark"}
        self.max_context = 8192
        self.count_tokens, self.count_many = self._tokenizer.count, self._tokenizer.count_many

    def count_prompt(self, messages: Sequence[Message], opening: str = "") -> int:
        """Length of a whole prompt in tokens."""
        return len(self._tokenizer.prompt(messages, opening))

    def generate(self, requests: Sequence[GenerationRequest], *, seed: int) -> Iterator[tuple[int, Answer]]:
        """Every sentence of the prompt, the words of each turned round in threes."""
        for place, request in enumerate(requests):
            words = request.messages[-1].content.split()[3:-3]
            text = " ".join(" ".join(reversed(words[i : i + 3])) for i in range(0, len(words), 3))
            yield place, Generation(text, "stop", len(words) * 4 // 3, len(words) * 4 // 3)

    def close(self) -> None:
        """Nothing is held."""


def cached(folder: Path, n: int, scratch: Path) -> None:
    """First run, full rerun, and a rerun under a changed threshold; documents a second."""
    batch, style = pages(folder, n), load_style(STYLE)
    generator: Any = Scripted(model_folder(SETTINGS.model).path)
    limits = style.gates.model_copy(
        update={"tokens": style.gates.tokens and style.gates.tokens.model_copy(update={"low": 41})}
    )
    changed = style.model_copy(update={"gates": limits})
    print(f"\n2. {n:,} pages, {batch.nbytes / n / 1e3:.1f} kB each, style {STYLE}, scripted answers, one process")
    generator.count_prompt(style.messages("Warm."))
    for what, one in (
        ("first run", style),
        ("all cached", style),
        ("all cached", style),
        ("threshold changed", changed),
    ):
        bench = Bench(generator, NO_INSTRUMENTS)
        started = time.perf_counter()
        cache, settled = open_cache(scratch, generator), open_settled(scratch, one, bench)
        made = rephrase_documents(batch, one, bench, cache, settled)
        cache.close()
        settled.close()
        seconds = time.perf_counter() - started
        sent = made.attempts.num_rows - made.attempts.column("n_out").null_count
        print(f"   {what:<18} {n / seconds:>9,.0f} documents/s  {sent / seconds:>9,.0f} answers/s  {seconds:.2f} s")


# ---- 3. the store


def store(pages_folder: Path, folder: Path, n: int = 100_000) -> None:
    """Keep n answers of 1,000 characters of real text one by one, seal them, and find all of them 5,000 at a time."""
    from rephrase.cache import GenerationCache

    generator = {"model": "scripted", "weights": "0", "engine": "benchmark"}
    text = " ".join(pages(pages_folder, 2_300).column("text").to_pylist())
    stride = (len(text) - 1_000) // n
    keys = [document_id("key", str(i)) for i in range(n)]
    cache = GenerationCache(folder, generator=generator)
    started = time.perf_counter()
    for i, key in enumerate(keys):
        cache.store({key: Generation(text[i * stride : i * stride + 1_000], "stop", 300, 250)})
    kept = time.perf_counter() - started
    cache.close()
    sealed = time.perf_counter() - started - kept
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    cache = GenerationCache(folder, generator=generator)
    started = time.perf_counter()
    found = sum(len(cache.find(keys[i : i + 5_000])) for i in range(0, n, 5_000))
    seconds = time.perf_counter() - started
    assert found == n
    print(f"\n3. {n:,} answers of 1,000 characters, cut from the pages {stride} characters apart, so they overlap")
    costs = f"keeping {kept / n * 1e6:.0f} us an answer, sealing {sealed / n * 1e6:.0f} us"
    print(f"   {costs}; finding {found / seconds:,.0f}/s")
    print(f"   {size / n * 1e6 / 1e9:.2f} GB per million")


if __name__ == "__main__":
    main()
