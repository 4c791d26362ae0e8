"""The shards of an order: opened when they are those it was made from, refused by name when they are not."""

import pickle

import numpy as np
import pyarrow as pa
import pytest

from corpus.artifacts import Artifact, InputRef, begin, describe_part, finish, own_files
from corpus.errors import ArtifactError
from corpus.tokens import DOCS_SCHEMA, write_token_shard
from curriculum.order import Order, write_order
from curriculum.order_shards import check_shards, open_shards

SHARDS = ["tokens/web-00000.npy", "tokens/web-00001.npy"]


def make_tokens(root, fingerprint="t" * 16, numbers=(0, 1)):
    folder = root / "tokens"
    begin(folder, fingerprint)
    for number in numbers:
        columns = [[f"{number}"], [0], [6], ["web"], [6]]
        docs = pa.Table.from_arrays(
            [pa.array(c, f.type) for c, f in zip(columns, DOCS_SCHEMA, strict=True)], schema=DOCS_SCHEMA
        )
        write_token_shard(folder / f"web-{number:05d}.npy", np.arange(6, dtype=np.uint16) + 10 * number, docs)
    parts = [describe_part(folder, path) for path in own_files(folder)]
    return finish(
        folder, kind="tokens", name="tokens", fingerprint=fingerprint, config={}, inputs=[], parts=parts, totals={}
    )


@pytest.fixture
def order(tmp_path):
    table = pa.table(
        {
            "shard": [1, 0], "doc": [0, 0], "start": [0, 2], "length": [6, 4], "source": ["web"] * 2,
            "phase": ["all"] * 2, "visit": [0, 0], "score": pa.nulls(2, pa.float32()), "rule": ["as it is"] * 2,
        }
    )  # fmt: skip
    inputs = [make_tokens(tmp_path).ref]
    write_order(tmp_path / "o", table, name="orders/a", fingerprint="o" * 16, config={}, inputs=inputs, shards=SHARDS)
    return Order.open(tmp_path / "o")


def test_shards_open_in_the_order_of_their_numbers(order, tmp_path):
    arrays = open_shards(order, tmp_path, contents=True)
    assert order.read(0, 10, arrays).tolist() == [10, 11, 12, 13, 14, 15, 2, 3, 4, 5]
    again = pickle.loads(pickle.dumps(arrays))
    assert order.read(3, 8, again).tolist() == [13, 14, 15, 2, 3]


def test_tokens_made_anew_are_refused(order, tmp_path):
    make_tokens(tmp_path, fingerprint="u" * 16)
    with pytest.raises(
        ArtifactError, match=r"token shard tokens/web-00000\.npy is not the one that orders/a"
    ) as caught:
        open_shards(order, tmp_path)
    assert "t" * 16 in caught.value.expected
    assert "u" * 16 in caught.value.found
    assert "make orders/a again" in caught.value.fix


def test_a_shard_of_another_size_is_named(order, tmp_path):
    np.save(tmp_path / SHARDS[1], np.arange(5, dtype=np.uint16))
    with pytest.raises(ArtifactError, match=r"web-00001\.npy is not") as caught:
        open_shards(order, tmp_path)
    assert "140 bytes" in caught.value.expected
    assert "138 bytes" in caught.value.found
    assert f"remove {tmp_path / 'tokens'}" in caught.value.fix


def test_a_missing_shard_is_named(order, tmp_path):
    (tmp_path / SHARDS[1]).unlink()
    with pytest.raises(ArtifactError, match=r"web-00001\.npy is not") as caught:
        open_shards(order, tmp_path)
    assert caught.value.found == "no file"


def test_other_tokens_of_the_same_size_show_in_the_checksum(order, tmp_path):
    np.save(tmp_path / SHARDS[1], np.arange(6, dtype=np.uint16))
    open_shards(order, tmp_path)
    with pytest.raises(ArtifactError, match=r"web-00001\.npy is not") as caught:
        open_shards(order, tmp_path, contents=True)
    assert caught.value.found.startswith("checksum")


def test_a_shard_that_the_tokens_no_longer_list_is_named(order, tmp_path):
    made = make_tokens(tmp_path / "other", numbers=(0,))
    with pytest.raises(ArtifactError, match=r"web-00001\.npy is not") as caught:
        check_shards(order, [made])
    assert "no such shard" in caught.value.found


def test_tokens_that_are_not_given_are_named(order, tmp_path):
    with pytest.raises(ArtifactError, match=r"web-00000\.npy is not") as caught:
        check_shards(order, [])
    assert caught.value.found == "no token artifacts"


def test_an_order_that_does_not_say_what_it_was_made_from_is_held_to_the_manifest(order, tmp_path):
    table, inputs = order.table(), [InputRef(name="elsewhere", fingerprint="x")]
    write_order(tmp_path / "p", table, name="orders/p", fingerprint="p" * 16, config={}, inputs=inputs, shards=SHARDS)
    check_shards(Order.open(tmp_path / "p"), [Artifact(tmp_path / "tokens")])
