"""Two processes that shard every parameter (FSDP2, gloo) follow one process, for each optimizer."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.tensor import DTensor

from trainer_hooks.model import Decoder
from trainer_hooks.model_config import ModelConfig
from trainer_hooks.optimizers.kinds import AdamW, Apollo, ApolloMini, Frugal, Muon, OptimizerSettings, ScheduleFree
from trainer_hooks.optimizers.state import prepare_state
from trainer_hooks.parallel import Parallel, whole

UNEVEN = ModelConfig(vocabulary=91, hidden=32, layers=1, heads=2, kv_heads=1, head_size=32, intermediate=51, tied=False)
pytestmark = pytest.mark.slow  # two processes that load torch
KINDS: dict[str, OptimizerSettings] = {
    "adamw": AdamW(),
    "muon": Muon(),
    "muon in fp32": Muon(ns_precision="fp32"),
    "apollo": Apollo(every=3),
    "apollo_mini": ApolloMini(every=3),
    "frugal": Frugal(every=3),
    "frugal columns": Frugal(every=3, unit="columns"),
    "schedule_free": ScheduleFree(),
}
STEPS, LR = 7, 0.005


def follow(settings: OptimizerSettings, parallel: Parallel, given: bool) -> dict[str, Any]:
    """Weights, state and average after some steps: along given gradients, or along those of a loss over all ranks."""
    model = Decoder(UNEVEN)
    spread = parallel.spread(model, "fsdp")
    optimizer: Any = settings.make(model, LR, seed=3)
    prepare_state(optimizer)
    for step in range(STEPS):
        draw = torch.Generator().manual_seed(step)
        ids = torch.randint(0, 91, (4, 9), generator=draw)
        mine = ids[parallel.rank * 4 // parallel.world : (parallel.rank + 1) * 4 // parallel.world]
        total, _ = spread(mine[:, :-1], mine[:, 1:])
        (total / mine[:, 1:].numel()).backward()
        if given:
            give_gradients(model, draw, size=5.0 if step == 2 else 1.0)
        optimizer.step()
        optimizer.zero_grad()
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = {f"model|{name}": whole(parameter.detach()) for parameter, name in names.items()}
    for parameter, name in names.items():
        found |= {f"{name}|{key}": whole(value) for key, value in optimizer.state[parameter].items()}
    if hasattr(optimizer, "average"):
        found |= {f"average|{name}": whole(value) for name, value in optimizer.average().items()}
        with optimizer.swapped(model), torch.no_grad():
            found["evaluation"] = spread(ids[:, :-1], ids[:, 1:])[0]
        found["evaluation after"] = spread(ids[:, :-1], ids[:, 1:])[0].detach()
    return {name: value.clone() for name, value in found.items()}


@torch.no_grad()
def give_gradients(model: Decoder, draw: torch.Generator, size: float) -> None:
    """Replace gradients by random ones, the same for any number of ranks; the loss made them with their shards."""
    for parameter in model.parameters():
        grad = parameter.grad
        assert grad is not None
        full = torch.randn(parameter.shape, generator=draw) * size
        if isinstance(grad, DTensor):
            rows = -(-full.shape[0] // dist.get_world_size())
            grad.to_local().copy_(full[rows * dist.get_rank() : rows * (dist.get_rank() + 1)])
        else:
            grad.copy_(full)


def both(parallel: Parallel) -> dict[tuple[str, bool], dict[str, Any]]:
    torch.set_num_threads(1)
    return {(name, given): follow(kind, parallel, given) for name, kind in KINDS.items() for given in (True, False)}


def run_rank(rank: int, folder: str) -> None:
    """One of two processes; both save what they gathered."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    results = both(Parallel(rank, 2))
    torch.save(results, f"{folder}/rank-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Any]:
    """What one process finds, and what each of two does."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    mp.spawn(run_rank, (str(folder),), nprocs=2)
    threads = torch.get_num_threads()
    alone = both(Parallel())
    torch.set_num_threads(threads)
    return alone, torch.load(folder / "rank-0.pt"), torch.load(folder / "rank-1.pt")


@pytest.mark.parametrize("name", KINDS)
def test_two_ranks_equal_one(results: tuple[Any, Any, Any], name: str) -> None:
    """Weights, moments, norms and averages after steps along the same gradients."""
    alone, first, second = (result[name, True] for result in results)
    assert alone.keys() == first.keys() == second.keys()
    for key, value in alone.items():
        assert torch.equal(first[key], second[key]), key
        torch.testing.assert_close(first[key], value, atol=2e-6, rtol=1e-5, msg=key)


@pytest.mark.parametrize("name", [name for name in KINDS if name != "muon"])
def test_two_ranks_train_like_one(results: tuple[Any, Any, Any], name: str) -> None:
    """Along gradients of a loss, whose sums are taken in another order. In bf16 Muon's iteration makes much of that."""
    alone, first, second = (result[name, False] for result in results)
    for key, value in alone.items():
        assert torch.equal(first[key], second[key]), key
        torch.testing.assert_close(first[key], value, atol=1e-5, rtol=1e-3, msg=key)


def test_the_ranks_do_move_the_weights(results: tuple[Any, Any, Any]) -> None:
    for name in KINDS:
        for key, value in Decoder(UNEVEN).named_parameters():
            assert (results[1][name, True][f"model|{key}"] - value).abs().max() > LR
