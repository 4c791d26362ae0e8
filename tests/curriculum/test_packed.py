"""A packed order reads the same tokens as its pieces say, padded, and a loader over it sees every sequence."""

import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.errors import ArtifactError
from curriculum.order import ORDER_SCHEMA, Order, write_order
from curriculum.packed import Pack, PackedOrder, piece_visits, write_pack
from curriculum.packing import PackConfig, PackingError, sequence_scores
from tests.curriculum.making import properties
from tests.curriculum.ordering import token_arrays, written_order

LENGTHS = [5, 3, 8, 2, 6, 4, 1, 7, 25]
CONFIG = PackConfig(sequence_tokens=10, window=4)
PADDING = 65_535


def packed_order(folder, lengths=LENGTHS, config=CONFIG, padding_id=PADDING):
    order = written_order(folder / "order", lengths, [float(n) for n in lengths])
    write_pack(folder / "pack", order, config, name="packs/a")
    return PackedOrder(order, Pack.open(folder / "pack"), padding_id)


def end_to_end(order, packed, arrays, padding_id):
    """The padded stream, built document by document from the order's table."""
    visits, rows = order.table().to_pylist(), []
    for sequence in range(packed.n_sequences):
        pieces = packed.pieces(sequence)
        row = [
            arrays[visits[v]["shard"]][visits[v]["start"] + o : visits[v]["start"] + o + n]
            for v, o, n in zip(packed.visit[pieces], packed.offset[pieces], packed.length[pieces], strict=True)
        ]
        room = packed.sequence_tokens - sum(map(len, row))
        rows.append(np.concatenate([*row, np.full(room, padding_id, arrays[0].dtype)]))
    return np.concatenate([*rows, np.full(1, padding_id, arrays[0].dtype)])


@properties
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=30),
    st.integers(1, 16),
    st.sampled_from(["concat", "windowed"]),
    st.data(),
)
def test_reading_equals_the_pieces_laid_end_to_end(tmp_path_factory, lengths, T, packer, data):
    config = PackConfig(packer=packer, sequence_tokens=T, window=5)
    read = packed_order(tmp_path_factory.mktemp("packed"), lengths, config)
    arrays = token_arrays(lengths)
    whole = end_to_end(read.order, read.packed, arrays, PADDING)
    assert read.n_tokens == len(whole) == read.n_sequences * T + 1
    np.testing.assert_array_equal(read.read(0, read.n_tokens, arrays), whole)
    a = data.draw(st.integers(0, read.n_tokens - 1))
    b = data.draw(st.integers(a + 1, read.n_tokens))
    np.testing.assert_array_equal(read.read(a, b, arrays), whole[a:b])
    rows = np.full(len(whole), -1)  # the row of `table` each token belongs to; -1 is padding
    for row, sequence in enumerate(read.packed.sequence_of_piece()):
        at = sequence * T + read.packed.length[read.packed.first[sequence] : row].sum()
        rows[at : at + read.packed.length[row]] = row
    touched = [row for row in dict.fromkeys(rows[a:b].tolist()) if row >= 0]
    assert list(range(*read.visits_between(a, b))) == touched
    np.testing.assert_array_equal(read.visit_numbers(a, b), rows[a:b])


def test_the_loader_reads_every_sequence(tmp_path):
    loader_module = pytest.importorskip("trainer_hooks.loader")
    read, arrays = packed_order(tmp_path), token_arrays(LENGTHS)
    loader = loader_module.OrderedLoader(read, arrays, sequence_length=10, batch_sequences=1)
    assert loader.n_samples == read.n_sequences == 7
    for number, (inputs, targets) in enumerate(loader):
        np.testing.assert_array_equal(inputs[0], read.sequence(number, arrays))
        np.testing.assert_array_equal(targets[0, :-1], inputs[0, 1:])
    seen = [loader.visits_of_step(step) for step in range(7)]
    assert pa.concat_tables(seen).to_pylist() == piece_visits(read.order, read.packed).to_pylist()
    assert seen[0]["doc"].to_pylist() == [0, 1]
    assert all(step.schema.equals(ORDER_SCHEMA) for step in seen)


