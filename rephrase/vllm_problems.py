"""What went wrong with a vLLM engine, and what to change: from its exceptions and its log to an error that teaches.

vLLM says what failed in many ways, and of an engine with several devices only the log says it. The known failures are
recognised by what the message and the end of the log say; of an unknown one the message and the place of the log are
given.
"""

import re
from collections.abc import Callable
from pathlib import Path

from corpus.errors import EnvironmentProblem
from rephrase.vllm_settings import VllmSettings

TAIL_BYTES = 20_000

_Fix = Callable[[VllmSettings], str]


def _less_memory(settings: VllmSettings) -> str:
    more = "more devices by tensor_parallel, or a smaller or quantised model"
    return f"lower max_context, max_batched_tokens or max_concurrent (gpu_memory is {settings.gpu_memory}); or {more}"


def _shorter(settings: VllmSettings) -> str:
    return "lower max_context, or give the attention states more room: gpu_memory on a GPU, kv_cache_gib on a CPU"


def _other_quantization(settings: VllmSettings) -> str:
    return f"leave quantization out (it is {settings.quantization}), or take one that this vLLM and device can do"


def _install_suffix(settings: VllmSettings) -> str:
    return "install arctic-inference, or set speculation.method: ngram"


_KNOWN: tuple[tuple[str, re.Pattern[str], _Fix], ...] = (
    (
        "the context does not fit the memory for attention states",
        re.compile(r"larger than the (available KV cache|maximum number of tokens)|max seq len .* KV cache", re.I),
        _shorter,
    ),
    (
        "the model does not fit into memory",
        re.compile(
            r"out of memory|OutOfMemory|can't allocate memory|MemoryError|Free memory on device"
            r"|No available memory for the cache|Available memory on node|not enough memory",
            re.I,
        ),
        _less_memory,
    ),
    ("suffix decoding is not installed", re.compile(r"Arctic Inference", re.I), _install_suffix),
    (
        "the engine cannot quantise this way",
        re.compile(
            r"unknown quantization|quantization is (currently )?not supported|does not match the quantization",
            re.I,
        ),
        _other_quantization,
    ),
)


def start_problem(error: BaseException, settings: VllmSettings, log: Path, *, since: int) -> EnvironmentProblem:
    """Why an engine did not start; `since`: the length of its log before, in bytes."""
    found = _sentence(error)
    for said in (found, _tail(log, since)):
        for what, pattern, fix in _KNOWN:
            if pattern.search(said):
                return EnvironmentProblem(
                    f"vLLM did not start with {settings.model}: {what}",
                    found=found, where=str(log), fix=fix(settings),
                )  # fmt: skip
    return EnvironmentProblem(
        f"vLLM did not start with {settings.model}",
        found=found,
        where=str(log),
        fix="read the end of that log; settings nearer to the defaults start more often",
    )


def death_problem(error: BaseException, settings: VllmSettings, log: Path) -> EnvironmentProblem:
    """Why an engine died while it generated. Answers that it gave before are not lost by it."""
    memory = next(pattern for what, pattern, _ in _KNOWN if "into memory" in what)
    found = _sentence(error)
    out_of_memory = memory.search(found)
    return EnvironmentProblem(
        f"the engine of {settings.model} died while it generated" + (": out of memory" if out_of_memory else ""),
        found=found,
        where=str(log),
        fix=_less_memory(settings)
        if out_of_memory
        else "run the same command again, which asks only for what is missing; if it dies again, read that log",
    )


def _sentence(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _tail(log: Path, since: int) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(since, log.stat().st_size - TAIL_BYTES))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
