"""The audit page and the data card: what they count, what they show, what they withstand, and how large they get."""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_reader import Page
from report_workspace import HOSTILE, PAGES, SHARD, artifact, make_rephrased, make_workspace

from corpus.artifacts import Artifact
from corpus.documents import document_id, documents
from corpus.errors import ArtifactError
from corpus.events import EVENTS, log_event
from corpus.fingerprints import fingerprint
from corpus.shards import read_table, write_table
from pipelines.commands.audit import audit_command
from pipelines.report import rephrasing_samples, rephrasing_scores
from pipelines.report.audit_page import audit_folder, read_audit, render, write_audit
from pipelines.report.rephrasing_attempts import in_order, read_attempts
from pipelines.report.rephrasing_cost import cost_of
from pipelines.report.rephrasing_gates import gate_rows
from pipelines.report.word_diff import word_diff
from pipelines.report.workspace import Workspace
from raters.base import sidecar_rows
from raters.signals import NaturalSignals
from rephrase.attempts import ATTEMPT_SCHEMA
from rephrase.fidelity import words
from rephrase.generator import Generation, Unanswered

SECTIONS = ("gates", "collapse", "change", "buckets", "scores", "cost", "samples")


def answer(text: str, finish: str = "stop") -> Generation:
    return Generation(text, finish, 200, 150)  # type: ignore[arg-type]


def reworded(source: str) -> str:
    """The first words of a source and then the others in another order: most gates let it pass."""
    said = words(source)
    return " ".join([*said[:30], "which", "means", *reversed(said[20:])]) + "."


def page_rows(n: int) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in PAGES.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in found if row["text"] and len(row["text"]) > 900][:n]
    return [
        {"id": document_id("web", row["url"]), "source": "web", "url": row["url"], "text": row["text"]} for row in rows
    ]


def audited(root: Path, **given: Any) -> tuple[str, str]:
    """The page and the card of the workspace's rephrasings."""
    workspace = Workspace(root)
    page, card = write_audit(workspace, read_audit(workspace.artifacts["rephrased"]), **given)
    return page.read_text(encoding="utf-8"), card.read_text(encoding="utf-8")


def text_of(html: str) -> str:
    page = Page(html)
    assert not page.open
    return " ".join(page.text.split())


def rejoined(rows: Sequence[dict[str, Any]], folder: Path) -> None:
    """Overwrite the attempts of an artifact under construction with these rows."""
    write_table(folder / "attempts" / "a.parquet", pa.Table.from_pylist(list(rows), ATTEMPT_SCHEMA))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("audit") / "demo", pages=90, arms=())


@pytest.fixture(scope="module")
def html(workspace: Path) -> str:
    return audited(workspace)[0]


def test_every_section_is_there_and_the_page_runs_and_fetches_nothing(html: str, workspace: Path) -> None:
    page = Page(html)
    assert not page.open
    assert tuple(attrs["id"] for tag, attrs in page.tags if tag == "section") == SECTIONS
    assert not {tag for tag, _ in page.tags} & {
        "script",
        "img",
        "iframe",
        "object",
        "link",
        "base",
        "form",
        "svg:image",
    }
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    links = [href for href in page.attributes("href") if not href.startswith("#")]
    folder = audit_folder(workspace, Workspace(workspace).artifacts["rephrased"])
    assert links
    assert all((folder / link).is_file() for link in links)
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))


def test_hostile_sources_and_outputs_are_shown_as_text(tmp_path: Path) -> None:
    hostile = [(url, f"{text} a long page about pwned things by Eve in 1999. " * 8) for url, text in HOSTILE]
    rows = [{"id": document_id("web", url), "text": text, "url": url} for url, text in hostile]
    ending = " <script>alert(1)</script> In 2031 Mallory said `x` | y."
    answers = [[answer(text + ending)] for _, text in hostile]
    clean = page_rows(4)
    answers += [[answer(reworded(row["text"][:900]))] for row in clean]
    make_rephrased(tmp_path, [*rows, *clean], answers, meta={"license": "`|<b>free</b>"})
    html, card = audited(tmp_path)
    page = Page(html)
    assert "<script>document.title='pwned'</script>" in page.text
    assert "{{ 7 * 7 }} {% raw %}" in page.text
    assert not {tag for tag, _ in page.tags} & {"script", "img", "iframe", "form", "base"}
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert not [href for href in page.attributes("href") if href.startswith(("javascript:", "data:", "http", "//"))]
    assert "\u202e" not in html
    assert "`'¦<b>free</b>`" in card  # inside code, where nothing is markup
    assert "<" not in re.sub(r"`[^`\n]*`", "", card)