def test_the_artifact_says_what_was_packed(tmp_path):
    read = packed_order(tmp_path)
    manifest = read.pack.artifact.manifest
    assert manifest.kind == "pack"
    assert manifest.config == CONFIG.model_dump()
    assert manifest.inputs == (read.order.artifact.ref,)
    assert manifest.totals["sequences"] == 7
    assert manifest.totals["fill"] == sum(LENGTHS) / 70
    assert read.pack.artifact.differences() == []
    write_pack(tmp_path / "again", read.order, CONFIG, name="packs/a")
    for path in (tmp_path / "pack").iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_pieces_written_as_an_order_read_as_the_pack_does(tmp_path):
    read, arrays = packed_order(tmp_path), token_arrays(LENGTHS)
    shuffled = read.packed.take(np.random.default_rng(1).permutation(read.n_sequences))
    table = piece_visits(read.order, shuffled)
    fixed = {"name": "orders/b", "fingerprint": "0" * 16, "config": {}, "inputs": [], "shards": read.order.shards}
    write_order(tmp_path / "pieces", table, **fixed)
    whole = end_to_end(read.order, shuffled, arrays, PADDING)
    lengths = np.add.reduceat(shuffled.length, shuffled.first[:-1])
    want = np.concatenate([row[:n] for row, n in zip(whole[:-1].reshape(-1, 10), lengths, strict=True)])
    np.testing.assert_array_equal(Order.open(tmp_path / "pieces").read(0, sum(LENGTHS), arrays), want)


def test_a_curriculum_over_packed_sequences(tmp_path):
    """The unit is the sequence: packed as the order has them, then arranged by their mean score."""
    read, arrays = packed_order(tmp_path), token_arrays(LENGTHS)
    scores = sequence_scores(read.packed, read.order.table(["score"])["score"]).to_numpy()
    rows = np.argsort(-scores, kind="stable")
    made = write_pack(tmp_path / "falling", read.order, CONFIG, name="packs/b", sequences=rows)
    assert made.manifest.fingerprint != read.pack.fingerprint
    assert made.manifest.totals["spearman"] < -0.9 < read.pack.artifact.manifest.totals["spearman"]
    falling = PackedOrder(read.order, Pack(made), PADDING)
    for place, row in enumerate(rows):
        np.testing.assert_array_equal(falling.sequence(place, arrays), read.sequence(row, arrays))
    with pytest.raises(PackingError, match="not the sequences"):
        write_pack(tmp_path / "short", read.order, CONFIG, name="packs/c", sequences=rows[1:])


def test_padding_must_be_given_where_it_is_needed(tmp_path):
    read, arrays = packed_order(tmp_path, padding_id=None), token_arrays(LENGTHS)
    assert read.n_tokens == 70
    np.testing.assert_array_equal(read.sequence(1, arrays), read.read(10, 20, arrays))  # this one is full
    with pytest.raises(PackingError, match="room left"):
        read.sequence(0, arrays)
    with pytest.raises(PackingError, match="padding_id 65536"):
        packed_order(tmp_path, padding_id=65_536).sequence(0, arrays)
    full = packed_order(tmp_path, [5, 5, 10], padding_id=None)
    assert len(full.read(0, 20, token_arrays([5, 5, 10]))) == 20


def test_a_pack_of_another_order_is_refused(tmp_path):
    read = packed_order(tmp_path)
    other = written_order(tmp_path / "other", [*LENGTHS, 1])
    with pytest.raises(ArtifactError, match="has changed since"):
        PackedOrder(other, read.pack, PADDING)
    with pytest.raises(ArtifactError, match="not a pack"):
        Pack.open(tmp_path / "order")
    same = packed_order(tmp_path, padding_id=0)
    assert same.fingerprint != read.fingerprint


def test_places_and_shards_that_do_not_fit(tmp_path):
    read, arrays = packed_order(tmp_path), token_arrays(LENGTHS)
    for a, b in ((-1, 2), (0, 72), (5, 5), (6, 5)):
        with pytest.raises(PackingError, match="71 tokens"):
            read.read(a, b, arrays)
    with pytest.raises(ArtifactError, match="does not fit the token shards"):
        read.read(0, 71, [array[:9] for array in arrays])
    with pytest.raises(ArtifactError, match="does not fit the token shards"):
        read.read(0, 71, arrays[:1])


def test_another_process_maps_the_arrays_itself(tmp_path):
    read, arrays = packed_order(tmp_path), token_arrays(LENGTHS)
    sent = pickle.dumps(read)
    assert len(sent) < 5_000
    np.testing.assert_array_equal(pickle.loads(sent).read(0, 71, arrays), read.read(0, 71, arrays))
