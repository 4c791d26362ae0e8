"""Held-out loss: by token and document, shared by ranks, and without a trace in the model."""

from dataclasses import dataclass
from math import log

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from trainer_hooks.evaluation import HeldOut, document_nats, evaluate
from trainer_hooks.model import Decoder
from trainer_hooks.parallel import Parallel

LENGTHS = np.array([40, 1, 77, 30, 0, 19])


@pytest.fixture(scope="module")
def model(tiny):
    return Decoder(tiny.model, seed=1)


@pytest.fixture(scope="module")
def heldout():
    tokens = np.random.default_rng(3).integers(0, 128, LENGTHS.sum())
    return HeldOut(tokens, n_bytes=700, lengths=LENGTHS)


def losses_by_token(model, tokens, length):
    """Each token's loss but the first's, window by window, from the logits."""
    stream, found = torch.from_numpy(tokens), []
    for start in range(0, len(stream) - 1, length):
        ids = stream[start : min(start + length, len(stream) - 1)]
        targets = stream[start + 1 : start + 1 + len(ids)]
        found.append(F.cross_entropy(model(ids[None])[0].double(), targets, reduction="none"))
    return torch.cat(found).detach().numpy()


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_the_loss_is_the_mean_over_tokens_with_its_error_over_documents(model, heldout, batch):
    found = evaluate(model, heldout, 16, batch)
    losses = losses_by_token(model, heldout.tokens, 16)
    assert found.nats_per_token == pytest.approx(losses.mean(), abs=1e-6)
    assert found.bits_per_byte == pytest.approx(losses.mean() * len(heldout.tokens) / (700 * log(2)), abs=1e-6)
    document = np.repeat(np.arange(len(LENGTHS)), LENGTHS)[1:]
    off = losses - losses.mean()
    sums = np.array([off[document == d].sum() for d in np.unique(document)])
    expected = np.sqrt(len(sums) / (len(sums) - 1) * (sums**2).sum()) / len(losses)
    assert found.standard_error == pytest.approx(expected, rel=1e-5)


def test_the_nats_of_each_document_are_those_of_its_tokens(model, heldout):
    losses = losses_by_token(model, heldout.tokens, 16)
    document = np.repeat(np.arange(len(LENGTHS)), LENGTHS)[1:]
    expected = np.bincount(document, losses, len(LENGTHS))
    assert document_nats(model, heldout, 16, 3) == pytest.approx(expected, abs=1e-4)
    assert heldout.predicted().tolist() == [39, 1, 77, 30, 0, 19]


def test_bits_a_byte_follow_the_reference(tiny):
    """2.50 nats at 4.2 bytes a token are .8587 bits a byte; a model of equal logits has log(vocabulary) nats."""
    flat = Decoder(tiny.model)
    with torch.no_grad():
        flat.lm_head.weight.zero_()
    tokens = np.ones(1001, np.int64)
    found = evaluate(flat, HeldOut(tokens, round(4.2 * 1001 * log(128) / 2.5)), 32, 4)
    assert found.nats_per_token == pytest.approx(log(128), abs=1e-6)
    assert found.bits_per_byte == pytest.approx(0.8587, abs=1e-4)
    assert found.standard_error is None


@dataclass(frozen=True)
class OneOf(Parallel):
    """A rank whose sums are left as they are, for adding them up here."""

    def sum(self, tensor):
        return tensor


@pytest.mark.parametrize("world", [2, 3, 7])
def test_ranks_share_the_windows_and_call_the_model_equally_often(model, heldout, world):
    calls = []
    handle = model.register_forward_hook(lambda *_: calls.append(1))
    alone = evaluate(model, heldout, 16, 2)
    parts, counts = [], []
    for rank in range(world):
        calls.clear()
        parts.append(evaluate(model, heldout, 16, 2, parallel=OneOf(rank, world)))
        counts.append(len(calls))
    handle.remove()
    assert sum(part.nats_per_token for part in parts) == pytest.approx(alone.nats_per_token, abs=1e-12)
    assert len(set(counts)) == 1


def test_an_evaluation_leaves_no_trace(model, heldout):
    model.train()
    model.model.layers[0].eval()
    torch.manual_seed(1)
    before = torch.get_rng_state(), {name: value.clone() for name, value in model.state_dict().items()}
    evaluate(model, heldout, 16, 2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert all(torch.equal(before[1][name], value) for name, value in model.state_dict().items())
    assert model.training
    assert model.model.layers[1].training
    assert not model.model.layers[0].training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.is_grad_enabled()


def test_shards_bring_the_lengths_of_their_documents(workspace):
    found = HeldOut.from_shards(sorted((workspace.folder / "tokens").glob("*.npy")))
    assert found.lengths.tolist() == [40, 1, 77, 30, 55, 90, 16, 120, 33]
    assert found.n_bytes == 4 * len(found.tokens)