def test_the_gates_add_up_for_each_style_and_for_all(tmp_path: Path) -> None:
    rows = page_rows(20)
    answers: list[list[Any]] = [[answer(reworded(row["text"][:900]))] for row in rows]
    answers[0] = [Unanswered("timeout")]
    answers[1] = [Unanswered("poison")]
    answers[2] = [answer("cut", "length"), answer(reworded(rows[2]["text"][:900]))]
    answers[3] = [answer("I'm sorry, I cannot do that.")]
    attempts = read_attempts(make_rephrased(tmp_path, rows, answers))
    assert attempts is not None
    counted = gate_rows(attempts, attempts.counted)
    assert counted[0]["tried"] == 18  # two were never answered
    for before, after in pairwise(counted):
        assert after["tried"] == before["tried"] - before["stopped"]
    assert counted[-1]["tried"] - counted[-1]["stopped"] == attempts.kept.sum()
    text = text_of(audited(tmp_path)[0])
    assert "1 chunk was asked for again; 1 of them passed in the end" in text
    assert "Tries that were repeated failed at “finished” (1)" in text
    assert "no answer in time" in text
    assert "2 got no answer" in text
    assert "20 chunks sent, of 20 documents" in text


@pytest.mark.parametrize("n", [0, 1])
def test_an_artifact_with_nothing_or_one_attempt_is_audited(tmp_path: Path, n: int) -> None:
    rows = page_rows(n)
    make_rephrased(tmp_path, rows, [[answer(reworded(row["text"][:900]))] for row in rows])
    html, card = audited(tmp_path)
    text = text_of(html)
    if n:
        assert "1 of 1 chunk" in text
        assert "Too few outputs to say: 1 output" in text
        assert "| documents | 1 |" in card
    else:
        assert "No document was sent to the model." in text
        assert "Everything: no document was sent to the model." in card


def test_a_set_of_which_everything_was_rejected_is_audited(tmp_path: Path) -> None:
    rows = page_rows(12)
    make_rephrased(tmp_path, rows, [[answer("I'm sorry, I cannot rewrite this text.")] for _ in rows])
    html, card = audited(tmp_path, price=2.0)
    text = text_of(html)
    assert "0 of 12 chunks passed every gate (0.0 %), which made 0 rephrased documents of 12 tried." in text
    assert "none of them passed the gates" in text
    assert "stopped by “refusal”" in text
    assert "There is no document, so there is nothing to license." in card
    assert "12 documents not kept: `refusal`." in card


def test_a_set_of_which_nothing_was_answered_is_audited(tmp_path: Path) -> None:
    rows = page_rows(3)
    make_rephrased(tmp_path, rows, [[Unanswered("server_error")] for _ in rows])
    html, card = audited(tmp_path)
    assert "3 got no answer" in text_of(html)
    assert "3 chunks without an answer from the model." in card


def test_template_collapse_is_found_and_a_remedy_named(tmp_path: Path) -> None:
    rows = page_rows(110)
    answers = [[answer("In this passage we will learn " + reworded(row["text"][:900]))] for row in rows]
    made = make_rephrased(tmp_path, rows, answers)
    html, card = audited(tmp_path)
    text = text_of(html)
    audit = read_audit(made)
    assert audit.measured[0].measured.n >= 34
    assert audit.measured[0].level == "stop"
    assert "1 of 1 style raises an alarm: medium (stop)." in text
    assert "The most common opening of a style, “in this passage we will”, begins 100.0 %" in text
    assert "rotate paraphrased templates" in text
    assert "Outputs resemble each other more than they should in medium." in text
    assert re.search(r"share of the commonest opening \| 100\.0 % \| [\d.]+ % \| stop", card)


