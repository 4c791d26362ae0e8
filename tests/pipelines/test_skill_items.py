"""Questions with skills become documents of a workspace; a broken line is named, and nothing is made twice."""

import gzip
import json

import pytest
from typer.testing import CliRunner

from corpus.artifacts import Artifact
from corpus.documents import check_documents
from corpus.errors import ConfigError, InputError
from corpus.shards import read_table
from pipelines.build import Workshop
from pipelines.cli import app
from pipelines.runtime import LocalRuntime
from pipelines.skill_items import PairOptions, read_items, skill_pairs


def write_items(path, n, skill="fractions", prefix="q"):
    rows = [{"id": f"{prefix}{i}", "question": f"What is {prefix} {i} over two?", "skill": skill} for i in range(n)]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


def test_pairs_are_an_artifact_that_changes_with_its_inputs_and_options(tmp_path):
    failed, pool = write_items(tmp_path / "failed.jsonl", 4, prefix="f"), write_items(tmp_path / "pool.jsonl", 9)
    shop = Workshop(tmp_path / "w", LocalRuntime(1))
    first = skill_pairs(shop, failed, pool, PairOptions())
    table = read_table(first.files()[0])
    check_documents(table)
    assert first.manifest.totals == {"pairs": 4, "pairs_without_seeds": 0, "pool": 9}
    assert skill_pairs(shop, failed, pool, PairOptions()).ref == first.ref
    assert skill_pairs(shop, failed, pool, PairOptions(seed=1)).ref != first.ref
    write_items(pool, 10)
    assert skill_pairs(shop, failed, pool, PairOptions()).ref != first.ref


def test_the_command_says_what_it_made_and_what_will_be_dropped(tmp_path):
    failed, pool = tmp_path / "failed.jsonl", write_items(tmp_path / "pool.jsonl", 9)
    failed.write_text(
        write_items(tmp_path / "a", 2, prefix="f").read_text()
        + write_items(tmp_path / "b", 1, "knots", "k").read_text()
    )
    result = CliRunner().invoke(
        app, ["skill-pairs", str(failed), str(pool), "-w", str(tmp_path / "w"), "--name", "math"]
    )
    assert result.exit_code == 0, result.output
    assert "3 pairs, with seeds from 9 questions" in result.output
    assert "1 of them have a skill that no other question has" in result.output
    assert read_table(Artifact(tmp_path / "w" / "math").files()[0]).num_rows == 3


def test_items_are_read_and_broken_ones_named(tmp_path):
    rows = [{"id": f"q{i}", "question": f"What is {i} over two?", "skill": "fractions", "level": 3} for i in range(5)]
    path = tmp_path / "items.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode() + b"\n\n"))
    assert [item.id for item in read_items(path)] == [row["id"] for row in rows]
    for broken, message in (
        (b"", "has no question"),
        (b"{", "not JSON"),
        (b"[1]", "no object"),
        (b'{"id": "a", "question": "b"}', "'skill' is missing"),
        (b'{"id": "a", "question": " ", "skill": "c"}', "is blank"),
        (b'{"id": 7, "question": "b", "skill": "c"}', "'id'"),
    ):
        path = tmp_path / "broken.jsonl"
        path.write_bytes(broken)
        with pytest.raises((InputError, ConfigError), match=message):
            read_items(path)
    damaged = gzip.compress(b"x" * 4000 + b"\n")[:-9]
    (tmp_path / "cut.jsonl.gz").write_bytes(damaged)
    for name, message in (("cut.jsonl.gz", "cannot be read|not JSON"), ("none.jsonl", "there is no file")):
        with pytest.raises(InputError, match=message):
            read_items(tmp_path / name)
