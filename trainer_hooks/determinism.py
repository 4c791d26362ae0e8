"""The settings under which two equal training runs are equal bit by bit: algorithms, threads, matmul type.

Sums on a CPU depend on the number of threads and on the matmul type, so both are part of a run's identity.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from trainer_hooks.plan import Precision


@contextmanager
def reproducible(threads: int, deterministic: bool = True) -> Iterator[None]:
    """Deterministic algorithms and a fixed number of CPU threads inside the block; the old settings afterwards.

    With `deterministic` false only the threads are fixed; sums on a GPU may then differ from run to run.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    settings: Any = torch.utils.deterministic  # a module whose attributes are properties
    before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads(), settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(deterministic)
    torch.set_num_threads(threads)
    settings.fill_uninitialized_memory = False  # nothing here reads memory before writing it
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.set_num_threads(before[1])
        settings.fill_uninitialized_memory = before[2]


def matmul_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The type of matrix products: `auto` is bfloat16 where the hardware multiplies it natively, else float32.

    On a CPU without AVX-512 BF16 or AMX, bfloat16 products are several times slower than float32 ones.
    """
    if precision != "auto":
        return torch.bfloat16 if precision == "bf16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    able = torch.cpu.get_capabilities()
    return torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") or able.get("amx_tile") else torch.float32