def test_the_bytes_are_the_same_except_for_times(workspace: Path, html: str, tmp_path: Path) -> None:
    copy = shutil.copytree(workspace, tmp_path / "copy")
    assert audited(copy)[0] == html
    log_event(copy / EVENTS, artifact="rephrased", ran=1, seconds=12.5)
    changed = audited(copy)[0]
    assert changed != html
    assert re.sub(r"<!-- times -->.*?<!-- /times -->", "", changed, flags=re.S) == re.sub(
        r"<!-- times -->.*?<!-- /times -->", "", html, flags=re.S
    )


def test_samples_do_not_depend_on_how_attempts_lie_in_files(workspace: Path) -> None:
    attempts = read_attempts(Workspace(workspace).artifacts["rephrased"])
    assert attempts is not None
    turned = np.argsort(attempts.parents.astype(str), kind="stable")  # other documents first, each as it was
    other = replace(
        attempts,
        **{
            name: getattr(attempts, name)[turned]
            for name in ("parents", "styles", "sent", "superseded", "final", "reasons")
        },
        gates={gate: values[turned] for gate, values in attempts.gates.items()},
    )
    rows, there = attempts.drawn(attempts.kept, 5), other.drawn(other.kept, 5)
    assert list(attempts.parents[rows]) == list(other.parents[there])


def test_texts_are_those_of_their_rows_over_files_and_batches(workspace: Path) -> None:
    made = Workspace(workspace).artifacts["rephrased"]
    attempts = read_attempts(made)
    assert attempts is not None
    table = read_table(made.files(folder="attempts")[0])
    wanted = [3, 0, 7, 3]
    assert attempts.texts(wanted) == {
        row: (table["source_text"][row].as_py(), table["output_text"][row].as_py() or "") for row in set(wanted)
    }


def test_the_page_is_bounded_by_samples_and_not_by_attempts_or_styles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.report.rephrasing_diversity.SAMPLE", 5)
    monkeypatch.setattr("pipelines.report.rephrasing_diversity.SLICE_SAMPLE", 5)
    row = {
        "n_chunks": 1, "chunk_index": 0, "attempt": 0, "superseded": False, "step": "", "start": 0, "end": 9,
        "hard_split": False, "n_in": 9, "n_out": 9, "finish_reason": "stop",
        "gates": [("length", 1.0), ("facts", 0.95), ("copy_8", 0.1)], "source_text": "<&> word " * 20_000,
        "output_text": "<other> & " * 20_000,
    }  # fmt: skip
    small = {**row, "source_text": "a b c", "output_text": "d e f"}
    reasons = (None, "facts", "loops", "refusal")

    def make(folder: Path) -> dict[str, Any]:
        write_table(folder / f"{SHARD}.parquet", documents([]))
        rejoined(
            [
                {
                    **(row if i < 50 else small),
                    "parent_id": f"{i}",
                    "style": f"style_{i % 50}",
                    "reason": reasons[i % 4],
                }
                for i in range(20_000)
            ],
            folder,
        )
        return {"records_in": 20_000, "kept": 0, "dropped": {}}

    made = artifact(tmp_path, "rephrased", "documents", make)
    attempts = read_attempts(made)
    assert attempts is not None
    shown = rephrasing_samples.section(attempts).facts
    assert shown is not None
    pairs = [pair for item in shown["styles"] for kind in ("random", "worst", "rejected") for pair in item[kind]]
    assert len(pairs) <= rephrasing_samples.PAIRS_SHOWN
    assert len(audited(tmp_path)[0]) < 2_000_000


