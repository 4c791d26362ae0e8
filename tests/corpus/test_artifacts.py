"""An artifact exists when its manifest does, and never before."""

import json

import numpy as np
import pyarrow as pa
import pytest

from corpus.artifacts import MANIFEST, Artifact, begin, describe_part, finish, is_finished, own_files
from corpus.errors import ArtifactError
from corpus.keyed_random import keyed_hashes, keyed_uniforms
from corpus.shards import write_table
from corpus.tokens import DOCS_SCHEMA, as_token_ids, docs_path, read_docs, read_token_shard, write_token_shard


def build(folder, fingerprint="f1", rows=3):
    begin(folder, fingerprint)
    path = folder / "a.parquet"
    write_table(path, pa.table({"x": list(range(rows))}))
    parts = [describe_part(folder, path)]
    return finish(
        folder, kind="k", name=folder.name, fingerprint=fingerprint, config={}, inputs=[], parts=parts, totals={}
    )


def test_finished_artifacts_open_and_verify(tmp_path):
    artifact = build(tmp_path / "one")
    assert is_finished(tmp_path / "one", "f1")
    assert not is_finished(tmp_path / "one", "f2")
    assert [path.name for path in artifact.files()] == ["a.parquet"]
    assert artifact.differences() == []
    assert artifact.manifest.parts[0].rows == 3


def test_unfinished_and_missing_are_told_apart(tmp_path):
    begin(tmp_path / "half", "f1")
    with pytest.raises(ArtifactError, match="not finished"):
        Artifact(tmp_path / "half")
    with pytest.raises(ArtifactError, match="not there"):
        Artifact(tmp_path / "none")


def test_partial_files_survive_only_the_same_fingerprint(tmp_path):
    folder = tmp_path / "a"
    begin(folder, "f1")
    (folder / "done.parquet").write_text("x")
    (folder / ".half.parquet.12.writing").write_text("x")
    begin(folder, "f1")
    assert [path.name for path in own_files(folder)] == ["done.parquet"]
    begin(folder, "f2")
    assert list(own_files(folder)) == []


def test_rebuilding_takes_the_old_manifest_away_first(tmp_path):
    build(tmp_path / "a")
    begin(tmp_path / "a", "f2")
    assert not (tmp_path / "a" / MANIFEST).exists()


def test_nested_artifacts_are_not_touched(tmp_path):
    build(tmp_path / "orders")
    build(tmp_path / "orders" / "up")
    begin(tmp_path / "orders", "other")
    assert Artifact(tmp_path / "orders" / "up").differences() == []


def test_changes_after_the_finish_are_found(tmp_path):
    artifact = build(tmp_path / "a")
    path = tmp_path / "a" / "a.parquet"
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(bytes(data))
    (tmp_path / "a" / "extra.txt").write_text("?")
    assert artifact.differences() == [
        "a/a.parquet: content is not what the manifest says",
        "a/extra.txt: not in the manifest",
    ]
    path.write_bytes(b"short")
    with pytest.raises(ArtifactError, match="changed after it was finished"):
        artifact.files()
    path.unlink()
    assert artifact.differences()[0] == "a/a.parquet: missing"


def test_a_manifest_cannot_point_outside(tmp_path):
    artifact = build(tmp_path / "a")
    manifest = json.loads((artifact.folder / MANIFEST).read_text())
    for name in ("../b.parquet", "/etc/passwd"):
        manifest["parts"][0]["file"] = name
        (artifact.folder / MANIFEST).write_text(json.dumps(manifest))
        with pytest.raises(ArtifactError, match="inside its artifact"):
            Artifact(artifact.folder)


def test_manifests_of_equal_builds_are_equal_bytes(tmp_path):
    for name in ("x", "y"):
        build(tmp_path / name / "same")
    assert (tmp_path / "x/same" / MANIFEST).read_bytes() == (tmp_path / "y/same" / MANIFEST).read_bytes()


def test_token_shards_round_trip(tmp_path):
    ids = np.array([5, 6, 0, 7, 0], dtype=np.uint16)
    docs = pa.table(
        {"id": ["a", "b"], "start": [0, 3], "length": [3, 2], "source": ["s", "s"], "n_bytes": [9, 4]}, DOCS_SCHEMA
    )
    shard = tmp_path / "web-00000.npy"
    write_token_shard(shard, ids, docs)
    assert docs_path(shard).name == "web-00000.docs.parquet"
    assert np.array_equal(read_token_shard(shard), ids)
    assert read_docs(shard).equals(docs)
    shard.write_bytes(b"not an array")
    with pytest.raises(ArtifactError):
        read_token_shard(shard)
    assert as_token_ids(ids, 65_536).dtype == np.uint16
    assert as_token_ids(ids, 65_537).dtype == np.uint32


def test_keyed_draws_depend_on_seed_and_key_only():
    keys = [f"doc{i}" for i in range(4000)]
    assert np.array_equal(keyed_hashes(3, keys)[::-1], keyed_hashes(3, keys[::-1]))
    uniforms = keyed_uniforms(3, keys)
    assert abs(uniforms.mean() - 0.5) < 0.02
    assert uniforms.min() >= 0
    assert uniforms.max() < 1
    assert abs(np.corrcoef(uniforms, keyed_uniforms(4, keys))[0, 1]) < 0.05
