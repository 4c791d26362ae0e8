"""Distillation and ensembles: golden values, autograd as the oracle, and what teachers must be."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from corpus.config import validated
from corpus.errors import ConfigError
from trainer_hooks.averaging import unique_tensors
from trainer_hooks.evaluation import HeldOut
from trainer_hooks.export import llama_config
from trainer_hooks.linear_loss import CHUNK_TOKENS, IGNORED, linear_cross_entropy
from trainer_hooks.model import Decoder
from trainer_hooks.objectives.distill import DistillObjective, distillation_loss
from trainer_hooks.objectives.ensemble import Ensemble, ensemble_loss, evaluate_ensemble, last_states
from trainer_hooks.objectives.kinds import Distill

GOLDEN = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3]]).log()
MEANS, LOG_Z = (0.43326, 0.36617, 0.20056), -0.14665


def fixed(log_probabilities, n=1):
    """The state of a model that predicts these log-probabilities (V,) everywhere."""
    return torch.ones(n, 1), log_probabilities[:, None]


def drawn(n=5, hidden=8, vocabulary=11, seed=0):
    """Hidden states, an output matrix and targets, of which some are not predicted."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, vocabulary, (n,), generator=generator)
    targets[1::3] = IGNORED
    return torch.randn(n, hidden, generator=generator), torch.randn(vocabulary, hidden, generator=generator), targets


def test_golden_ensemble_and_its_log_z():
    states = [fixed(row) for row in GOLDEN]
    losses = torch.stack([ensemble_loss(states, torch.tensor([token]))[1] for token in range(3)])[:, 0]
    np.testing.assert_allclose((-losses).exp(), MEANS, atol=5e-6)
    np.testing.assert_allclose(losses + GOLDEN.mean(0), [LOG_Z] * 3, atol=5e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.floats(0.1, 8), st.integers(0, 10**6))
def test_an_ensemble_is_the_mean_member_plus_log_z_and_never_worse(members, scale, seed):
    states = [drawn(seed=seed + i)[:2] for i in range(members)]
    states = [(hidden * scale, weight) for hidden, weight in states]
    targets = drawn(seed=seed)[2]
    log_probabilities = torch.stack([F.log_softmax((h @ w.t()).double(), 1) for h, w in states])
    log_z = log_probabilities.mean(0).logsumexp(1)
    predicted = targets != IGNORED
    mean = -log_probabilities.mean(0).gather(1, targets.clamp(min=0)[:, None])[:, 0]
    total, losses = ensemble_loss(states, targets)
    torch.testing.assert_close(losses.double(), (mean + log_z) * predicted, rtol=1e-4, atol=1e-4)
    assert torch.all(log_z <= 1e-9)
    assert total == losses.sum()


@pytest.mark.parametrize("n_teachers", [1, 3])
@pytest.mark.parametrize(("weight", "temperature"), [(0.0, 1.0), (0.3, 1.0), (0.5, 2.5), (1.0, 0.7)])
def test_loss_and_gradients_are_those_of_autograd(weight, temperature, n_teachers, monkeypatch):
    monkeypatch.setattr("trainer_hooks.linear_loss.CHUNK_TOKENS", 4)  # several chunks, the last one short
    hidden, matrix, targets = drawn(n=10)
    teachers = [drawn(n=10, hidden=4 + i, seed=9 + i)[:2] for i in range(n_teachers)]
    ours, plain = ([part.clone().requires_grad_() for part in (hidden, matrix)] for _ in range(2))
    total, losses = distillation_loss(*ours, targets, teachers, weight, temperature)
    (3 * total).backward()

    logits = plain[0] @ plain[1].t()
    taught = F.log_softmax(sum(F.log_softmax(h @ w.t(), 1) for h, w in teachers) / n_teachers / temperature, 1)
    own = F.log_softmax(logits / temperature, 1)
    divergence = F.kl_div(own, taught, log_target=True, reduction="none").sum(1) * (targets != IGNORED)
    each = (1 - weight) * F.cross_entropy(logits, targets, reduction="none") + weight * temperature**2 * divergence
    (3 * each.sum()).backward()
    torch.testing.assert_close(losses, each.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(total.detach(), each.sum().detach(), rtol=1e-5, atol=1e-5)
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5)


def test_without_weight_it_is_cross_entropy_to_the_bit():
    hidden, matrix, targets = drawn(n=CHUNK_TOKENS + 30)
    grads = []
    for loss in (linear_cross_entropy, lambda *of: distillation_loss(*of, [(hidden, matrix * 2)], 0.0, 1.0)):
        parts = [part.clone().requires_grad_() for part in (hidden, matrix)]
        total, losses = loss(*parts, targets)
        total.backward()
        grads.append((total.detach(), losses, *(part.grad for part in parts)))
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_a_student_equal_to_its_teacher_is_not_pulled(tiny):
    model = Decoder(tiny.model, seed=1)
    ids = torch.randint(0, tiny.model.vocabulary, (2, 16), generator=torch.Generator().manual_seed(0))
    states = last_states(model, ids, None)
    total, _ = model(ids, ids, None, lambda *of: distillation_loss(*of, [states], 1.0, 2.0))
    total.backward()
    assert abs(total.item()) < 1e-4
    assert max(float(p.grad.abs().max()) for p in model.parameters()) < 1e-4


