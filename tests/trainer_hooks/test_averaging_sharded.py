"""Averages of a model spread over two ranks with FSDP2: local shards, the bits of one process, resumable by one."""

import json
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from corpus.config import validated
from trainer_hooks.averaging import unique_tensors
from trainer_hooks.plan import Plan
from trainer_hooks.resolution import resolve
from trainer_hooks.stored_weights import read_weights

pytestmark = pytest.mark.slow
AVERAGES = {
    "wma": {"kind": "wma", "last": 4, "window": 60},
    "lawa": {"kind": "lawa", "last": 3, "every": 20},
    "step_ema": {"kind": "step_ema", "half_life": 30},
}
STOP, TOKENS = 60, 100


class Net(torch.nn.Module):
    """Uneven over two ranks, with tied weights and a buffer."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.a, self.b, self.c = (torch.nn.Linear(6, 5), torch.nn.Linear(5, 6), torch.nn.Linear(6, 5, bias=False))
        self.c.weight = self.a.weight
        self.register_buffer("steps", torch.tensor(seed))

    def forward(self, x):
        return self.b(self.c(torch.relu(self.b(self.a(x)))))


def averages(model):
    data = {"tokens": TOKENS, "sequence_length": 10, "batch_sequences": 1, "peak_lr": 1.0,
            "phases": [{"stable": "100%"}], "average": AVERAGES}  # fmt: skip
    return {name: found.averager(model) for name, found in resolve(validated(Plan, data, "plan")).averages.items()}


@torch.no_grad()
def become(model, seed):
    """Give a model, sharded or not, the weights of the net of a seed."""
    given = unique_tensors(Net(seed))
    for name, value in unique_tensors(model).items():
        if isinstance(value, DTensor):
            whole = given[name].chunk(value.device_mesh.size())
            rank = value.device_mesh.get_local_rank()
            value.to_local().copy_(whole[rank] if rank < len(whole) else given[name][:0])
        else:
            value.copy_(given[name])


def follow(found, model, after=0, until=TOKENS):
    for tokens in range(after + 10, until + 1, 10):
        become(model, tokens)
        for average in found.values():
            if average.resolved.takes(tokens):
                average.update(model, tokens)


def one_process(until):
    model = Net()
    found = averages(model)
    follow(found, model, until=until)
    return found


def _rank(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/join", rank=rank, world_size=2)
    mesh, model = init_device_mesh("cpu", (2,)), Net()
    fully_shard(model, mesh=mesh)
    found = averages(model)
    follow(found, model, until=STOP)
    tensors = {f"{name}|{key}": value for name, average in found.items() for key, value in average.tensors().items()}
    assert any(isinstance(value, DTensor) for value in tensors.values())
    writer = HuggingFaceStorageWriter(f"{folder}/saved", save_distributed=True)
    dcp.save(tensors, storage_writer=writer)
    weights = {f"model|{name}": value for name, value in unique_tensors(model).items()}
    dcp.save(weights, storage_writer=HuggingFaceStorageWriter(f"{folder}/weights", save_distributed=True))
    if rank == 0:
        states = {name: average.state() for name, average in found.items()}
        Path(folder, "states.json").write_text(json.dumps(states))
    follow(found, model, after=STOP)
    x, alone = torch.ones(2, 6), one_process(TOKENS)
    for name, average in found.items():
        for key, value in average.average().items():
            whole = value.full_tensor() if isinstance(value, DTensor) else value
            assert torch.equal(whole, alone[name].average()[key]), (name, key)
        _check_swap(average, alone[name], model, x)
    dist.barrier()
    dist.destroy_process_group()


@torch.no_grad()
def _check_swap(average, alone, model, x):
    """An evaluation sees the average, the one after it the model's own weights, though FSDP2 keeps what it gathered."""
    single = Net()
    become(single, TOKENS)
    own = single(x)
    torch.testing.assert_close(model(x), own)
    with average.swapped(model), alone.swapped(single):
        torch.testing.assert_close(model(x), single(x))
        assert not torch.allclose(single(x), own)
    torch.testing.assert_close(model(x), own)


def test_two_ranks_average_as_one_and_one_goes_on_from_two(tmp_path):
    mp.spawn(_rank, args=(str(tmp_path),), nprocs=2)
    weights = read_weights(tmp_path / "weights")
    assert all(torch.equal(value, weights[name]) for name, value in unique_tensors(_at(STOP)).items())
    model, states = Net(), json.loads((tmp_path / "states.json").read_text())
    found, straight = averages(model), one_process(TOKENS)
    named = {f"{name}|{key}": value for name, average in found.items() for key, value in average.tensors().items()}
    dcp.load(named, storage_reader=HuggingFaceStorageReader(str(tmp_path / "saved")), no_dist=True)
    for name, average in found.items():
        average.load(states[name], average.tensors())
    follow(found, model, after=STOP)
    for name, average in found.items():
        for key, value in straight[name].average().items():
            assert torch.equal(average.average()[key], value), (name, key)


def _at(seed):
    model = Net()
    become(model, seed)
    return model
