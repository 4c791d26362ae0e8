"""From a mixture to global batches: ranks, resumes and edits of a later phase change nothing that was read."""

import numpy as np
import pytest
import torch

from curriculum.arrange import stream
from curriculum.duckdb_engine import DuckDBEngine
from curriculum.order import Order, write_order
from mixtures.allocate import allocate
from mixtures.available import available
from mixtures.config import MixtureConfig
from mixtures.draw import draw
from mixtures.mixed_orders import mixed_orders
from tests.curriculum.making import pool
from trainer_hooks.loader import OrderedLoader

T, BATCH, SEED = 16, 8, 5
rng = np.random.default_rng(0)
SOURCES = {name: rng.integers(1, 60, 200).tolist() for name in ("web", "code", "old")}
POOL = pool(SOURCES)
ARRAYS = [rng.integers(0, 60_000, sum(lengths)).astype(np.uint16) for lengths in SOURCES.values()]
FIRST_PHASE = 8_000


def order_of(folder, last, *, turns=None):
    """The order of a mixture of two phases and a ramp, whose second phase asks for `last`."""
    config = MixtureConfig.model_validate(
        {
            "tokens": 12_000, "turns": turns,
            "sources": {"web": "60%", "code": "30%", "old": {"share": "10%", "sequence": "original"}},
            "phases": [
                {"name": "stable", "tokens": FIRST_PHASE},
                {"name": "anneal", "tokens": 4_000, "ramp": 800, "sources": last},
            ],
        }
    )  # fmt: skip
    allocation = allocate(available(POOL, config), config)
    visits = draw(POOL, allocation, SEED)
    rows = stream(visits, mixed_orders(allocation, SEED), phases=allocation.phases, engine=DuckDBEngine())
    fixed = {"name": "orders/a", "fingerprint": "0" * 16, "config": {}, "inputs": [], "shards": ["a", "b", "c"]}
    write_order(folder, rows, **fixed)
    return Order.open(folder)


def global_batch(order, step, world):
    """The batch of all ranks together, inputs and targets."""
    ranks = [OrderedLoader(order, ARRAYS, T, BATCH, rank, world).batch(step) for rank in range(world)]
    return torch.stack([torch.cat(side) for side in zip(*ranks, strict=True)])


@pytest.fixture(scope="module", params=[None, T], ids=["documents", "turns"])
def orders(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixtures")
    first = order_of(folder / "a", {"web": "20%", "code": "50%", "old": "30%"}, turns=request.param)
    return first, order_of(folder / "b", {"web": "90%", "code": "5%", "old": "5%"}, turns=request.param)


@pytest.mark.parametrize("world", [2, 4, 8])
def test_the_same_global_batches_for_any_number_of_ranks(orders, world):
    steps = OrderedLoader(orders[0], ARRAYS, T, BATCH).n_batches
    assert steps == (12_000 - 1) // T // BATCH
    for step in range(0, steps, 7):
        assert torch.equal(global_batch(orders[0], step, world), global_batch(orders[0], step, 1))


def test_a_resume_with_another_number_of_ranks_goes_on_with_the_same_batches(orders):
    before = [OrderedLoader(orders[0], ARRAYS, T, BATCH, rank, 4) for rank in range(4)]
    for loader in before:
        for _ in range(13):
            loader.next_batch()
    after = [OrderedLoader(orders[0], ARRAYS, T, BATCH, rank, 2) for rank in range(2)]
    for loader in after:
        loader.load_state_dict(before[0].state_dict())
    for step in range(13, 20):
        parts = [loader.next_batch() for loader in after]
        got = torch.stack([torch.cat(side) for side in zip(*parts, strict=True)])
        assert torch.equal(got, global_batch(orders[0], step, 1))


@pytest.mark.parametrize("world", [1, 8])
def test_an_edit_of_the_later_phase_leaves_the_batches_before_it(orders, world):
    first, edited = orders
    border = FIRST_PHASE // (T * BATCH)
    for step in range(border):
        whole = step < border - 1  # the last target of the last batch is the first token of the next phase
        a, b = global_batch(first, step, world), global_batch(edited, step, world)
        assert torch.equal(a, b) if whole else torch.equal(a.flatten()[:-1], b.flatten()[:-1])
    steps = OrderedLoader(first, ARRAYS, T, BATCH).n_batches
    assert any(
        not torch.equal(global_batch(first, step, 1), global_batch(edited, step, 1)) for step in range(border, steps)
    )