def exported(folder, config, seed):
    """An export folder with weights of a seed, as far as loading needs it."""
    folder.mkdir()
    weights = {name: tensor.detach() for name, tensor in unique_tensors(Decoder(config, seed)).items()}
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(llama_config(config, 0)))
    return str(folder)


@pytest.fixture(scope="module")
def teachers(tmp_path_factory, tiny):
    """Three exports: two of one shape, and one wider."""
    root = tmp_path_factory.mktemp("teachers")
    wide = tiny.model.model_copy(update={"hidden": 64, "layers": 1})
    shapes = {"a": (tiny.model, 1), "b": (tiny.model, 2), "wide": (wide, 3)}
    return {name: exported(root / name, config, seed) for name, (config, seed) in shapes.items()}


def objective_of(*paths, **changes):
    settings = validated(Distill, {"teachers": paths, **changes}, "objective")
    objective = settings.make()
    assert isinstance(objective, DistillObjective)
    return objective


def test_the_objective_reads_its_teachers_and_gives_each_step_of_training_their_word(tiny, teachers):
    objective = objective_of(teachers["a"], teachers["wide"], weight=1.0)
    student = Decoder(tiny.model, seed=5)
    objective.start(student, torch.device("cpu"))
    ids = torch.randint(0, tiny.model.vocabulary, (4, 16), generator=torch.Generator().manual_seed(0))
    ensemble = Ensemble([Decoder(tiny.model, 1), Decoder(tiny.model.model_copy(update={"hidden": 64, "layers": 1}), 3)])
    optimizer, seen = torch.optim.AdamW(student.parameters(), lr=0.01), []
    for _ in range(12):
        total, losses = student(ids, ids, None, objective.head(ids, None))
        total.backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(float(total))
        own, taught = F.log_softmax(student(ids), -1), F.log_softmax(ensemble(ids), -1)
    assert losses.shape == (64,)
    assert seen[-1] < 0.5 * seen[0]
    apart = F.kl_div(own, taught, log_target=True, reduction="sum")
    assert float(apart) < seen[0]


def test_documents_are_masked_for_teachers_too(tiny, teachers):
    objective = objective_of(teachers["a"], weight=1.0)
    student = Decoder(tiny.model, seed=1)  # the teacher's own weights
    objective.start(student, torch.device("cpu"))
    ids = torch.randint(0, tiny.model.vocabulary, (2, 16), generator=torch.Generator().manual_seed(0))
    documents = (torch.arange(16) >= 7).long().expand(2, 16)
    masked, _ = student(ids, ids, documents, objective.head(ids, documents))
    unmasked, _ = student(ids, ids, None, objective.head(ids, documents))
    assert abs(float(masked)) < 1e-4 < float(unmasked)


def test_identity_follows_the_weights_and_not_the_place(teachers, tmp_path, tiny):
    moved = exported(tmp_path / "elsewhere", tiny.model, 1)
    assert objective_of(teachers["a"]).identity() == objective_of(moved).identity()
    assert objective_of(teachers["a"]).identity() != objective_of(teachers["b"]).identity()


def test_a_teacher_of_another_vocabulary_is_refused(teachers, tiny):
    student = Decoder(tiny.model.model_copy(update={"vocabulary": 96}), seed=0)
    with pytest.raises(ConfigError, match="does not predict the student's tokens"):
        objective_of(teachers["a"]).start(student, torch.device("cpu"))
    with pytest.raises(ConfigError, match="one vocabulary"):
        Ensemble([Decoder(tiny.model, 0), student])
    with pytest.raises(ConfigError, match="no models"):
        Ensemble([])


def test_an_evaluated_ensemble_is_below_its_mean_member(tiny):
    members = [Decoder(tiny.model.model_copy(update={"tied": False}), seed) for seed in range(3)]
    for member in members:
        with torch.no_grad():
            member.lm_head.weight.mul_(30)  # fresh models predict all ids alike; these disagree
    tokens = np.random.default_rng(0).integers(0, tiny.model.vocabulary, 6 * 16 + 1).astype(np.uint16)
    found = evaluate_ensemble(Ensemble(members), HeldOut(tokens, 400), 16, 4)
    stream = torch.from_numpy(tokens.astype(np.int64))
    ids, targets = stream[:-1].view(6, 16), stream[1:].view(6, 16, 1)
    mean = torch.stack([F.log_softmax(member(ids).double(), -1) for member in members]).mean(0)
    log_z = mean.logsumexp(-1)
    assert found.loss.nats_per_token == pytest.approx(
        float((log_z[..., None] - mean).gather(2, targets).mean()), rel=1e-5
    )
    assert found.log_z == pytest.approx(float(log_z.mean()), abs=1e-4)
    assert found.log_z < -0.1
    torch.testing.assert_close(
        F.log_softmax(Ensemble(members)(ids), -1).double(), mean - log_z[..., None], atol=1e-4, rtol=0
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"teachers": []}, "at least 1 item"),
        ({"teachers": ["x"], "weight": 1.5}, "not a share"),
        ({"teachers": ["x"], "temperature": 0}, "greater than 0"),
        ({"teachers": [{"path": "x", "weight": "ema"}]}, "did you mean 'weights'"),
    ],
)
def test_settings_that_cannot_be_followed(data, message):
    with pytest.raises(ConfigError, match=message):
        validated(Distill, data, "objective")
