"""Counts and prompts are those of transformers, and no text inside a message is a control token."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.errors import ConfigError
from corpus.fingerprints import fingerprint
from rephrase.chat_tokenizer import ChatTokenizer, chat_template_hash, template_of
from rephrase.generator import Message

pytestmark = pytest.mark.skipif(
    not all(find_spec(module) for module in ("transformers", "tokenizers")), reason="needs the package transformers"
)

TEMPLATE = (
    "{% for turn in messages %}{% if turn.role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    "<|turn|>{{ turn.role }}\n{{ turn.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% if not enable_thinking %}<think></think>{% endif %}{% endif %}"
)
CONTROL = ["<|turn|>", "<|end|>", "<|unused|>", "<think>", "</think>"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small model's tokenizer: words and digits, three special tokens, and added ones that are not special."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["[UNK]", *"0123456789", "a", "b", "user", "assistant", "Points", ":", "<", ">", "|", "turn", "table", "10"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in CONTROL[:3]])
    tokenizer.add_tokens([AddedToken(name) for name in (*CONTROL[3:], "<table>", "  ")])
    path = tmp_path_factory.mktemp("model")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=TEMPLATE).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder):
    return ChatTokenizer(folder, name="tiny")


@pytest.fixture(scope="module")
def reference(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


texts = st.lists(st.sampled_from([*CONTROL, "<table>", "a", "b", " ", "\n", "<", "|", "turn", ">", "<|", "|>"])).map(
    "".join
)


@given(st.lists(texts, max_size=4))
def test_counts_are_those_of_transformers(tokenizer, reference, many):
    expected = [len(reference.encode(text, add_special_tokens=False)) for text in many]
    assert [tokenizer.count(text) for text in many] == expected
    assert tokenizer.count_many(many) == expected


@given(texts)
def test_no_message_holds_a_control_token(tokenizer, reference, text):
    whole = tokenizer.prompt([Message("user", text)])
    frame = tokenizer.prompt([Message("user", "")])
    control = set(reference.convert_tokens_to_ids(CONTROL))
    assert [token for token in whole if token in control] == [token for token in frame if token in control]


def test_disarming_leaves_other_text_and_added_tokens_alone(tokenizer):
    assert tokenizer.disarmed("<table> a  b <|x|>") == "<table> a  b <|x|>"
    assert tokenizer.disarmed("a<|end|>b</think>") == "a< |end|>b< /think>"


def test_a_prompt_is_the_template_with_the_opening_and_no_thoughts(tokenizer, reference):
    ids = tokenizer.prompt([Message("user", "a")], "Points : ")
    assert ids == reference.encode("<|turn|>user\na<|end|>\n<|turn|>assistant\n<think></think>Points : ")


def test_choices_are_single_tokens_after_the_opening(tokenizer, reference):
    chat = [Message("user", "a")]
    prompt, tokens = tokenizer.choices(chat, "Points: ", ["0", "5", "10"])
    assert prompt == tokenizer.prompt(chat, "Points: ")
    assert tokens == {name: reference.convert_tokens_to_ids(name) for name in ("0", "5", "10")}
    for wrong in (["0", "a b"], ["0", "zebra", "lion"], ["0", "0"]):
        with pytest.raises(ConfigError, match="single tokens of tiny"):
            tokenizer.choices(chat, "Points: ", wrong)


def test_a_template_that_refuses_a_turn_says_what_to_change(tokenizer):
    with pytest.raises(ConfigError, match=r"(?s)tiny refuses this chat.*no system turn.*leave `system` empty"):
        tokenizer.prompt([Message("system", "x"), Message("user", "a")])


def test_the_template_is_read_without_transformers_and_equals_its_reading(folder, reference, tmp_path):
    assert template_of(folder) == reference.chat_template
    named = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": TEMPLATE}]
    for held in (TEMPLATE, named):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": held}))
        assert chat_template_hash(tmp_path) == fingerprint(TEMPLATE) == chat_template_hash(folder)
    code = (
        "import sys, pathlib\nfrom rephrase.chat_tokenizer import *\n"
        f"chat_template_hash(pathlib.Path({str(folder)!r}))\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'tokenizers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_model_without_a_template_or_a_tokenizer_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="no chat template"):
        ChatTokenizer(tmp_path).count("a")
    (tmp_path / "chat_template.jinja").write_text(TEMPLATE)
    with pytest.raises(ConfigError, match=r"tokenizer of .* cannot be read"):
        ChatTokenizer(tmp_path).count("a")
