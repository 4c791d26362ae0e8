"""Training beside Hugging Face's `Trainer` with `LlamaForCausalLM`, and beside a bare loop written as nanoGPT's is.

Ours is `trainer_hooks.trainer.train` as a user calls it: order, loader, learning rates, guard, metrics. Hugging Face's
is `transformers.Trainer`, with torch.compile and without. All start from the same weights, read the same tokens in the
same order and take the same steps (gradient norm clipped at 1, fused AdamW without decay, constant rate); the first
losses must agree, or nothing is reported. Sides alternate in rounds, each a whole run; a step's time is that from one
step's end to the next, and the first steps of a run are left out.

Run it:  python -m benchmarks.trainer [--threads 2] [--rounds 5] [--steps 10] [--hidden 256 ...] [--precision bf16]
Where a GPU is, 124M and 350M parameters at length 1024 are measured too, with MFU; elsewhere it says that they are not.
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # read when torch loads; on shared cores long spinning crawls

import numpy as np
import pyarrow as pa
import torch

from benchmarks.training.plain_decoder import Batch, PlainDecoder, plain_loop
from corpus.artifacts import InputRef
from corpus.config import validated
from corpus.tokens import DOCS_SCHEMA, read_token_shard, write_token_shard
from curriculum.order import Order, write_order
from trainer_hooks.determinism import matmul_dtype
from trainer_hooks.export import llama_config
from trainer_hooks.loader import OrderedLoader
from trainer_hooks.model import Decoder
from trainer_hooks.model_config import ModelConfig
from trainer_hooks.model_size import flops_per_token, parameter_count
from trainer_hooks.plan import Plan
from trainer_hooks.throughput import peak_flops
from trainer_hooks.trainer import train

Side = Callable[[], tuple[list[float], list[float]]]
RATE, COMPARED, LEFT_OUT, DOCUMENT = 1e-3, 3, 3, 500


@dataclass(frozen=True)
class Work:
    """What every side trains, on what."""

    config: ModelConfig
    order: Order
    arrays: list[Any]
    length: int
    sequences: int
    steps: int
    device: str
    precision: str

    @property
    def dtype(self) -> torch.dtype:
        """The type of the matrix products."""
        return matmul_dtype(self.precision, torch.device(self.device))  # type: ignore[arg-type]

    @property
    def batches(self) -> list[Batch]:
        """The batches of all steps, as our loader reads them."""
        loader = OrderedLoader(self.order, self.arrays, self.length, self.sequences)
        return [loader.batch(number) for number in range(self.steps)]


def main() -> None:
    """Measure all sides on this machine, check that they agree, print a record."""
    options = arguments()
    torch.set_num_threads(options.threads)
    cores = f"{os.cpu_count()} cores {platform.machine()}"
    print(f"machine   {options.threads} threads of {cores}, load {os.getloadavg()[0]:.1f}")
    print(f"versions  Python {platform.python_version()}, torch {torch.__version__}", end=", ")
    print(f"transformers {version('transformers')}, accelerate {version('accelerate')}")
    named = {name: getattr(options, name) for name in ("vocabulary", "hidden", "layers", "heads", "intermediate")}
    compare(ModelConfig(**named, head_size=options.head_size), 256, 16, "cpu", options)
    if not torch.cuda.is_available():
        print("no CUDA device: 124M and 350M parameters on a GPU are not measured here")
        return
    print(f"device    {torch.cuda.get_device_name()}")
    for name, sequences in (("124M", 32), ("350M", 16)):
        config = validated(ModelConfig, {"preset": name, "vocabulary": 50_304}, name)
        compare(config, 1024, sequences, "cuda", options)


def arguments() -> argparse.Namespace:
    """The command's options; the shape's defaults are those of the speed this project holds itself to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = {"threads": 2, "rounds": 5, "steps": 10, "vocabulary": 8192, "hidden": 256, "layers": 4, "heads": 4}
    for name, default in {**numbers, "head-size": 64, "intermediate": 704}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="bf16")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out on every side")
    return parser.parse_args()


def compare(config: ModelConfig, length: int, sequences: int, device: str, options: argparse.Namespace) -> None:
    """Run all sides in turns and print tokens a second with ratios."""
    with tempfile.TemporaryDirectory() as name:
        folder, steps = Path(name), options.steps + LEFT_OUT
        order, arrays = make_order(folder, steps * length * sequences + 1, config.vocabulary)
        work = Work(config, order, arrays, length, sequences, steps, device, options.precision)
        print(
            f"model     {parameter_count(config):,} parameters ({config.layers} x {config.hidden}), vocabulary ", end=""
        )
        print(f"{config.vocabulary:,}, batch {sequences} x {length}, {str(work.dtype).removeprefix('torch.')}")
        sides = sides_of(work, folder, compiled=not options.no_compile)
        first = {label: side()[0][:COMPARED] for label, side in sides.items()}  # warms compilers up
        apart = max(abs(a - b) for losses in first.values() for a, b in zip(losses, first["ours"], strict=True))
        if apart > (1e-3 if work.dtype == torch.float32 else 3e-2):
            raise SystemExit(f"the losses differ by {apart:.2g}: {first}")
        rates: dict[str, list[float]] = {label: [] for label in sides}
        for _ in range(options.rounds):
            for label, side in sides.items():
                seconds = [b - a for a, b in pairwise(side()[1])][LEFT_OUT - 1 :]
                rates[label].append(length * sequences / median(seconds))
    report(work, apart, first["ours"][0], rates)


