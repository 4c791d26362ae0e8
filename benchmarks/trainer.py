"""Training steps beside plain PyTorch: transformers' Llama of the same shape, in the loop a Trainer would run.

Both start from the same weights, read the same tokens and take the same steps (cross-entropy, gradient norm
clipped at 1, AdamW); their losses must agree on the first steps, or nothing is reported. Rounds of both sides
alternate. Rates are given by the clock and by the processor's seconds, because a busy machine bends the clock.
On a processor that multiplies bfloat16 itself, bfloat16 autocast is measured too (`--bf16` forces it).

Run it:  python benchmarks/trainer.py [--threads 2] [--rounds 3] [--steps 3] [--vocabulary 4096] [--bf16]
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # read when torch loads; on shared cores long spinning crawls

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from corpus.config import validated
from trainer_hooks.determinism import matmul_dtype
from trainer_hooks.export import llama_config
from trainer_hooks.model import Decoder, count_parameters
from trainer_hooks.model_config import ModelConfig
from trainer_hooks.plan import Plan
from trainer_hooks.trainer import make_optimizer

Step = Callable[[int], float]
SEQUENCE, SEQUENCES, RATE, COMPARED = 256, 16, 1e-3, 3


def main() -> None:
    """Measure both sides, check that they agree, print a record."""
    options = arguments()
    torch.set_num_threads(options.threads)
    config = ModelConfig(
        vocabulary=options.vocabulary,
        hidden=options.hidden,
        layers=options.layers,
        heads=options.heads,
        head_size=options.head_size,
        intermediate=options.intermediate,
    )
    native = matmul_dtype("auto", torch.device("cpu")) == torch.bfloat16
    load, parameters = os.getloadavg()[0], count_parameters(Decoder(config))
    print(f"machine   {options.threads} threads of {os.cpu_count()} cores {platform.machine()}, load {load:.0f}")
    print(f"versions  Python {platform.python_version()}, torch {torch.__version__}", end=", ")
    print(f"transformers {version('transformers')}")
    print(f"model     {parameters:,} parameters, vocabulary {config.vocabulary}, batch {SEQUENCES} x {SEQUENCE}")
    for dtype in [torch.float32, *[torch.bfloat16] * (native or options.bf16)]:
        compare(config, dtype, options.rounds, options.steps)


def arguments() -> argparse.Namespace:
    """The command's options; the shape's defaults are those of the demo's larger model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = {"threads": 2, "rounds": 3, "steps": 3, "vocabulary": 4096, "hidden": 128, "layers": 4, "heads": 2}
    for name, default in {**numbers, "head-size": 64, "intermediate": 384}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--bf16", action="store_true", help="measure bfloat16 autocast on any processor")
    return parser.parse_args()


def compare(config: ModelConfig, dtype: torch.dtype, rounds: int, steps: int) -> None:
    """Run both sides in turns and print tokens a second, best and worst round, and the ratio of the medians."""
    generator = torch.Generator().manual_seed(0)
    batches = torch.randint(0, config.vocabulary, (COMPARED, SEQUENCES, SEQUENCE + 1), generator=generator)
    sides = {"ours": our_side(config, batches, dtype), "peer": peer_side(config, batches, dtype)}
    losses = {name: [step(i) for i in range(COMPARED)] for name, step in sides.items()}
    apart = max(abs(a - b) for a, b in zip(losses["ours"], losses["peer"], strict=True))
    if apart > (1e-3 if dtype == torch.float32 else 3e-2):
        raise SystemExit(f"the losses differ by {apart:.2g}: {losses}")
    rates: dict[str, dict[str, list[float]]] = {name: {"clock": [], "processor": []} for name in sides}
    for _ in range(rounds):
        for name, step in sides.items():
            clock, processor = time.perf_counter(), time.process_time()
            for i in range(steps):
                step(i % COMPARED)
            tokens = steps * SEQUENCES * SEQUENCE
            rates[name]["clock"].append(tokens / (time.perf_counter() - clock))
            rates[name]["processor"].append(tokens / (time.process_time() - processor))
    report(str(dtype).removeprefix("torch."), losses, apart, rates)


def report(dtype: str, losses: dict[str, list[float]], apart: float, rates: dict[str, dict[str, list[float]]]) -> None:
    """Print one precision's record."""
    print(f"{dtype}: the first {COMPARED} losses differ by at most {apart:.1e} ({losses['ours'][0]:.4f} at the start)")
    for unit, label in (("clock", "tokens/s"), ("processor", "tokens per processor second")):
        middle = {name: sorted(side[unit])[len(side[unit]) // 2] for name, side in rates.items()}
        for name, side in rates.items():
            print(f"  {name}  {middle[name]:>8,.0f} {label} ({min(side[unit]):,.0f} to {max(side[unit]):,.0f})")
        print(f"  ratio {middle['ours'] / middle['peer']:.2f}")


def our_side(config: ModelConfig, batches: torch.Tensor, dtype: torch.dtype) -> Step:
    """The bundled model, loss and optimizer."""
    model = Decoder(config, seed=0)
    plan = validated(Plan, {"tokens": "1M", "peak_lr": RATE, "phases": [{"stable": "100%"}]}, "benchmark")
    return stepper(model, make_optimizer(model, plan), lambda b: model.loss(b[:, :-1], b[:, 1:]), batches, dtype)


def peer_side(config: ModelConfig, batches: torch.Tensor, dtype: torch.dtype) -> Step:
    """Transformers' model with its own loss and torch's fused AdamW, from the same weights."""
    model = LlamaForCausalLM(LlamaConfig(**llama_config(config, eos_id=0)))
    model.load_state_dict(Decoder(config, seed=0).state_dict())
    named = list(model.named_parameters())
    decayed = [p for name, p in named if p.ndim >= 2 and "embed" not in name]
    others = [p for name, p in named if p.ndim < 2 or "embed" in name]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95), fused=True)

    def loss(batch: torch.Tensor) -> torch.Tensor:
        inputs = batch[:, :-1]
        value: torch.Tensor = model(input_ids=inputs, labels=inputs, shift_labels=batch[:, 1:].contiguous()).loss
        return value

    return stepper(model, optimizer, loss, batches, dtype)


def stepper(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_of: Callable[[torch.Tensor], torch.Tensor],
    batches: torch.Tensor,
    dtype: torch.dtype,
) -> Step:
    """A whole training step on one of the batches, returning its loss."""

    def step(index: int) -> float:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = loss_of(batches[index])
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


if __name__ == "__main__":
    main()
