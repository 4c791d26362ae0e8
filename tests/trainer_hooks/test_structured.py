"""Structured feed-forward matrices and the dense matrix that guides them for a while."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from trainer_hooks.feed_forward_kinds import BlockDense, BlockShuffle, Dense, LowRank
from trainer_hooks.model import Decoder, count_parameters
from trainer_hooks.model_config import ModelConfig
from trainer_hooks.model_size import parameter_count
from trainer_hooks.structured import guidance
from trainer_hooks.trainer import train

KINDS = [LowRank(rank=6), BlockDense(rank=8, blocks=4), BlockShuffle(blocks=4)]
IDS = ["low_rank", "block_dense", "block_shuffle"]


def shape(feed_forward) -> ModelConfig:
    return ModelConfig(vocabulary=64, hidden=64, layers=2, intermediate=96, heads=2, head_size=32,
                       feed_forward=feed_forward)  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        (Dense(), 4_194_304),
        (LowRank(rank=256), 1_310_720),
        (BlockShuffle(blocks=4), 1_310_720),
        (BlockDense(rank=512, blocks=4), 2_228_224),
    ],
)
def test_parameter_counts_are_the_published_formulas(kind, parameters):
    assert kind.parameters(1024, 4096) == parameters
    with torch.device("meta"):
        assert count_parameters(kind.make(1024, 4096)) == parameters


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
@pytest.mark.parametrize(("inputs", "outputs"), [(32, 48), (48, 32)])
def test_a_product_of_factors_is_the_matrix_that_its_definition_says(kind, inputs, outputs):
    layer = kind.make(inputs, outputs)
    layer.initialise(0.02, torch.Generator().manual_seed(0))
    first, second = layer.first.detach(), layer.second.detach()
    if first.ndim == 3:
        first = torch.block_diag(*first)
    if isinstance(kind, BlockShuffle):
        rows = first.shape[0]  # row k of a block goes to place k x blocks + block
        first = first[torch.arange(rows).view(kind.blocks, -1).t().reshape(-1)]
        second = torch.block_diag(*second)
    torch.testing.assert_close(layer.product(), second @ first)
    x = torch.randn(2, 3, inputs, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(layer(x), x @ layer.product().t())


@pytest.mark.parametrize("kind", [LowRank(rank=128), BlockDense(rank=256, blocks=4), BlockShuffle(blocks=4)], ids=IDS)
def test_the_product_starts_as_wide_as_a_dense_matrix_would(kind):
    layer = kind.make(512, 1024)
    layer.initialise(0.02, torch.Generator().manual_seed(0))
    assert float(layer.product().std()) == pytest.approx(0.02, rel=0.03)


def test_guidance_falls_along_a_half_cosine():
    assert [guidance(t, 400) for t in (0, 100, 200, 300, 400, 900)] == pytest.approx(
        [1, 0.85355, 0.5, 0.14645, 0, 0], abs=1e-5
    )


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_the_guide_starts_as_the_product_and_is_gone_at_the_end(kind):
    config = shape(kind.model_copy(update={"guided_tokens": 100}))
    model, free = Decoder(config, seed=4), Decoder(shape(kind), seed=4)
    ids = torch.randint(0, 64, (2, 9), generator=torch.Generator().manual_seed(0))
    model.set_progress(50)
    torch.testing.assert_close(model(ids), free(ids))
    layer = model.model.layers[0].mlp.up_proj
    with torch.no_grad():
        layer.dense.mul_(3)
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(1))
    for tokens, share in ((0, 1.0), (25, 0.85355), (75, 0.14645), (99, 0.000247)):
        model.set_progress(tokens)
        mixed = share * (x @ layer.dense.t()) + (1 - share) * layer.factors(x)
        torch.testing.assert_close(layer(x), mixed, rtol=1e-4, atol=1e-6)
    assert any("dense" in name for name, _ in model.named_parameters())
    model.set_progress(100)
    assert torch.equal(layer(x), layer.factors(x))
    assert torch.equal(model(ids), free(ids))
    assert {*model.state_dict()} == {*free.state_dict()}
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in free.named_parameters()]
    assert count_parameters(model) == parameter_count(config)


def test_the_guide_learns_while_it_is_there():
    model = Decoder(shape(LowRank(rank=6, guided_tokens=100)), seed=4)
    ids = torch.randint(0, 64, (2, 9))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for tokens in (0, 60, 100, 120):
        model.set_progress(tokens)
        model.loss(ids[:, :-1], ids[:, 1:]).backward()
        layer = model.model.layers[1].mlp.down_proj
        assert layer.first.grad is not None
        assert (layer.dense is None) == (tokens >= 100)
        assert layer.dense is None or bool(layer.dense.grad.any())
        optimizer.step()
        optimizer.zero_grad()


def test_blocks_that_do_not_divide_are_refused():
    with pytest.raises(ValidationError, match=r"64 -> 96 features: 5 blocks do not divide inputs \(64\) and outputs"):
        shape(BlockShuffle(blocks=5))
    with pytest.raises(ValidationError, match=r"4 blocks do not divide rank \(6\)"):
        shape(BlockDense(rank=6, blocks=4))


CHILD = """
import json, sys
import torch
from trainer_hooks.model import Decoder
from trainer_hooks.model_config import ModelConfig
from trainer_hooks.parallel import Parallel, whole
config, spreading = ModelConfig(**json.loads(sys.argv[1])), sys.argv[2]
torch.set_num_threads(1)
ids = torch.randint(0, 64, (4, 13), generator=torch.Generator().manual_seed(0))
documents = torch.arange(12).div(5, rounding_mode="floor").expand(4, 12)
with Parallel.join() as parallel:
    model, rows = Decoder(config, seed=1), slice(parallel.rank, None, parallel.world)
    spread = parallel.spread(model, spreading)
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=0.1), []
    for tokens in (0, 48, 96, 144):
        model.set_progress(tokens)
        total, _ = spread(ids[rows, :-1], ids[rows, 1:], documents[rows])
        (total * parallel.world / 48).backward()
        losses.append(float(parallel.sum(total.detach())) / 48)
        optimizer.step()
        optimizer.zero_grad()
    norms = {name: float(whole(value.detach()).norm()) for name, value in model.named_parameters()}
    if parallel.first:
        print(json.dumps([losses, norms]))