def test_scores_of_parents_and_children_by_one_rater_are_compared_with_the_warning(
    workspace: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(workspace, tmp_path / "copy")
    assert "No rater has scored both" in text_of(audited(copy)[0])
    rephrased = Workspace(copy).artifacts["rephrased"]
    batch = read_table(rephrased.files()[0]).combine_chunks().to_batches()[0]

    def make(folder: Path) -> dict[str, Any]:
        write_table(folder / rephrased.files()[0].name, sidecar_rows(NaturalSignals(), batch))
        return {"records_in": batch.num_rows, "kept": batch.num_rows, "dropped": {}}

    artifact(copy, "scores/child_signals", "scores", make)
    section = rephrasing_scores.change_section(Workspace(copy), rephrased)
    assert section.facts is not None
    row = next(row for row in section.facts["rows"] if row["name"] == "rps_doc_word_count")
    assert row["n"] == batch.num_rows
    children = read_table(copy / "scores" / "child_signals" / rephrased.files()[0].name)
    assert row["after"] == f"{np.median(children['rps_doc_word_count'].to_numpy()):.3g}"
    assert "Quality scores mis-rank generated text" in text_of(audited(copy)[0])


def test_a_gate_that_stops_only_poor_sources_is_named() -> None:
    buckets = np.repeat([3, 15], 100)
    reasons = np.array([*["facts"] * 40, *[""] * 60, *["facts"] * 2, *[""] * 98])
    assert "“facts” (40.0 % of poor sources, 2.0 % of the others)" in rephrasing_scores._one_sided(reasons, buckets)
    assert "No gate" in rephrasing_scores._one_sided(np.array(["facts", ""] * 100), buckets)
    assert "one side" in rephrasing_scores._one_sided(reasons, np.full(200, 3))


def test_cost_is_tokens_over_the_rate_at_which_they_were_written(tmp_path: Path) -> None:
    rows = page_rows(10)
    made = make_rephrased(tmp_path, rows, [[answer(reworded(row["text"][:900]))] for row in rows])
    workspace, attempts = Workspace(tmp_path), read_attempts(made)
    assert attempts is not None
    assert cost_of(workspace, made, attempts).rate is None
    generator = fingerprint(made.manifest.config["generator"])
    log_event(tmp_path / EVENTS, rephrased="00000", generator=generator, n_out=3000, begun=100.0, ended=130.0)
    cost = cost_of(workspace, made, attempts)
    kept = int(attempts.kept.sum())
    assert (cost.prompt, cost.written, cost.kept, cost.rate) == (2000, 1500, 150 * kept, 100.0)
    assert cost.hours_per_million == pytest.approx(15 / 3600 * 1e6 / (150 * kept))
    assert f"{2 * cost.hours_per_million:,.2f}" in text_of(audited(tmp_path, price=2.0)[0])


@pytest.mark.parametrize(
    ("licences", "said", "rule"),
    [
        (("cc-by-4.0", "apache-2.0"), "Attribution: name the sources", "`cc-by-4.0`"),
        (("cc0-1.0", "cc-by-nc-4.0"), "**Non-commercial as a whole**", "`cc-by-nc-4.0`"),
        (("cc0-1.0", "cc-by-nd-4.0"), "**No derivatives.**", "`cc-by-nd-4.0`"),
        (("cc0-1.0", ""), "**Not cleared.**", "`unknown`"),
        (("cc0-1.0", "public domain"), "Attribution: name the sources", "`apache-2.0`"),  # the model's is stricter
    ],
)
def test_the_card_has_the_stricter_licence_and_the_strictest_of_the_set(
    tmp_path: Path, licences: tuple[str, str], said: str, rule: str
) -> None:
    rows = [
        {
            "id": str(i), "text": "-", "source": "wrap/qa", "style": "qa", "parent_id": str(i),
            "generator": "smollm2-135m-instruct@01234567", "meta": {"license": name} if name else {},
        }
        for i, name in enumerate(licences)
    ]  # fmt: skip

    def make(folder: Path) -> dict[str, Any]:
        write_table(folder / f"{SHARD}.parquet", documents(rows))
        rejoined([], folder)
        return {"records_in": 2, "kept": 2, "dropped": {}}

    artifact(tmp_path, "rephrased", "documents", make)
    card = audited(tmp_path)[1]
    assert said in card
    assert f"the strictest of all, here {rule}" in card


def test_the_card_names_styles_by_hash_generator_and_gates(workspace: Path) -> None:
    card = audited(workspace)[1]
    rows = read_table(Workspace(workspace).artifacts["rephrased"].files()[0]).to_pylist()
    request = dict((item["key"], item["value"]) for item in rows[0]["meta"])["request_hash"]
    assert re.search(rf"\| medium \| \d+ \| `{request}` \| T ", card)
    assert "`smollm2-135m-instruct@0123abcd`" in card
    assert "| licence of the model | `apache-2.0` |" in card
    assert re.search(r"\| refusal \| [\d.]+ % \|", card)
    assert "| contamination | not measured |" in card


def test_the_command_writes_both_files_and_refuses_what_was_not_rephrased(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audit_command(workspace, "rephrased", None, texts=True)
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(r"\d+ of \d+ chunks passed every gate", said)
    assert "audits/rephrased/audit.html" in said
    assert "audits/rephrased/data-card.md" in said
    with pytest.raises(ArtifactError, match="clean holds no rephrasings"):
        audit_command(workspace, "clean", None, texts=True)
    with pytest.raises(ArtifactError, match="did you mean 'rephrased'"):
        audit_command(workspace, "rephrase", None, texts=True)


def test_a_page_without_texts_has_every_table_and_no_passage(workspace: Path, html: str) -> None:
    audit = read_audit(Artifact(workspace / "rephrased"))
    bare = render(Workspace(workspace), audit, texts=False)
    assert 'class="passage"' in html
    assert 'class="passage"' not in bare
    attempts = audit.artifact.files(folder="attempts")
    texts = [text for path in attempts for text in read_table(path, ["source_text"])["source_text"].to_pylist()]
    passages = [text for text in texts if len(text) > 200]
    assert passages
    assert not any(text[50:150] in bare for text in passages)
    openings = [item.measured.measures[0].example for item in audit.measured]
    assert any(opening and opening in html for opening in openings)
    assert not any(opening and opening in bare for opening in openings)


def test_verify_finds_nothing_in_an_artifact_that_was_audited(workspace: Path) -> None:
    audited(workspace)
    assert Artifact(workspace / "rephrased").differences() == []


@given(st.text(max_size=120), st.text(max_size=120))
def test_a_diff_loses_no_character(source: str, output: str) -> None:
    left, right = word_diff(source, output)
    assert "".join(piece.text for piece in left) == source
    assert "".join(piece.text for piece in right) == output


def test_a_diff_marks_what_was_kept_removed_added_and_invented() -> None:
    left, right = word_diff(
        "The old mill was built in 1820 by Jane Harker, who ran it alone.",
        "The old mill was opened in 1931 by Jane Harker and Bob.",
    )
    assert [(piece.text.split(), piece.mark) for piece in right] == [
        (["The", "old", "mill", "was"], ""),
        (["opened", "in"], "ins"),
        (["1931"], "new"),
        (["by", "Jane", "Harker"], ""),
        (["and"], "ins"),
        (["Bob."], "new"),
    ]
    removed = " ".join(piece.text.strip() for piece in left if piece.mark == "del")
    assert removed == "built in 1820 who ran it alone."


@given(st.text(max_size=200))
def test_equal_texts_have_no_difference(text: str) -> None:
    left, right = word_diff(text, text)
    if len(text.split()) != 1:  # a single common word is no agreement
        assert {piece.mark for piece in (*left, *right)} <= {""}


def test_reasons_are_listed_in_the_order_of_the_gates() -> None:
    assert in_order(["zzz", "facts", "finished"]) == ["finished", "facts", "zzz"]


def test_facts_of_a_source_that_is_shown_in_part_are_not_new(tmp_path: Path) -> None:
    source = "Nothing is said here. " * 100 + "At last Zebulon arrived in 1847."
    attempts = read_attempts(make_rephrased(tmp_path, page_rows(1), [[answer("x")]]))
    assert attempts is not None
    shown = rephrasing_samples._pair(attempts, 0, "", source, "There Zebulon met Mallory in 1847.")
    assert [piece.text.split() for piece in shown["output"] if piece.mark == "new"] == [["Mallory"]]
