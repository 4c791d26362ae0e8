"""Generate with vLLM in this process; the only file that imports it.

The engine starts with the first request: counting tokens, an identity, and a run whose answers are all stored cost no
start. Answers come as they finish. A call is made to repeat itself: requests enter in the caller's order, prefixes
that were computed for earlier calls are forgotten, and the random state is set. Then the same call gives the same
texts in a fresh process, whatever was generated before. Per-request seeds are not used: on CPU they crash vLLM 0.32
(a CPU generator has no offset).

On a CPU without bfloat16 instructions float32 is several times faster, so `dtype: auto` looks at the processor; the
dtype taken is part of the identity. Loading prints to file descriptors; they go to a log file meanwhile.
"""

import gc
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

from corpus.config import nearest
from corpus.errors import ConfigError, GradatimError
from rephrase.chat_tokenizer import ChatTokenizer, chat_template_hash
from rephrase.context_length import longest_context
from rephrase.engine_slots import Slot, claim_slot, devices_of, release_slot, slots_folder
from rephrase.generator import Answer, Generation, GenerationRequest, Unanswered
from rephrase.model_tokens import ModelTokens
from rephrase.packaged_models import ModelFolder, model_folder
from rephrase.vllm_problems import death_problem, start_problem
from rephrase.vllm_settings import (
    VllmSettings,
    arithmetic,
    engine_arguments,
    engine_environment,
    has_gpu,
    vllm_version,
)

_IN_PROCESS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # starts in seconds instead of a quarter of a minute, and ends cleanly
    "VLLM_LOGGING_LEVEL": "ERROR",
}


class VllmGenerator(ModelTokens):
    """A generator (see rephrase.generator) over vLLM's offline engine.

    Args:
        settings: see VllmSettings. With `data_parallel` above 1 this is one of that many engines, and takes its slot
            when it starts.
        log: file that takes what is printed while the model is prepared and loaded.

    Raises EnvironmentProblem when vLLM or the model's package is missing, ConfigError for a model that cannot be used.
    """

    def __init__(self, settings: VllmSettings, *, log: Path) -> None:
        vllm_version()  # raises where there is none
        self._settings, self._log = settings, log
        # vLLM and torch read these once, when they are first imported: a generator wants a fresh process
        os.environ.update(engine_environment(settings) | _IN_PROCESS)
        self._folder = model_folder(settings.model)
        self._identity = _identity(settings, self._folder)
        self._max_context = longest_context(self._folder.path, wanted=settings.max_context)
        self._tokenizer = ChatTokenizer(self._folder.path, name=self._folder.name)
        self._engine: Any = None
        self._slot: Slot | None = None
        self._closed = False
        self._calls = 0

    def generate(self, requests: Sequence[GenerationRequest], *, seed: int) -> Iterator[tuple[int, Answer]]:
        """Answer requests as they finish; see Generator, which says what is refused. One call at a time.

        Requests still under way when the iterator is closed are given up.
        """
        asked = [self._asked(request) for request in requests]
        if not asked:
            return
        engine = self._started().llm_engine
        self._calls += 1
        under_way = {f"{self._calls}-{place}": place for place in range(len(asked))}
        try:
            self._begin(requests, asked, list(under_way), seed)
            while under_way:
                for output in engine.step():
                    if output.finished:
                        place = under_way.pop(output.request_id)
                        yield place, _answer(output, asked[place][1])
        except _deaths() as error:
            self._free()
            raise death_problem(error, self._settings, self._log) from error
        finally:
            if self._engine is not None and under_way:
                engine.abort_request(list(under_way))

    def close(self) -> None:
        """Free the model's memory; the generator answers nothing more."""
        self._free()

    def _asked(self, request: GenerationRequest) -> tuple[list[int], dict[str, int]]:
        """A request's prompt, and the token of each choice. Raises ConfigError for what cannot be asked."""
        chat = (request.messages, request.opening)
        prompt, tokens = (
            self._tokenizer.choices(*chat, request.choices) if request.choices else (self._tokenizer.prompt(*chat), {})
        )
        if len(prompt) + request.max_tokens > self._max_context:
            raise ConfigError(
                "a request is longer than the generator's context",
                expected=f"at most {self._max_context:,} tokens",
                found=f"{len(prompt):,} of prompt and up to {request.max_tokens:,} of output",
                fix="shorten it, or raise max_context if the model allows more",
            )
        if self._settings.speculation and request.decoding.min_p:
            raise ConfigError(
                "vLLM cannot draft ahead with min_p",
                found=f"speculation, and min_p {request.decoding.min_p}",
                fix="leave speculation out, or use top_p in place of min_p",
            )
        return prompt, tokens

    def _begin(
        self,
        requests: Sequence[GenerationRequest],
        asked: Sequence[tuple[list[int], dict[str, int]]],
        names: Sequence[str],
        seed: int,
    ) -> None:
        """Hand all requests of a call to the engine, which is then as it was after its start."""
        engine = self._engine.llm_engine
        assert not engine.has_unfinished_requests(), "another call is not finished"
        self._engine.reset_prefix_cache()
        self._engine.collective_rpc(_set_random_state, args=(seed % 2**63,))
        for name, request, (prompt, choices) in zip(names, requests, asked, strict=True):
            engine.add_request(name, {"prompt_token_ids": prompt}, _sampling(request, choices))

    def _started(self) -> Any:
        """The engine, started by the first call. Raises EnvironmentProblem when it does not start."""
        assert not self._closed, "this generator was closed"
        if self._engine is not None:
            return self._engine
        settings = self._settings
        if settings.data_parallel > 1:
            self._slot = claim_slot(slots_folder(), settings.data_parallel)
            if has_gpu():
                os.environ["CUDA_VISIBLE_DEVICES"] = devices_of(self._slot.number, settings.tensor_parallel)
        since = self._log.stat().st_size if self._log.exists() else 0
        try:
            with _quiet(self._log):
                self._engine = _start(settings, self._folder.path, self._max_context, self._log)
        except GradatimError:
            raise
        except (RuntimeError, ValueError, OSError, MemoryError, ImportError) as error:
            raise start_problem(error, settings, self._log, since=since) from error
        return self._engine

    def _free(self) -> None:
        engine, self._engine, self._closed = self._engine, None, True
        if engine is not None:
            import torch

            engine.llm_engine.engine_core.shutdown()
            del engine
            gc.collect()
            if torch.distributed.is_available() and torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
        if self._slot is not None:
            release_slot(self._slot)
            self._slot = None


