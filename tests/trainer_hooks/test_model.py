"""The decoder and its fused loss: equal to the plain formulas, to transformers' Llama, and to itself."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from trainer_hooks import attention
from trainer_hooks.linear_loss import linear_cross_entropy
from trainer_hooks.model import Decoder, compile_model, count_parameters
from trainer_hooks.model_config import ModelConfig
from trainer_hooks.trainer import train

QWEN = ModelConfig(vocabulary=96, hidden=64, layers=2, heads=2, kv_heads=1, head_size=64, intermediate=80, qk_norm=True)
SHAPES = [
    ModelConfig(vocabulary=96, hidden=48, layers=2, heads=2, kv_heads=1, head_size=32, intermediate=80),
    ModelConfig(vocabulary=96, hidden=96, layers=1, heads=3, head_size=64, intermediate=80, tied=False),
]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 1300), st.integers(2, 40), st.integers(0, 2**31))
def test_fused_loss_and_gradients_equal_the_plain_ones(n, vocabulary, seed):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, 8, generator=generator, dtype=torch.float64)
    weight = torch.randn(vocabulary, 8, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, vocabulary, (n,), generator=generator)
    a = [hidden.clone().float().requires_grad_(), weight.clone().float().requires_grad_()]
    b = [hidden.clone().requires_grad_(), weight.clone().requires_grad_()]
    targets[torch.rand(n, generator=generator) < 0.2] = -100
    ours, losses = linear_cross_entropy(a[0], a[1], targets)
    each = F.cross_entropy(b[0] @ b[1].t(), targets, reduction="none")
    plain = each.sum()
    (3 * ours / n).backward()
    (3 * plain / n).backward()
    assert (losses.dtype, losses.requires_grad) == (torch.float32, False)
    torch.testing.assert_close(losses.double(), each.detach(), rtol=1e-5, atol=1e-5)
    # float32 logits of about 10 are right to 1e-6, whatever is left of them in a small loss
    assert float(ours.detach()) == pytest.approx(float(plain.detach()), rel=1e-5, abs=2e-6 * n)
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x.grad.double(), y.grad, rtol=1e-4, atol=1e-6)


def test_loss_is_finite_for_extreme_logits():
    hidden, weight = torch.full((2, 1), 1e4, requires_grad=True), torch.tensor([[1.0], [-1.0]], requires_grad=True)
    loss, _ = linear_cross_entropy(hidden, weight, torch.tensor([0, 1]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(2e4)
    assert torch.isfinite(weight.grad).all()


@pytest.mark.parametrize("config", SHAPES)
def test_loss_is_the_cross_entropy_of_the_logits(config):
    model, ids = Decoder(config, seed=1), torch.randint(0, 96, (3, 18))
    logits = model(ids[:, :-1])
    plain = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
    torch.testing.assert_close(model.loss(ids[:, :-1], ids[:, 1:]), plain)
    with torch.no_grad():
        torch.testing.assert_close(model.loss(ids[:, :-1], ids[:, 1:]), plain)


@pytest.mark.parametrize("config", [*SHAPES, QWEN])
@pytest.mark.parametrize("multiplied_out", [True, False])
def test_logits_and_gradients_equal_transformers(config, multiplied_out, monkeypatch):
    import transformers

    from trainer_hooks.export import llama_config

    monkeypatch.setattr(attention, "MULTIPLIED_OUT", 512 if multiplied_out else 0)
    ours = Decoder(config, seed=3)
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if "norm" in name:
                parameter.copy_(torch.rand(parameter.shape, generator=torch.Generator().manual_seed(len(name))) + 0.5)
    kind = "Qwen3" if config.qk_norm else "Llama"
    theirs = getattr(transformers, f"{kind}ForCausalLM")(
        getattr(transformers, f"{kind}Config")(**llama_config(config, eos_id=0))
    )
    missing = theirs.load_state_dict(ours.state_dict(), strict=True)
    assert not missing.missing_keys
    ids = torch.randint(0, 96, (2, 21), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=1e-4, atol=1e-5)
    ours.loss(ids[:, :-1], ids[:, 1:]).backward()
    theirs(input_ids=ids, labels=ids).loss.backward()
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients.pop(name), rtol=1e-3, atol=1e-5)
    assert not gradients


@pytest.mark.parametrize("config", [*SHAPES, QWEN])
@pytest.mark.parametrize("multiplied_out", [True, False])
def test_masked_documents_are_read_as_if_alone(config, multiplied_out, monkeypatch):
    monkeypatch.setattr(attention, "MULTIPLIED_OUT", 512 if multiplied_out else 0)
    model, lengths = Decoder(config, seed=0), [[7, 1, 4], [3, 9]]
    ids = torch.randint(0, 96, (2, 12), generator=torch.Generator().manual_seed(0))
    documents = torch.tensor([[number for number, n in enumerate(row) for _ in range(n)] for row in lengths])
    targets = ids.roll(-1, dims=1).where(documents == documents.roll(-1, dims=1), -100)
    logits, whole, alone = model(ids, documents_BT=documents), model.loss(ids, targets, documents), []
    for row, parts in enumerate(lengths):
        for part, expected in zip(ids[row].split(parts), logits[row].split(parts), strict=True):
            torch.testing.assert_close(model(part[None])[0], expected, rtol=1e-4, atol=1e-5)
            alone.append(F.cross_entropy(expected[:-1], part[1:], reduction="sum"))
    torch.testing.assert_close(whole, sum(alone) / int((targets != -100).sum()))
    assert not torch.allclose(model(ids), logits)


@pytest.mark.slow
def test_compiled_training_gives_the_losses_and_gradients_of_the_plain_one():
    plain, compiled = Decoder(SHAPES[0], seed=0), Decoder(SHAPES[0], seed=0)
    compile_model(compiled)
    ids = torch.randint(0, 96, (2, 40), generator=torch.Generator().manual_seed(0))
    targets = ids[:, 1:].where(ids[:, 1:] > 9, -100)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
        for model in (plain, compiled):
            model.zero_grad()
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                model.loss(ids[:, :-1], targets).backward()
        for a, b in zip(plain.parameters(), compiled.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=tolerance, atol=tolerance * float(a.grad.abs().max()))
    with torch.no_grad():
        assert torch.equal(plain.loss(ids[:, :-1], targets), compiled.loss(ids[:, :-1], targets))


def test_a_token_sees_only_what_lies_before_it():
    model = Decoder(SHAPES[0], seed=0)
    ids = torch.randint(0, 96, (1, 12))
    changed = ids.clone()
    changed[0, 7] = (changed[0, 7] + 1) % 96
    torch.testing.assert_close(model(ids)[0, :7], model(changed)[0, :7])
    assert not torch.allclose(model(ids)[0, 7:], model(changed)[0, 7:])


def test_a_seed_names_one_model():
    one, same, other = Decoder(SHAPES[0], 5), Decoder(SHAPES[0], 5), Decoder(SHAPES[0], 6)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)
    assert count_parameters(Decoder(ModelConfig(vocabulary=4096))) == 1_377_408


def test_shapes_that_vllm_cannot_serve_are_refused():
    with pytest.raises(ValidationError, match="head_size must be one of"):
        ModelConfig(vocabulary=10, head_size=48)
    with pytest.raises(ValidationError, match="multiple of kv_heads"):
        ModelConfig(vocabulary=10, heads=3, kv_heads=2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_and_cpu_agree():
    model, ids = Decoder(SHAPES[0], seed=2), torch.randint(0, 96, (2, 40))
    cpu = model.loss(ids[:, :-1], ids[:, 1:])
    gpu = model.cuda().loss(ids[:, :-1].cuda(), ids[:, 1:].cuda())
    assert float(gpu) == pytest.approx(float(cpu), rel=1e-4)


@pytest.mark.slow
def test_a_compiled_run_is_resumed_to_the_same_bits(workspace, tiny, tmp_path):
    plan = tiny.plan(compile=True, precision="bf16", checkpoint_every=4 * 64, eval_every=8 * 64)

    def run(folder, stop_at=0):
        def at(progress):
            if progress.step == stop_at:
                raise KeyboardInterrupt

        return train(
            workspace.order, workspace.arrays, workspace.heldout, tiny.model, plan, folder, device="cpu", on_step=at
        )

    run(tmp_path / "whole")
    torch._dynamo.reset()  # as a new process would begin, with nothing compiled
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "again", 14)
    torch._dynamo.reset()
    assert run(tmp_path / "again").resumed_from == 12
    assert (tmp_path / "again/metrics.jsonl").read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes()