"""


def on_ranks(world: int, config: ModelConfig, spreading: str) -> tuple[list[float], dict[str, float]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {**os.environ, "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-c", CHILD, config.model_dump_json(), spreading]
    children = [
        subprocess.Popen(command, cwd=Path(__file__).parents[2], env={**shared, "RANK": str(rank)},
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for rank in range(world)
    ]  # fmt: skip
    outputs = [child.communicate(timeout=200) for child in children]
    assert all(child.returncode == 0 for child in children), outputs[0][1][-2500:]
    losses, norms = json.loads(outputs[0][0].splitlines()[-1])
    return losses, norms


@pytest.mark.slow
def test_two_ranks_equal_one_also_when_the_guide_leaves():
    config = shape(BlockDense(rank=8, blocks=4, guided_tokens=96)).model_copy(update={"qk_norm": True})
    losses, norms = on_ranks(1, config, "ddp")
    assert not any("dense" in name for name in norms)
    for spreading in ("ddp", "fsdp"):
        shared_losses, shared_norms = on_ranks(2, config, spreading)
        assert shared_losses == pytest.approx(losses, abs=1e-6), spreading
        assert shared_norms == pytest.approx(norms, rel=1e-5), spreading


def test_a_guided_run_is_resumed_on_either_side_of_its_border(workspace, tiny, tmp_path):
    kind = LowRank(rank=4, guided_tokens=12 * 64)
    config = tiny.model.model_copy(update={"feed_forward": kind})
    plan = tiny.plan(average={"kind": "step_ema", "half_life": 4 * 64}, checkpoint_every=4 * 64)

    def run(folder: Path, stop_at: int = 0):
        def at(progress):
            if progress.step == stop_at:
                raise KeyboardInterrupt

        return train(workspace.order, workspace.arrays, {}, config, plan, folder, device="cpu", on_step=at)

    whole = run(tmp_path / "whole")
    for stop_at in (9, 13, 18):
        folder = tmp_path / str(stop_at)
        with pytest.raises(KeyboardInterrupt):
            run(folder, stop_at)
        assert run(folder).resumed_from == stop_at // 4 * 4
        assert (folder / "metrics.jsonl").read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes()
    assert not any("dense" in name for name in load_file(whole.averages["step_ema"]))
