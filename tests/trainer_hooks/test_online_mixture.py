"""Runs whose mixture follows their losses: resumed to the bit, repeated by a plain run, and on two ranks."""

import json
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from corpus.config import validated
from corpus.errors import ConfigError
from curriculum.order import Order
from mixtures.online_shares import mean_shares, read_log, replayed
from mixtures.shares import MixtureError
from tests.trainer_hooks.hook_runs import Cut, assert_resumes, events_of, steps_of, tensors_of, train_with, with_sources
from tests.trainer_hooks.online_making import SOURCES, sourced
from tests.trainer_hooks.test_ranks import on_ranks
from trainer_hooks.evaluation import HeldOut
from trainer_hooks.hooks.kinds import OnlineMixture

NAMES = tuple(SOURCES)
STEP = 64
REFERENCE = {"books": 3.0, "code": 4.5, "web": 2.0}
DOREMI = {
    "kind": "online_mixture",
    "policy": {"kind": "doremi", "eta": 0.5},
    "reference": REFERENCE,
    "every": 3 * STEP,
    "piece_tokens": 16,
}
SHEARED = {"kind": "online_mixture", "policy": {"kind": "sheared", "targets": [3.0, 4.5, 2.0]}, "measure": "heldout"}
ADO = {"kind": "online_mixture", "policy": {"kind": "ado", "start": 6, "refit": 4, "thin": 2}, "piece_tokens": 16}
SKILL_IT = {
    "kind": "online_mixture", "policy": {"kind": "skill_it", "graph": [[1, 0], [0, 1], [1, 1]]}, "measure": "heldout",
    "heldout": ["books", "web"], "shares": {"web": "50%", "books": "30%", "code": "20%"}, "passes": 3,
}  # fmt: skip
BORDERS = {"eval_every": 8 * STEP, "checkpoint_every": 5 * STEP}  # a checkpoint amid the steps between two updates
POLICIES = {"doremi": DOREMI, "sheared": SHEARED, "ado": ADO, "skill_it": SKILL_IT}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A workspace of three sources, each with a held-out set."""
    base = sourced(tmp_path_factory.mktemp("sources"), readings=10)
    heldout = {name: HeldOut(array, 4 * len(array)) for name, array in zip(NAMES, base.arrays, strict=True)}
    return SimpleNamespace(order=base.order, arrays=base.arrays, heldout=heldout)


@pytest.mark.parametrize("name", POLICIES)
def test_a_run_follows_its_policy_and_is_repeated_by_itself_and_by_a_plain_run(sources, tiny, tmp_path, name):
    whole = assert_resumes(sources, tiny, tmp_path, [POLICIES[name]], cuts=(7,), **BORDERS)
    log = read_log(whole.folder / "online_shares.jsonl")
    assert replayed(log).log == log
    every = {"doremi": 3, "sheared": 8, "ado": 1, "skill_it": 8}[name]
    assert [row.tokens for row in log.rows] == [step * STEP for step in range(every, 24, every)]
    assert log.rows[-1].shares != log.first
    for file in ("online_shares.jsonl", "order/order.parquet", "order/ends.npy"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "cut" / file).read_bytes()
    for line in steps_of(whole.folder):
        read_under = log.at(line["tokens"] - STEP)
        assert {key: line[f"online_mixture/{key}"] for key in log.names} == read_under
    assert events_of(whole.folder, "online_mixture")[-1]["mean_shares"] == mean_shares(log)
    order = Order.open(whole.folder / "order")
    assert_near(order, log)
    read = SimpleNamespace(order=order, arrays=sources.arrays, heldout=sources.heldout)
    plain = train_with(read, tiny, tmp_path / "plain", [], **BORDERS)
    assert [line["loss"] for line in steps_of(plain.folder)] == [line["loss"] for line in steps_of(whole.folder)]
    a, b = (tensors_of(run.checkpoint) for run in (whole, plain))
    assert all(torch.equal(a[key], b[key]) for key in b)


def assert_near(order, log):
    """An order has as many tokens of each source as its log asks for, up to two of the longest documents."""
    assert order.n_tokens == 24 * STEP + 1
    given = order.artifact.manifest.totals["tokens_by_source"]
    asked = np.sum([list(log.at(token).values()) for token in range(order.n_tokens)], axis=0)
    assert max(abs(given[name] - tokens) for name, tokens in zip(log.names, asked, strict=True)) <= 2 * 140


def test_training_losses_are_means_by_source_since_the_last_update(sources, tiny, tmp_path):
    hook = {**DOREMI, "reference": dict.fromkeys(NAMES, 0.0)}
    run = train_with(sources, tiny, tmp_path, [{"kind": "source_loss"}, hook])
    log, lines = read_log(run.folder / "online_shares.jsonl"), steps_of(run.folder)
    order = Order.open(run.folder / "order")
    for row in log.rows:
        last = row.tokens // STEP
        sums, counts = np.zeros(3), np.zeros(3)
        for step in range(last - 3, last):
            read = order.table()["source"].take(order.visit_numbers(step * STEP, (step + 1) * STEP)).to_pylist()
            for i, name in enumerate(NAMES):
                counts[i] += read.count(name)
                sums[i] += read.count(name) * lines[step].get(f"source_loss/{name}", 0.0)
        measured = counts > 0
        np.testing.assert_allclose(np.array(row.signal)[measured], (sums / np.maximum(counts, 1))[measured], rtol=1e-6)


def test_a_source_that_was_not_read_keeps_the_loss_it_had(sources, tiny, tmp_path):
    hook = {
        **DOREMI,
        "every": STEP,
        "shares": {"books": 0.98, "code": 0.01, "web": 0.01},
        "policy": {"kind": "doremi", "eta": 0.01},
        "piece_tokens": None,
    }
    run = train_with(sources, tiny, tmp_path, [hook])
    rows = read_log(run.folder / "online_shares.jsonl").rows
    assert rows[0].tokens > STEP  # not before each source has been read
    assert events_of(run.folder, "online_mixture")[0]["left_out"]
    kept = sum(a.signal[1] == b.signal[1] for a, b in pairwise(rows))
    assert kept > len(rows) / 2


def test_what_a_killed_run_wrote_beyond_its_checkpoint_does_not_stay(sources, tiny, tmp_path):
    hook = {**DOREMI, "every": STEP}
    whole = train_with(sources, tiny, tmp_path / "whole", [hook], checkpoint_every=20 * STEP)
    with pytest.raises(Cut):
        train_with(sources, tiny, tmp_path / "cut", [hook], cut=9, checkpoint_every=20 * STEP)
    before = (tmp_path / "cut/online_shares.jsonl").read_text().splitlines()
    assert len(before) == 10
    train_with(sources, tiny, tmp_path / "cut", [hook], checkpoint_every=20 * STEP)
    files = [(tmp_path / name / "online_shares.jsonl").read_bytes() for name in ("whole", "cut")]
    assert files[0] == files[1]
    assert files[0].decode().splitlines()[:10] == before
    assert len(read_log(whole.folder / "online_shares.jsonl").rows) == 23


def test_a_short_order_is_read_again_up_to_its_passes(tiny, tmp_path):
    base = sourced(tmp_path / "base", readings=1)
    short = SimpleNamespace(order=base.order, arrays=base.arrays, heldout={})
    assert base.order.n_tokens < 24 * STEP
    run = train_with(short, tiny, tmp_path / "run", [{**DOREMI, "passes": 40}])
    visits = Order.open(run.folder / "order").table()["visit"].to_pylist()
    assert max(visits) > 3
    with pytest.raises(MixtureError, match="no visits left"):
        train_with(short, tiny, tmp_path / "other", [{**DOREMI, "passes": 2}])
    with pytest.raises(ConfigError, match="no step 23"):
        train_with(short, tiny, tmp_path / "plain", [])


def test_a_run_with_another_base_or_policy_is_another_run(sources, tiny, tmp_path):
    train_with(sources, tiny, tmp_path / "run", [DOREMI])
    with pytest.raises(ConfigError, match="eta"):
        train_with(sources, tiny, tmp_path / "run", [{**DOREMI, "policy": {"kind": "doremi", "eta": 0.4}}])
    other = sourced(tmp_path / "base", readings=10, seed=1)
    other = SimpleNamespace(order=other.order, arrays=other.arrays, heldout=sources.heldout)
    with pytest.raises(ConfigError, match="order was"):
        train_with(other, tiny, tmp_path / "run", [DOREMI])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy": {"kind": "doge"}, "reference": None}, "doge needs a gradient of every source"),
        ({"policy": {"kind": "aioli"}, "reference": None}, "aioli needs training steps on probes"),
        ({"reference": None}, "doremi needs the losses of a reference model"),
        ({"measure": "heldout"}, "leave out every"),
        ({"heldout": ["web"]}, "measure: heldout"),
        ({"policy": {"kind": "doremy"}}, "there is no kind 'doremy'"),
        ({"pases": 2}, "did you mean 'passes'"),
    ],
)
def test_settings_that_cannot_be_followed(changes, message):
    with pytest.raises(ConfigError, match=message):
        validated(OnlineMixture, {**DOREMI, **changes}, "hook")


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        ({**DOREMI, "shares": {"books": 0.5, "web": 0.5}}, "other sources: code"),
        ({**DOREMI, "shares": {"books": 0.5, "web": 0.4, "code": 0.2}}, "sum to one"),
        ({**DOREMI, "reference": {"books": 1.0}}, "reference of an online mixture does not fit"),
        ({**DOREMI, "every": 10}, "after whole steps"),
        ({**SHEARED, "heldout": ["web"]}, "expected 3 sets|measures other things"),
        ({**SHEARED, "heldout": ["web", "code", "news"]}, "no held-out set 'news'"),
        ({**SHEARED, "policy": {"kind": "sheared", "targets": [1.0]}}, "targets of an online mixture"),
    ],
)
def test_what_does_not_fit_the_run_is_named(sources, tiny, tmp_path, hook, message):
    with pytest.raises(ConfigError, match=message):
        train_with(sources, tiny, tmp_path, [hook], **BORDERS)


@pytest.mark.slow
@pytest.mark.parametrize("spreading", ["fsdp", "ddp"])
def test_two_ranks_follow_the_same_shares(workspace, tiny, tmp_path, spreading):
    order = {
        "kind": "online_mixture",
        "policy": {"kind": "doremi"},
        "reference": {"web": 3.0, "news": 1.0},
        "every": STEP,
    }
    changed = two_sources(workspace, tmp_path)
    train_with(changed, tiny, tmp_path / "one", [order])
    on_ranks(2, changed, tmp_path / "two", spreading=spreading, hooks=[order], average=None)
    logs = [read_log(tmp_path / name / "online_shares.jsonl") for name in ("one", "two")]
    for a, b in zip(logs[0].rows, logs[1].rows, strict=True):
        assert a.tokens == b.tokens
        np.testing.assert_allclose(a.shares, b.shares, rtol=1e-4)
    manifests = [json.loads((tmp_path / name / "order/manifest.json").read_text()) for name in ("one", "two")]
    assert manifests[0]["totals"]["tokens"] == manifests[1]["totals"]["tokens"]


def two_sources(workspace, tmp_path):
    """The shared workspace, its shards called two sources, in a folder that processes open by themselves."""
    folder = tmp_path / "workspace"
    order = with_sources(workspace, folder / "order", ["web", "news"])
    (folder / "tokens").symlink_to(workspace.folder / "tokens")
    return SimpleNamespace(order=order, arrays=workspace.arrays, heldout=workspace.heldout, folder=folder)
