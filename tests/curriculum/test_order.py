"""An order's arrays say what its table says, and reading by position equals laying the documents end to end."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.artifacts import InputRef
from corpus.errors import ArtifactError
from corpus.tokens import read_token_shard, write_token_shard
from curriculum.arrange import arrange
from curriculum.order import ORDER_SCHEMA, ROW_GROUP_VISITS, Order, OrderError, encode_names, write_order
from curriculum.policies.shuffled import Shuffled
from tests.curriculum.making import docs_table, pool, properties, shuffled_rows, visits_of

SOURCES = {"web": [3, 1, 4, 1, 5], "code": [9, 2, 6], "wrap/qa": [5, 3]}
SHARDS = [f"{name}-00000.npy" for name in SOURCES]
ARRAYS = [np.arange(100 * i, 100 * i + sum(lengths), dtype=np.uint16) for i, lengths in enumerate(SOURCES.values())]


def written(folder, visits, shards=SHARDS):
    made_from = {"config": {"seed": 1}, "inputs": [InputRef(name="tokens/web", fingerprint="0" * 16)], "shards": shards}
    return write_order(folder, visits, name="order/a", fingerprint="f" * 16, **made_from)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("order")
    visits = arrange(visits_of(pool(SOURCES)), Shuffled(seed=1))
    written(folder, visits)
    return folder, visits


def end_to_end(visits):
    rows = visits.select(["shard", "start", "length"]).to_pylist()
    return np.concatenate([ARRAYS[row["shard"]][row["start"] : row["start"] + row["length"]] for row in rows])


def test_the_artifact_says_what_it_holds(made):
    folder, visits = made
    order = Order.open(folder)
    assert (order.n_visits, order.n_tokens, order.fingerprint) == (10, 39, "f" * 16)
    assert order.shards == SHARDS
    assert order.table().schema.equals(ORDER_SCHEMA)
    assert order.table().to_pylist() == visits.select(ORDER_SCHEMA.names).to_pylist()
    assert order.artifact.manifest.kind == "order"
    assert order.artifact.manifest.totals == {
        "visits": 10, "tokens": 39, "tokens_by_source": {"code": 17, "web": 14, "wrap/qa": 8},
    }  # fmt: skip
    assert order.artifact.differences() == []
    assert order.table(["score"]).column_names == ["score"]


def test_locate_and_visits_between(made):
    folder, visits = made
    order = Order.open(folder)
    lengths = visits["length"].to_pylist()
    places = [(row, offset) for row, length in enumerate(lengths) for offset in range(length)]
    assert [order.locate(position) for position in range(order.n_tokens)] == places
    for a in range(order.n_tokens):
        for b in range(a + 1, order.n_tokens + 1):
            assert order.visits_between(a, b) == (places[a][0], places[b - 1][0] + 1)


def test_groups_of_rows_and_arrays_do_not_depend_on_batches(tmp_path):
    """More visits than a row group holds; the arrays are what np.save writes."""
    n = ROW_GROUP_VISITS + 1000
    visits = arrange(visits_of(pool({"web": [2] * n}, scored=False)), Shuffled())
    whole = written(tmp_path / "whole", visits)
    written(tmp_path / "pieces", iter(visits.to_batches(max_chunksize=7_777)))
    for path in whole.files(".npy") + whole.files(".parquet"):
        assert (tmp_path / "pieces" / path.name).read_bytes() == path.read_bytes(), path.name
    np.save(tmp_path / "ends.npy", np.cumsum(visits["length"].to_numpy(), dtype=np.int64))
    assert (tmp_path / "ends.npy").read_bytes() == (tmp_path / "whole" / "ends.npy").read_bytes()


def test_an_error_in_the_stream_is_raised_and_nothing_is_finished(tmp_path):
    visits = arrange(visits_of(pool(SOURCES)), Shuffled())

    def stream():
        yield visits.to_batches()[0]
        raise MemoryError("the sort ran out")

    with pytest.raises(MemoryError, match="ran out"):
        written(tmp_path, stream())
    with pytest.raises(ArtifactError):
        Order.open(tmp_path)


@properties
@given(data=st.data())
def test_read_is_a_slice_of_the_documents_laid_end_to_end(made, data):
    folder, visits = made
    order, whole = Order.open(folder), end_to_end(visits)
    a = data.draw(st.integers(0, order.n_tokens - 1))
    b = data.draw(st.integers(a + 1, order.n_tokens))
    got = order.read(a, b, ARRAYS)
    assert got.dtype == np.uint16
    np.testing.assert_array_equal(got, whole[a:b])


@properties
@given(st.lists(st.integers(1, 20), min_size=1, max_size=40), st.integers(0, 9))
def test_read_from_memory_mapped_shards(tmp_path_factory, lengths, seed):
    folder = tmp_path_factory.mktemp("mapped")
    ids = np.random.default_rng(seed).integers(0, 70_000, sum(lengths)).astype(np.uint32)
    write_token_shard(folder / "web-00000.npy", ids, docs_table(lengths, "web"))
    visits = arrange(visits_of(pool({"web": lengths})), Shuffled(seed=seed))
    written(folder / "order", visits, ["web-00000.npy"])
    got = Order.open(folder / "order").read(0, sum(lengths), [read_token_shard(folder / "web-00000.npy")])
    starts, sizes = visits["start"].to_pylist(), visits["length"].to_pylist()
    want = np.concatenate([ids[s : s + n] for s, n in zip(starts, sizes, strict=True)])
    np.testing.assert_array_equal(got, want)


def test_rewriting_gives_the_same_bytes(made, tmp_path):
    folder, visits = made
    again = arrange(shuffled_rows(visits_of(pool(SOURCES)), 5), Shuffled(seed=1))
    assert again.equals(visits)
    pieces = [batch for at in range(0, 10, 3) for batch in again.slice(at, 3).to_batches()]
    written(tmp_path, iter(pieces))  # a stream of small batches
    for path in sorted(folder.iterdir()):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name
    written(tmp_path, visits)  # over a finished one
    assert Order.open(tmp_path).artifact.differences() == []


def test_places_that_do_not_exist(made):
    order = Order.open(made[0])
    for a, b in ((-1, 2), (0, 40), (5, 5), (6, 5)):
        with pytest.raises(OrderError, match="39 tokens"):
            order.read(a, b, ARRAYS)


def test_shards_of_another_order_are_refused(made):
    order = Order.open(made[0])
    with pytest.raises(ArtifactError, match="does not fit the token shards"):
        order.read(0, 39, [array[:2] for array in ARRAYS])
    with pytest.raises(ArtifactError, match="one dtype in all shards"):
        order.read(0, 39, [ARRAYS[0].astype(np.uint32), *ARRAYS[1:]])


def test_tables_that_are_no_order(tmp_path):
    visits = arrange(visits_of(pool(SOURCES)), Shuffled())
    with pytest.raises(OrderError, match="no visits"):
        written(tmp_path, visits.slice(0, 0))
    with pytest.raises(OrderError, match="shards that are not listed"):
        written(tmp_path, visits, SHARDS[:1])
    with pytest.raises(OrderError, match="no column 'phase'"):
        written(tmp_path, visits.drop_columns(["phase"]))
    empty = visits.set_column(3, ORDER_SCHEMA.field("length"), pa.array([0] * 10, pa.int32()))
    with pytest.raises(OrderError, match="10 visits of order/a hold no tokens"):
        written(tmp_path, empty)
    null = visits.set_column(0, pa.field("shard", pa.int32()), pa.array([None] * 10, pa.int32()))
    with pytest.raises(OrderError, match="10 visits have no shard"):
        written(tmp_path, null)
    with pytest.raises(ArtifactError, match="not there"):
        Order.open(tmp_path / "nothing")


@properties
@given(st.lists(st.sampled_from(["web", "code", "", "wrap/qa", "é"]), max_size=20), st.integers(0, 20))
def test_names_in_use_are_all_the_dictionary_holds(names, cut):
    plain = pa.array(names, pa.string())
    chunked = pa.chunked_array([plain.slice(0, cut).dictionary_encode(), plain.slice(cut).dictionary_encode()])
    for column in (plain, chunked, plain.dictionary_encode().slice(0), pa.chunked_array([plain])):
        encoded = encode_names(column)
        assert encoded.to_pylist() == names
        assert encoded.dictionary.to_pylist() == sorted(set(names))