def report(work: Work, apart: float, start: float, rates: dict[str, list[float]]) -> None:
    """Print medians of the rounds, their range, how ours relates, and MFU where the device's peak is known."""
    print(
        f"checked   the first {COMPARED} losses of all sides differ by at most {apart:.1e} ({start:.4f} at the start)"
    )
    peak = peak_flops(torch.device(work.device))
    ours = median(rates["ours"])
    for label, found in rates.items():
        middle = median(found)
        mfu = f", MFU {middle * flops_per_token(work.config, work.length) / peak:.1%}" if peak else ""
        ratio = "" if label == "ours" else f", ours is {ours / middle:.2f} times that"
        print(f"  {label:<28}{middle:>10,.0f} tokens/s ({min(found):,.0f} to {max(found):,.0f}){mfu}{ratio}")


def sides_of(work: Work, folder: Path, compiled: bool) -> dict[str, Side]:
    """Every side by its label; a call is one run from the same weights, giving losses and times of its steps."""
    weights = {name: value.detach().clone() for name, value in Decoder(work.config, seed=0).state_dict().items()}
    sides = {
        "ours": lambda: our_run(work, folder, compiled),
        "plain loop": lambda: plain_loop(
            PlainDecoder(work.config, weights, work.length).to(work.device), work.batches, RATE, work.dtype, compiled
        ),
        "transformers": lambda: their_run(work, weights, folder, compiled=False),
    }
    if compiled:
        sides["transformers, torch_compile"] = lambda: their_run(work, weights, folder, compiled=True)
    return sides


def our_run(work: Work, folder: Path, compiled: bool) -> tuple[list[float], list[float]]:
    """A run of `train` in a fresh folder."""
    data = {
        "tokens": work.steps * work.length * work.sequences, "sequence_length": work.length,
        "batch_sequences": work.sequences, "peak_lr": RATE, "phases": [{"stable": "100%"}], "eval_every": "100%",
        "optimizer": {"kind": "adamw", "weight_decay": 0.0}, "checkpoint_every": "100%", "compile": compiled,
        "precision": work.precision, "threads": torch.get_num_threads(), "deterministic": work.device == "cpu",
    }  # fmt: skip
    losses, times = [], []

    def on_step(progress: Any) -> None:
        losses.append(progress.loss)
        times.append(time.perf_counter())

    with tempfile.TemporaryDirectory(dir=folder) as run:
        plan = validated(Plan, data, "benchmark")
        train(work.order, work.arrays, {}, work.config, plan, Path(run), device=work.device, on_step=on_step)
    return losses, times


def their_run(
    work: Work, weights: dict[str, torch.Tensor], folder: Path, compiled: bool
) -> tuple[list[float], list[float]]:
    """A run of transformers' Trainer over the same batches, in order."""
    from transformers import LlamaConfig, LlamaForCausalLM, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    model = LlamaForCausalLM(LlamaConfig(**llama_config(work.config, eos_id=0)))
    model.load_state_dict(weights)
    rows = [
        {"input_ids": ids, "labels": ids, "shift_labels": targets}
        for batch in work.batches
        for ids, targets in zip(*batch, strict=True)
    ]
    losses: list[float] = []
    times: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if work.device == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter())

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
            if "loss" in logs:
                losses.append(float(logs["loss"]))

    settings = TrainingArguments(
        output_dir=str(folder / "peer"), per_device_train_batch_size=work.sequences, max_steps=work.steps,
        learning_rate=RATE, lr_scheduler_type="constant", weight_decay=0.0, adam_beta2=0.95, max_grad_norm=1.0,
        optim="adamw_torch_fused", bf16=work.dtype == torch.bfloat16, use_cpu=work.device == "cpu",
        torch_compile=compiled, remove_unused_columns=False, train_sampling_strategy="sequential", logging_steps=1,
        save_strategy="no", report_to="none", disable_tqdm=True, dataloader_pin_memory=work.device == "cuda",
    )  # fmt: skip
    trainer = Trainer(model=model, args=settings, train_dataset=rows, callbacks=[Clock()])
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return losses, times


def make_order(folder: Path, tokens: int, vocabulary: int) -> tuple[Order, list[Any]]:
    """Random tokens as one shard of documents, and the order that reads them as they lie."""
    n = -(-tokens // DOCUMENT)
    ids = np.random.default_rng(0).integers(1, vocabulary, n * DOCUMENT, dtype=np.uint16)
    starts, lengths, source = np.arange(n) * DOCUMENT, np.full(n, DOCUMENT), ["web"] * n
    docs = {
        "id": [f"{i:032d}" for i in range(n)],
        "start": starts,
        "length": lengths,
        "source": source,
        "n_bytes": lengths,
    }
    shard = "tokens/web-00000.npy"
    write_token_shard(folder / shard, ids, pa.table(docs, schema=DOCS_SCHEMA))
    visits = {
        "shard": np.zeros(n, np.int64), "doc": np.arange(n), "start": starts, "length": lengths,
        "visit": np.zeros(n, np.int64), "source": source, "phase": ["all"] * n, "rule": ["benchmark"] * n,
        "score": np.zeros(n, np.float32),
    }  # fmt: skip
    made = InputRef(name="tokens", fingerprint="benchmark")
    write_order(
        folder / "order",
        pa.table(visits),
        name="order",
        fingerprint="benchmark",
        config={},
        inputs=[made],
        shards=[shard],
    )
    return Order.open(folder / "order"), [read_token_shard(folder / shard)]


if __name__ == "__main__":
    main()
