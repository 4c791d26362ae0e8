"""Styles of several steps through the whole stage: cache, gates over many outputs, settled documents, kills."""

import pytest
import yaml

from corpus.documents import check_documents, document_id, documents
from pipelines.recipe import DEMO
from rephrase.course import Bench
from rephrase.gates.instruments import NO_INSTRUMENTS
from rephrase.rephrase import open_cache, open_settled, rephrase_documents
from rephrase.skills.skill_pairs import SkillItem, pair_documents
from rephrase.style import load_style

TABLE = (
    "| ship | year | built at |\n|---|---|---|\n| Argo | 1901 | Leith |\n| Dee | 1912 | Hull |\n| Eel | 1920 | Cork |"
)


def run(folder, generator, style, batch, rollout=0):
    bench = Bench(generator, NO_INSTRUMENTS, seed=7, rollout=rollout)
    cache, settled = open_cache(folder, generator), open_settled(folder, style, bench)
    try:
        return rephrase_documents(batch, style, bench, cache, settled, batch_size=8)
    finally:
        cache.close()
        settled.close()


def pages(n):
    lines = (DEMO.parent / "pages.jsonl").read_text(encoding="utf-8").splitlines()[:n]
    rows = [yaml.safe_load(line) for line in lines]
    return documents(
        [{"id": document_id("web", row["url"]), "text": row["text"], "source": "web", "lang": "en"} for row in rows]
    )


def pairs():
    pool = [SkillItem(id=f"p{i}", question=f"What is {i} over two plus {i}?", skill="fractions") for i in range(9)]
    failed = [SkillItem(id=f"f{i}", question=f"Why {i}?", skill="fractions" if i else "knots") for i in range(6)]
    return pair_documents(failed, pool)


def targets():
    texts = [TABLE.replace("Argo", f"Argo {i}") for i in range(5)] + ["A page of prose that goes on and on. " * 5]
    return documents([{"id": document_id("t", text), "text": text, "source": "web", "lang": "en"} for text in texts])


def answer(prompt):
    """Fixed by the prompt: half of the maps are valid, the solutions agree, instructions are good."""
    if "scope: the steam engine" in prompt:
        n = sum(line.split(".")[0].isdigit() for line in prompt.splitlines())
        half = f"- name: the begin\n  range: [1, {n // 2}]\n- name: the end\n  range: [{n // 2 + 1}, {n}]"
        return f"scope: a page\naspects:\n{half}" if len(prompt) % 2 else "no map at all"
    if "Solve the exercise" in prompt:
        return "We halve the first, add the second, and look at what we have got then. The answer is 12"
    if "names a skill" in prompt:
        return f"Question: Ann has {len(prompt)} pears and gives half of them away. How many does she keep for herself?"
    return f"Write a table in Markdown with {len(prompt)} vessels in rows, and in columns a name, a year and a port."


CASES = {"structure": lambda: pages(12), "skill_synthesis": pairs, "format_instruct": targets}


@pytest.mark.parametrize("name", CASES)
def test_every_document_is_kept_or_dropped_with_a_reason_and_nothing_is_asked_twice(name, tmp_path, scripted):
    style, batch = load_style(name), CASES[name]()
    made = run(tmp_path, generator := scripted(answer), style, batch)
    check_documents(made.documents)
    assert made.outcomes.column("parent_id").to_pylist() == batch.column("id").to_pylist()
    assert made.documents.num_rows > 0
    assert made.documents.num_rows == made.outcomes.column("reason").null_count
    assert {row["source"] for row in made.documents.to_pylist()} == {f"wrap/{name}"}
    steps = set(made.attempts.column("step").to_pylist())
    assert steps > {""}
    assert len(generator.asked) > 0
    again = run(tmp_path, rerun := scripted(answer), style, batch)
    assert (again.documents, again.attempts, again.outcomes) == (made.documents, made.attempts, made.outcomes)
    assert rerun.asked == []


@pytest.mark.parametrize("name", CASES)
def test_a_run_stopped_after_any_answer_resumes_to_the_same_bytes(name, tmp_path, scripted):
    style, batch = load_style(name), CASES[name]()
    whole = run(tmp_path / "whole", generator := scripted(answer), style, batch)
    for stop in sorted({0, 1, len(generator.asked) // 2, len(generator.asked) - 1}):
        broken, second = scripted(answer, stops_after=stop), scripted(answer)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / f"{stop}", broken, style, batch)
        resumed = run(tmp_path / f"{stop}", second, style, batch)
        assert sorted(broken.asked + second.asked) == sorted(generator.asked)
        assert (resumed.documents, resumed.attempts, resumed.outcomes) == (
            whole.documents,
            whole.attempts,
            whole.outcomes,
        )


def test_a_structured_document_is_its_source_with_maps_between(tmp_path, scripted):
    batch = pages(12)
    made = run(tmp_path, scripted(answer), load_style("structure"), batch)
    texts = dict(zip(batch.column("id").to_pylist(), batch.column("text").to_pylist(), strict=True))
    for row in made.documents.to_pylist():
        meta = {item["key"]: item["value"] for item in row["meta"]}
        assert {"taxonomy_path", "mindmap", "n_levels", "valid"} <= set(meta)
        own = [
            one
            for one in made.attempts.to_pylist()
            if one["parent_id"] == row["parent_id"] and not one["step"] and one["chunk_index"] is not None
        ]
        assert row["text"] == "\n\n".join(one["output_text"] for one in own)
        assert "".join(one["source_text"] for one in own).strip() == texts[row["parent_id"]].strip()
        assert all(one["output_text"].endswith(one["source_text"].strip()) for one in own)


def test_a_skill_document_says_what_it_was_made_for(tmp_path, scripted):
    made = run(tmp_path, scripted(answer), load_style("skill_synthesis"), pairs())
    assert made.outcomes.column("reason").to_pylist()[0] == "no_seed_question"
    for row in made.documents.to_pylist():
        meta = {item["key"]: item["value"] for item in row["meta"]}
        assert (meta["skill"], meta["agreed"]) == ("fractions", "3/3")
        assert row["text"].startswith("Question: Ann has")
