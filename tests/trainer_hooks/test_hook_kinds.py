"""Hooks in a plan: by name or with settings, refused where they cannot work, and listed as they act."""

import subprocess
import sys

import pytest

from corpus.errors import ConfigError
from trainer_hooks.hooks.base import Hook
from trainer_hooks.hooks.kinds import Migu, SourceLoss

KINDS = ["source_loss", "quality_loss", "grad_l1", "migu", "nap", "spikes", "hypergradient", "stop_file"]


def test_hooks_are_read_by_name_and_with_settings_and_keep_their_order(tiny):
    plan = tiny.plan(hooks=["lr_search", {"kind": "migu", "quantile": 0.5}, "source_loss"])
    assert [hook.kind for hook in plan.hooks] == ["lr_search", "migu", "source_loss"]
    assert plan.hooks[1:] == (Migu(quantile=0.5), SourceLoss())
    assert type(plan).model_validate(plan.model_dump(mode="json")) == plan


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_makes_its_hook(tiny, kind):
    hook = tiny.plan(hooks=[kind]).hooks[0].make()
    assert isinstance(hook, Hook)
    assert hook.kind == kind


@pytest.mark.parametrize(
    ("hooks", "problem"),
    [
        (["sauce_loss"], "no kind 'sauce_loss'; did you mean 'source_loss'"),
        ([{"kind": "migu", "quantil": 0.5}], "unknown key 'hooks.0.migu.quantil'; did you mean 'quantile'"),
        (["nap", "lr_search"], "lr_search comes first"),
        (["lr_search", "lr_search"], "lr_search comes first and once"),
        ([{"kind": "spikes", "warmup": 200}], "warmup .200. must not exceed window .128."),
        ([{"kind": "spikes", "rule": "ratio", "limit": 0.9}], "above 1"),
        ([{"kind": "hypergradient", "form": "additive"}], "write beta"),
        ([{"kind": "lr_search", "low": 1.0, "high": 1.0}], "one candidate only"),
        (
            ["quality_loss", {"kind": "online_mixture", "policy": {"kind": "ado"}}],
            "quality_loss looks ahead in the order",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(tiny, hooks, problem):
    with pytest.raises(ConfigError, match=problem):
        tiny.plan(hooks=hooks)


def test_plans_are_read_without_torch():
    code = "import sys, trainer_hooks.plan; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
