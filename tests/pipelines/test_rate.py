"""`gradatim rate` as a user meets it: files in, sidecars out, errors that teach, the same bytes whoever works."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from corpus.artifacts import Artifact
from corpus.errors import ConfigError, InputError
from corpus.shards import read_table
from pipelines.commands.rate import rate_command, rater_set
from pipelines.commands.verify import verify_command
from pipelines.commands.workshop import RuntimeOptions
from pipelines.named_inputs import named_inputs
from pipelines.recipe import DEMO
from tests.pipelines.small_recipe import gradatim

PAGES = DEMO.parent / "pages.jsonl"
RATERS = """\
raters:
  signals: {kind: signals}
  prose:
    kind: fasttext
    positives: {files: [pages.jsonl], urls: ["*sqlite*"]}
    negatives: {files: [pages.jsonl], urls: ["*django*", "*postgresql*"]}
    settings: {dim: 8, bucket: 1000, epochs: 5}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three files of pages and a file of raters."""
    folder = tmp_path_factory.mktemp("rate")
    lines = PAGES.read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "pages.jsonl").write_text("".join(lines))
    for i in range(3):
        (folder / f"part{i}.jsonl").write_text("".join(lines[i * 60 : i * 60 + 60]))
    (folder / "raters.yaml").write_text(RATERS)
    return folder


def rate(folder, workspace, **options):
    given = [str(folder / f"part{i}.jsonl") for i in range(3)]
    rate_command(given, workspace, folder / "raters.yaml", [], RuntimeOptions(**options))


@pytest.fixture(scope="module")
def rated(folder, tmp_path_factory):
    workspace = tmp_path_factory.mktemp("rated")
    rate(folder, workspace, workers=1)
    return workspace


def test_sidecars_stand_beside_their_documents(rated):
    documents = Artifact(rated / "documents").files()
    assert [path.name for path in documents] == [f"part{i}-00000-000.parquet" for i in range(3)]
    for name, columns in (("signals", 11), ("prose", 1)):
        for path in documents:
            sidecar = read_table(rated / "scores" / name / path.name)
            assert sidecar["id"].equals(read_table(path, ["id"])["id"])
            assert sidecar.num_columns == 1 + columns


@pytest.mark.parametrize("workers", [2, 4])
def test_more_workers_give_the_same_bytes(folder, rated, tmp_path, workers):
    rate(folder, tmp_path, workers=workers)
    assert verify_command(rated, tmp_path) == 0


@pytest.mark.spark
def test_spark_gives_the_same_bytes(folder, rated, tmp_path):
    rate(folder, tmp_path, runtime="spark", workers=2)
    assert verify_command(rated, tmp_path) == 0


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.pipelines.test_rate import rate

plain = Path.replace
def replace(self, target):
    if str(target).endswith("scores/signals/part1-00000-000.parquet"):
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(self, target)
Path.replace = replace
rate(Path(sys.argv[1]), Path(sys.argv[2]), workers=1)
"""


def test_a_killed_rating_resumes_at_the_shard(folder, rated, tmp_path):
    command = [sys.executable, "-c", KILLED, str(folder), str(tmp_path)]
    ended = subprocess.run(command, cwd=Path(__file__).parents[2], check=False, capture_output=True, timeout=120)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    finished = tmp_path / "scores" / "signals" / "part0-00000-000.parquet"
    before = os.stat(finished).st_mtime_ns
    rate(folder, tmp_path, workers=1)
    assert os.stat(finished).st_mtime_ns == before
    assert verify_command(rated, tmp_path) == 0


def test_the_command_prints_every_score_and_makes_nothing_twice(rated):
    ended = gradatim("rate", "documents", "-r", "signals", "-w", rated)
    assert ended.returncode == 0, ended.stderr
    assert "rps_doc_word_count" in ended.stdout
    assert "done" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["documnts"], "did you mean 'documents'"),
        (["scores/signals"], "holds no documents but scores"),
        (["nowhere.jsonl"], "neither an artifact nor a file"),
        (["documents", "-r", "signls"], "there is no kind 'signls'; did you mean 'signals'"),
        (["documents", "-r", "a={kind: fasttext_model, path: none.bin}"], "there is no fastText model here"),
        (["documents", "-r", "a={kind: tokens, tokenizer: none.json}"], "there is no tokenizer here"),
        (["documents", "-r", "a={kind: tokens, tokeniser: t.json}"], "did you mean 'tokenizer'"),
        (["documents", "-r", "a={kind: fasttext, positives: {sources: [x]}, negatives: {urls: ['*']}}"], "finds no"),
    ],
)
def test_what_cannot_be_rated_is_said(rated, arguments, message):
    ended = gradatim("rate", *arguments, "-w", rated)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_inputs_are_named_by_their_files(folder, monkeypatch):
    monkeypatch.chdir(folder)
    found = named_inputs(["part0.jsonl", "all=*.jsonl", "old={kind: jsonl, path: x, fields: {text: body}}"])
    assert {name: reader.kind for name, reader in found.items()} == dict.fromkeys(("part0", "all", "old"), "jsonl")
    with pytest.raises(ConfigError, match="two inputs are called 'part0'"):
        named_inputs(["part0.jsonl", str(folder / "part0.jsonl")])
    with pytest.raises(InputError, match="cannot tell what kind"):
        named_inputs(["raters.yaml"])


def test_raters_come_from_a_file_and_from_the_line(folder):
    assert set(rater_set(folder / "raters.yaml", ["more={kind: signals}"]).raters) == {"signals", "prose", "more"}
    assert set(rater_set(None, []).raters) == {"signals"}
    with pytest.raises(ConfigError, match="named twice"):
        rater_set(folder / "raters.yaml", ["prose={kind: signals}"])


def test_empty_and_wordless_documents_are_null_not_zero(tmp_path):
    rows = [{"id": "a", "text": "!!! ..."}, {"id": "b", "text": "One sentence. Two."}]
    (tmp_path / "few.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rate_command([str(tmp_path / "few.jsonl")], tmp_path / "w", None, [], RuntimeOptions(workers=1))
    table = read_table(tmp_path / "w" / "scores" / "signals" / "few-00000-000.parquet").to_pylist()
    assert table[0]["rps_doc_mean_word_length"] is None
    assert table[1]["rps_doc_mean_word_length"] is not None
