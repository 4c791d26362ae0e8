"""Packed sequences are arranged as whole units: a permutation, by their mean scores, phase by phase."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curriculum.order import Order, OrderError, encode_names, write_order
from curriculum.packed import Pack, PackedOrder, write_pack
from curriculum.packing import PackConfig, pack, sequence_scores
from curriculum.policies.shuffled import Shuffled
from curriculum.policies.sorted import Interleaved, Sorted
from curriculum.sequence_order import arranged_sequences
from tests.curriculum.making import properties
from tests.curriculum.ordering import order_table, token_arrays, written_order

CONFIG = PackConfig(sequence_tokens=10, window=4)
POLICIES = (Sorted(by="score"), Sorted(by="score", ascending=False), Interleaved(by="score"), Shuffled(seed=3))


@properties
@given(st.lists(st.integers(1, 25), min_size=1, max_size=40), st.sampled_from(POLICIES))
def test_every_policy_gives_a_permutation_of_sequences(tmp_path_factory, lengths, policy):
    order = written_order(tmp_path_factory.mktemp("order"), lengths, [float(n % 7) for n in lengths])
    packed = pack(np.array(lengths, np.int32), CONFIG)
    sequences = arranged_sequences(order, packed, policy)
    assert sorted(sequences.tolist()) == list(range(packed.n_sequences))
    scores = sequence_scores(packed, order.table()["score"]).to_numpy()[sequences]
    if policy.kind == "sorted":
        assert (np.diff(scores) * (1 if policy.ascending else -1) >= 0).all()
    if isinstance(policy, Shuffled):
        again = arranged_sequences(order, packed, Shuffled(seed=4))
        assert packed.n_sequences < 8 or sequences.tolist() != again.tolist()


def test_a_pack_reads_its_sequences_in_that_order(tmp_path):
    lengths = [5, 3, 8, 2, 6, 4, 1, 7, 25]
    order = written_order(tmp_path / "order", lengths, [float(n) for n in lengths])
    arrays = token_arrays(lengths)
    write_pack(tmp_path / "plain", order, CONFIG, name="packs/plain")
    plain = PackedOrder(order, Pack.open(tmp_path / "plain"), 0)
    sequences = arranged_sequences(order, plain.packed, Sorted(by="score"))
    write_pack(tmp_path / "sorted", order, CONFIG, name="packs/sorted", sequences=sequences)
    arranged = PackedOrder(order, Pack.open(tmp_path / "sorted"), 0)
    assert sequences.tolist() != list(range(plain.n_sequences))
    for place, sequence in enumerate(sequences.tolist()):
        np.testing.assert_array_equal(arranged.sequence(place, arrays), plain.sequence(sequence, arrays))


def test_phases_stay_apart_and_in_order(tmp_path):
    table = order_table([10] * 6, [3.0, 1.0, 2.0, 0.0, 9.0, 4.0])
    phases = encode_names(pa.array(["b", "b", "b", "a", "a", "a"]))
    table = table.set_column(table.column_names.index("phase"), table.schema.field("phase"), phases)
    fixed = {"name": "orders/a", "fingerprint": "0" * 16, "config": {}, "inputs": [], "shards": ["a.npy", "b.npy"]}
    write_order(tmp_path, table, **fixed)
    sequences = arranged_sequences(Order.open(tmp_path), pack(np.full(6, 10, np.int32), CONFIG), Sorted(by="score"))
    assert sequences.tolist() == [1, 2, 0, 3, 5, 4]


def test_sequences_without_scores_cannot_be_sorted(tmp_path):
    order = written_order(tmp_path, [5, 5, 5, 5])
    with pytest.raises(OrderError, match="score"):
        arranged_sequences(order, pack(np.full(4, 5, np.int32), CONFIG), Sorted(by="score"))
