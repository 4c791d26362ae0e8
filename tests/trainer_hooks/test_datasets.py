"""The order as torch datasets: the loader's batches through workers, other trainers' loaders, and exact state."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler

from corpus.errors import ConfigError
from curriculum.order import Order
from curriculum.order_shards import TokenShards
from trainer_hooks.datasets import OrderDataset, OrderStream, prefetched
from trainer_hooks.loader import OrderedLoader

T, BATCH = 16, 8


def loader(workspace, rank=0, world=1, **options):
    return OrderedLoader(workspace.order, workspace.arrays, T, BATCH, rank, world, **options)


def same(got, want):
    assert len(got) == len(want)
    assert all(
        torch.equal(a, b) for pair, other in zip(got, want, strict=True) for a, b in zip(pair, other, strict=True)
    )


def test_an_item_is_a_sample_of_the_stream_and_its_shift(workspace):
    data = OrderDataset(workspace.order, workspace.arrays, T)
    assert len(data) == (len(workspace.stream) - 1) // T
    for sample in (0, 7, len(data) - 1):
        item = data[sample]
        assert np.array_equal(item["input_ids"], workspace.stream[sample * T : (sample + 1) * T])
        assert np.array_equal(item["shift_labels"], workspace.stream[sample * T + 1 : (sample + 1) * T + 1])
        assert torch.equal(item["labels"], item["input_ids"])
    for outside in (-1, len(data)):
        with pytest.raises(IndexError, match="samples 0 to"):
            data[outside]


@pytest.mark.parametrize("world", [1, 2, 4])
def test_torch_samplers_over_the_dataset_read_the_global_batches_of_the_loader(workspace, world):
    data = OrderDataset(workspace.order, workspace.arrays, T)
    ranks = [
        iter(DataLoader(data, BATCH // world, sampler=DistributedSampler(data, world, rank, shuffle=False)))
        for rank in range(world)
    ]
    for inputs, _ in list(loader(workspace))[:5]:
        in_turn = torch.stack([next(rank)["input_ids"] for rank in ranks], dim=1)  # sample g is on rank g mod world
        assert torch.equal(in_turn.flatten(0, 1), inputs)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine with fewer cores
@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_any_number_of_workers_hands_out_the_same_batches(workspace, workers):
    same(list(prefetched(loader(workspace), workers)), list(loader(workspace)))


@pytest.mark.parametrize(("before", "after"), [((1, 2), (4, 1)), ((4, 0), (1, 2)), ((2, 2), (8, 0))])
def test_state_is_exact_for_other_numbers_of_workers_and_ranks(workspace, before, after):
    """What was read ahead does not count: the next global batch is the one after the last handed out."""
    (world, workers), straight = before, list(loader(workspace))
    first = [loader(workspace, rank, world) for rank in range(world)]
    for rank in first:
        batches = prefetched(rank, workers)
        for _ in range(5):
            next(batches)
        batches.close()
        assert rank.state_dict() == {"next_sample": 5 * BATCH, "order_fingerprint": workspace.order.fingerprint}
    world, workers = after
    again = [loader(workspace, rank, world) for rank in range(world)]
    for rank in again:
        rank.load_state_dict(first[0].state_dict())
    parts = [list(prefetched(rank, workers)) for rank in again]
    same(
        [tuple(torch.cat(side) for side in zip(*step, strict=True)) for step in zip(*parts, strict=True)], straight[5:]
    )


def test_skipped_ranges_are_skipped_by_workers_too(workspace):
    skip = ((2 * BATCH, 5 * BATCH), (6 * BATCH, 7 * BATCH))
    straight = list(loader(workspace))
    want = straight[:2] + straight[5:6] + straight[7:]
    for workers in (0, 2):
        same(list(prefetched(loader(workspace, skip=skip), workers)), want)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 2, 3])
def test_each_worker_goes_on_at_its_own_state(workspace, workers):
    """What torchdata's StatefulDataLoader does: it keeps a state for each worker and gives it back to that worker."""
    torchdata = pytest.importorskip("torchdata.stateful_dataloader", reason="torchdata is not installed")

    def stateful():
        return torchdata.StatefulDataLoader(OrderStream(loader(workspace)), batch_size=None, num_workers=workers)

    straight = list(loader(workspace))
    for done in (0, 1, 5):
        first = stateful()
        reading = iter(first)
        for _ in range(done):
            next(reading)
        second = stateful()
        second.load_state_dict(first.state_dict())
        same([(item["input_ids"], item["shift_labels"]) for item in second], straight[done:])


def test_a_worker_started_afresh_maps_the_order_itself(workspace):
    """Spawned workers get paths, not gigabytes of arrays."""
    arrays = TokenShards(workspace.folder / name for name in workspace.order.shards)
    one = OrderedLoader(workspace.order, arrays, T, BATCH)
    sent = pickle.dumps(OrderStream(one))
    assert len(sent) < 5_000
    same([(i["input_ids"], i["shift_labels"]) for i in pickle.loads(sent)], list(loader(workspace)))
    assert isinstance(pickle.loads(pickle.dumps(workspace.order)), Order)


def test_no_fewer_than_no_workers(workspace):
    with pytest.raises(ConfigError, match="-1 workers"):
        next(prefetched(loader(workspace), -1))


def test_hugging_face_models_get_the_target_of_every_position(workspace):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    model = _model(transformers)
    item = OrderDataset(workspace.order, workspace.arrays, T)[3]
    out = model(**{name: values[None] for name, values in item.items()})
    want = torch.nn.functional.cross_entropy(out.logits[0], item["shift_labels"])
    torch.testing.assert_close(out.loss, want)


def test_the_hugging_face_trainer_reads_the_order_and_resumes_in_it(workspace, tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    data = OrderDataset(workspace.order, workspace.arrays, T)

    class Recording(transformers.Trainer):
        def compute_loss(self, model, inputs, *args, **options):
            seen.append((inputs["input_ids"].clone(), inputs["shift_labels"].clone()))
            return super().compute_loss(model, inputs, *args, **options)

    def train(steps, resume):
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path), max_steps=steps, per_device_train_batch_size=BATCH, save_steps=3, use_cpu=True,
            train_sampling_strategy="sequential", remove_unused_columns=False, report_to=[], disable_tqdm=True,
        )  # fmt: skip
        Recording(_model(transformers), arguments, train_dataset=data).train(resume_from_checkpoint=resume)

    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    train(3, None)
    train(6, True)
    same(seen, list(loader(workspace))[:6])


def _model(transformers):
    config = transformers.LlamaConfig(
        vocab_size=128, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    return transformers.LlamaForCausalLM(config)