def vllm_identity(settings: VllmSettings) -> dict[str, str]:
    """The identity that a VllmGenerator with these settings has, without its engine or tokenizer."""
    return _identity(settings, model_folder(settings.model))


def _identity(settings: VllmSettings, folder: ModelFolder) -> dict[str, str]:
    return {
        "model": folder.name,
        "weights": folder.weights,
        "chat_template": chat_template_hash(folder.path),
        "dtype": arithmetic(settings),
        "engine": "vllm",
        "engine_version": vllm_version(),
    }


def _start(settings: VllmSettings, path: Path, max_context: int, log: Path) -> Any:
    import torch
    from vllm import LLM

    _check_build(settings)
    if not has_gpu():
        torch.set_num_threads(settings.engine_threads)  # before the engine: vLLM refuses it afterwards
    engine = LLM(str(path), disable_log_stats=True, **engine_arguments(settings, max_context=max_context))
    logging.getLogger("vllm").handlers[:] = [logging.FileHandler(log, encoding="utf-8")]  # what it has to say later
    return engine


def _check_build(settings: VllmSettings) -> None:
    """Raise ConfigError for a quantisation or a way of drafting that the installed vLLM does not have."""
    from vllm.config.speculative import SpeculativeMethod
    from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS

    if settings.quantization and settings.quantization not in QUANTIZATION_METHODS:
        raise ConfigError(
            f"vLLM {vllm_version()} has no quantization {settings.quantization!r}"
            f"{nearest(settings.quantization, QUANTIZATION_METHODS)}"
        )
    if settings.speculation is None:
        return
    method = settings.speculation.method
    known = [name for part in get_args(SpeculativeMethod) for name in (get_args(part) or (part,))]
    if method not in known or (method == "suffix" and find_spec("arctic_inference") is None):
        raise ConfigError(
            f"vLLM {vllm_version()} cannot draft by {method!r} here",
            expected="the package arctic-inference" if method in known else f"one of {', '.join(map(str, known))}",
            fix=f"{sys.executable} -m pip install arctic-inference, or speculation.method: ngram",
        )


def _set_random_state(worker: Any, seed: int) -> None:
    """Run by each worker of the engine, which may be a process of its own."""
    import torch

    torch.manual_seed(seed)


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


def _answer(answer: Any, choices: Mapping[str, int]) -> Answer:
    output = answer.outputs[0]
    if output.finish_reason not in ("stop", "length"):
        return Unanswered("server_error", f"vLLM ended it by {output.finish_reason!r}")
    likely = {choice: float(output.logprobs[0][token].logprob) for choice, token in choices.items()} or None
    return Generation(output.text, output.finish_reason, len(answer.prompt_token_ids), len(output.token_ids), likely)


def _deaths() -> tuple[type[BaseException], ...]:
    """What a step raises when the engine cannot go on. Asked only after a start, so vLLM is loaded."""
    from vllm.exceptions import VLLMServerError

    return (RuntimeError, MemoryError, OSError, VLLMServerError)


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
