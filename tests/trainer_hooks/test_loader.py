"""The ordered loader: the stream as written, the same batches for any number of ranks, one integer of state."""

import numpy as np
import pytest
import torch

from corpus.errors import ConfigError
from trainer_hooks.loader import OrderedLoader


def loader(workspace, T=16, batch=4, rank=0, world=1):
    return OrderedLoader(workspace.order, workspace.arrays, T, batch, rank, world)


@pytest.mark.parametrize(("T", "batch"), [(16, 4), (7, 3), (1, 1), (100, 2)])
def test_batches_are_the_ordered_stream_and_its_shift(workspace, T, batch):
    read = list(loader(workspace, T, batch))
    inputs = torch.cat([inputs for inputs, _ in read]).flatten().numpy()
    targets = torch.cat([targets for _, targets in read]).flatten().numpy()
    assert np.array_equal(inputs, workspace.stream[: len(inputs)])
    assert np.array_equal(targets, workspace.stream[1 : len(inputs) + 1])
    assert all(part.shape == (batch, T) and part.dtype == torch.int64 for pair in read for part in pair)


def test_what_no_whole_batch_reads_is_counted(workspace):
    one = loader(workspace, 100, 3)
    read = 300 * one.n_batches + 1
    assert one.dropped_tokens == len(workspace.stream) - read
    assert 0 <= one.dropped_tokens < 300


@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_any_number_of_ranks_reads_the_same_global_batches(workspace, world):
    whole = loader(workspace, 8, 8)
    ranks = [loader(workspace, 8, 8, rank, world) for rank in range(world)]
    for step in (0, 3, whole.n_batches - 1):
        for side in (0, 1):
            parts = torch.cat([rank.batch(step)[side] for rank in ranks])
            assert torch.equal(parts, whole.batch(step)[side])


def test_state_moves_between_numbers_of_ranks(workspace):
    straight, first = loader(workspace), loader(workspace, rank=1, world=2)
    for _ in range(5):
        straight.next_batch()
        first.next_batch()
    assert first.state_dict() == {"next_sample": 20, "order_fingerprint": workspace.order.fingerprint}
    again = [loader(workspace, rank=rank, world=4) for rank in range(4)]
    for rank in again:
        rank.load_state_dict(first.state_dict())
    assert torch.equal(torch.cat([rank.next_batch()[0] for rank in again]), straight.next_batch()[0])


def test_random_access_equals_reading_on(workspace):
    read = list(loader(workspace))
    one = loader(workspace)
    for step in np.random.default_rng(0).permutation(len(read))[:10]:
        assert torch.equal(one.batch(int(step))[0], read[step][0])


def test_a_foreign_or_crooked_state_is_refused(workspace):
    with pytest.raises(ConfigError, match="another order") as caught:
        loader(workspace).load_state_dict({"next_sample": 4, "order_fingerprint": "x"})
    assert "resume with the order" in str(caught.value)
    state = {"order_fingerprint": workspace.order.fingerprint}
    for position in (3, -4, 10**9):
        with pytest.raises(ConfigError, match="not at a border"):
            loader(workspace).load_state_dict({**state, "next_sample": position})


def test_what_cannot_be_read_is_refused(workspace):
    with pytest.raises(ConfigError, match="cut evenly"):
        loader(workspace, batch=4, world=3)
    with pytest.raises(ConfigError, match="shorter than one sequence"):
        loader(workspace, T=10**6)
    with pytest.raises(ConfigError, match="no step"):
        loader(workspace).batch(10**6)


def test_a_step_traces_back_to_the_visits_it_read(workspace):
    one, table = loader(workspace), workspace.order.table()
    for step in (0, 5, one.n_batches - 1):
        visits = one.visits_of_step(step)
        tokens = np.concatenate(
            [workspace.arrays[v["shard"]][v["start"] : v["start"] + v["length"]] for v in visits.to_pylist()]
        )
        inputs = one.batch(step)[0].flatten().numpy()
        assert visits.column_names == table.column_names
        assert any(np.array_equal(tokens[at : at + 64], inputs) for at in range(len(tokens) - 63))
        assert sum(visits["length"].to_pylist()[1:-1]) < 64, "a visit that the step did not read"
