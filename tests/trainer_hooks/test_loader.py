"""The ordered loader: the stream as written, the same batches for any number of ranks, one integer of state."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from corpus.errors import ConfigError
from curriculum.order import Order, write_order
from trainer_hooks.loader import OrderedLoader


def loader(workspace, T=16, batch=4, rank=0, world=1, **options):
    return OrderedLoader(workspace.order, workspace.arrays, T, batch, rank, world, **options)


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


@given(st.data())
def test_a_resume_at_any_step_with_any_number_of_ranks_reads_on(workspace, data):
    """Stop after any step on any number of ranks, go on with any other: the global batches are those of one rank."""
    straight = list(loader(workspace, 8, 8))
    step = data.draw(st.integers(0, len(straight) - 1))
    before, after = (data.draw(st.sampled_from([1, 2, 4, 8])) for _ in range(2))
    stopped = loader(workspace, 8, 8, rank=before - 1, world=before)
    stopped.next_sample = 8 * max(0, step - 1)
    if step:
        stopped.next_batch()
    ranks = [loader(workspace, 8, 8, rank, after) for rank in range(after)]
    for rank in ranks:
        rank.load_state_dict(stopped.state_dict())
    for want in straight[step : step + 3]:
        parts = [rank.next_batch() for rank in ranks]
        for side in (0, 1):
            assert torch.equal(torch.cat([part[side] for part in parts]), want[side])


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 6)), max_size=4), st.integers(0, 40))
def test_ranges_of_samples_are_skipped_before_and_after_a_resume(workspace, ranges, at):
    skip = [(4 * a, 4 * (a + n)) for a, n in ranges]
    whole = loader(workspace)
    steps = [s for s in range(whole.n_batches) if not any(a <= 4 * s < b for a, b in skip)]
    one = loader(workspace, skip=skip)
    read = [one.next_batch()[0] for _ in steps[:at]]
    again = loader(workspace, skip=skip)
    again.load_state_dict(one.state_dict())
    read += [inputs for inputs, _ in again]
    assert len(read) == len(steps)
    assert all(torch.equal(inputs, whole.batch(step)[0]) for inputs, step in zip(read, steps, strict=True))


@pytest.mark.parametrize("skip", [(1, 4), (4, 6), (8, 8), (8, 4), (-4, 4)])
def test_only_whole_batches_are_skipped(workspace, skip):
    with pytest.raises(ConfigError, match="whole batches"):
        loader(workspace, skip=[skip])


def test_an_order_that_only_differs_later_gives_the_same_samples_before(workspace, tmp_path):
    """Visits of a later phase are replaced: every sample whose tokens lie before them is unchanged."""
    kept = 30
    whole = workspace.order.table()
    edited = pa.concat_tables([whole.slice(0, kept), whole.slice(kept).take(list(range(len(whole) - kept))[::-1])])
    shards = workspace.order.shards
    write_order(tmp_path, edited, name="edited", fingerprint="edited", config={}, inputs=[], shards=shards)
    other = OrderedLoader(Order.open(tmp_path), workspace.arrays, 16, 4)
    one, same = loader(workspace), sum(whole["length"].to_pylist()[:kept]) - 1
    steps = same // 64
    assert steps > 5
    for step in range(steps):
        assert all(torch.equal(a, b) for a, b in zip(other.batch(step), one.batch(step), strict=True))
    assert any(not torch.equal(other.batch(s)[0], one.batch(s)[0]) for s in range(steps, one.n_batches))


def test_a_document_read_in_pieces_is_read_whole(workspace, tmp_path):
    """A visit may be a piece of a document; pieces in a row give the document, at any sequence length."""
    pieces = [(0, 20), (20, 1), (21, 19)]  # the first document of the first shard, 40 tokens
    table = pa.table(
        {
            "shard": [0] * 3, "doc": [0] * 3, "start": [a for a, _ in pieces], "length": [n for _, n in pieces],
            "visit": [0, 1, 2], "score": pa.nulls(3, pa.float32()), "source": ["web"] * 3, "phase": ["all"] * 3,
            "rule": ["pieces"] * 3,
        }
    )  # fmt: skip
    shards = workspace.order.shards
    write_order(tmp_path, table, name="pieces", fingerprint="pieces", config={}, inputs=[], shards=shards)
    for T in (1, 7, 13, 39):
        one = OrderedLoader(Order.open(tmp_path), workspace.arrays, T, 1)
        inputs = torch.cat([inputs[0] for inputs, _ in one]).numpy()
        assert np.array_equal(inputs, workspace.arrays[0][: len(inputs)])
        assert len(inputs) == 39 // T * T


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


@pytest.mark.parametrize("world", [1, 2])
def test_documents_name_the_visit_of_every_token(workspace, world):
    for rank in range(world):
        loader = OrderedLoader(workspace.order, workspace.arrays, 16, 4, dp_rank=rank, dp_world=world)
        for step in (0, 7, loader.n_batches - 1):
            table, rows = loader.documents(step)
            inputs, targets = loader.batch(step)
            of_inputs, of_targets = loader.visit_numbers(step)
            flat = of_inputs.flatten().tolist()
            places = [workspace.order.locate(step * 64 + rank * (64 // world) + i) for i in range(64 // world)]
            assert flat == [visit for visit, _ in places]
            assert of_inputs.flatten()[1:].equal(of_targets.flatten()[:-1])
            visits = [table.slice(row, 1).to_pylist()[0] for row in rows.flatten().tolist()]
            found = [
                workspace.arrays[visit["shard"]][visit["start"] + offset]
                for visit, (_, offset) in zip(visits, places, strict=True)
            ]
            assert found == inputs.flatten().tolist()
            assert targets.shape == of_targets.shape
