"""A run that goes on from another one's checkpoint ends in the same bits as one that takes every step itself."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curriculum.order import Order, write_order
from pipelines.experiments.branching import FORKING, Branch, Member, begin, branches, change_for, common_steps
from tests.trainer_hooks.conftest import TINY, build_workspace, make_plan
from trainer_hooks.checkpoints import checkpoint_path
from trainer_hooks.lengths import LengthValue
from trainer_hooks.metrics import METRICS
from trainer_hooks.plan import Keep
from trainer_hooks.resolution import resolve
from trainer_hooks.stored_weights import read_weights
from trainer_hooks.trainer import train

STEP = 64
STEPS = 24
NO_AVERAGE = {"average": None}


def phases(stable: int, to: float = 0.5, shape: str = "linear", **more):
    """A plan that decays after `stable` steps, or never."""
    last = [{"decay": (STEPS - stable) * STEP, "to": to, "shape": shape}] if stable < STEPS else []
    return make_plan(phases=[{"warmup": 3 * STEP}, {"stable": (stable - 3) * STEP}, *last], **more)


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """A tiny workspace, and orders that share the first visits: `swapped(n)` is another one after n visits."""
    root = tmp_path_factory.mktemp("orders")
    found = build_workspace(root)
    table = found.order.table()

    def swapped(visits: int) -> Order:
        folder = root / f"swapped-{visits}"
        if not folder.exists():
            tail = table.slice(visits).take(pa.array(np.arange(table.num_rows - visits)[::-1]))
            write_order(folder, pa.concat_tables([table.slice(0, visits), tail]), name=folder.name,
                        fingerprint=folder.name, config={}, inputs=[], shards=found.order.shards)  # fmt: skip
        return Order.open(folder)

    ends = np.cumsum(table["length"].to_numpy())
    return SimpleNamespace(order=found.order, swapped=swapped, ends=ends, table=table, found=found)


def member(read, plan, order=None, folder=Path("nowhere")) -> Member:
    return Member(resolve(plan), order or read.order, folder)


def run_of(read, one: Member, others=()):
    """Train a member, from where it may begin."""
    begun = begin(one, others)
    result = train(
        one.order, read.found.arrays, read.found.heldout, TINY, one.resolved.plan, one.folder, device="cpu",
        change=change_for(one, others),
    )  # fmt: skip
    assert result.step == one.resolved.steps
    assert result.resumed_from == begun
    return result


def keeping(one: Member, *steps: int) -> Member:
    at = tuple(LengthValue(tokens=step * STEP) for step in steps)
    return replace(one, resolved=resolve(one.resolved.plan.model_copy(update={"keep": Keep(at=at)})))


def content(folder: Path):
    """What a finished run comes to: its metrics, its last weights with the optimizer's state, and its averages."""
    last = checkpoint_path(folder / "checkpoints", STEPS)
    files = {path.name: path.read_bytes() for path in sorted((folder / "averages").glob("*.safetensors"))}
    state = {name: value.numpy().tobytes() for name, value in read_weights(last, prefix="").items()}
    return (folder / METRICS).read_bytes(), state, files


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 24), st.integers(4, 24), st.integers(0, 60))
def test_runs_share_the_steps_before_their_rates_or_their_tokens_differ(read, one, other, visits):
    """Rates are equal until the earlier decay begins; the last target of a step lies one token after its inputs."""
    a = member(read, phases(one, 0.5, **NO_AVERAGE))
    b = member(read, phases(other, 0.1, **NO_AVERAGE), read.swapped(visits))
    by_rate = min(one, other)
    first, second = a.order.table(), b.order.table()
    same = [x == y for x, y in zip(*(t.select(["shard", "start"]).to_pylist() for t in (first, second)), strict=True)]
    shared = int(read.ends[same.index(False) - 1]) if False in same[1:] and same[0] else 0 if False in same else 10**9
    by_tokens = max(shared - 1, 0) // STEP
    found = common_steps(a, b)
    assert found == common_steps(b, a)
    assert found <= min(by_rate, STEPS)
    if shared != 10**9 and by_tokens < by_rate:  # a document may go on where another one of the same text begins
        assert found == by_tokens
    else:
        assert found == by_rate


@pytest.mark.parametrize(
    ("changes", "shared"),
    [
        ({"seed": 1}, 0),
        ({"peak_lr": 0.02}, 0),
        ({"sequence_length": 8, "batch_sequences": 8}, 0),
        ({"optimizer": "muon"}, 0),
        ({"keep": {"at": [3 * STEP]}, "checkpoint_every": 2 * STEP}, 20),
        ({"eval_at": [7 * STEP]}, 6),
        ({"eval_every": 4 * STEP}, 3),
        ({"average": {"kind": "sma", "last": 3, "window": 8 * STEP}}, 15),
        ({"average": {"kind": "lawa", "last": 2, "every": 5 * STEP}}, 3),
    ],
)
def test_what_shapes_the_past_ends_it(read, changes, shared):
    """The two decay from step 20 on, to other ends; the first average's window is steps 16, 20 and 24."""
    one, other = member(read, phases(20, 0.5)), member(read, phases(20, 0.1, **changes))
    assert common_steps(one, other) == shared


def test_an_optimizer_that_starts_anew_ends_the_shared_past(read):
    """At step 12 nothing has happened yet: what starts anew does so with the step after it."""
    two = [{"warmup": 3 * STEP}, {"stable": 9 * STEP}]
    one = make_plan(phases=[*two, {"stable": 12 * STEP}], **NO_AVERAGE)
    other = make_plan(phases=[*two, {"stable": 12 * STEP, "reset_optimizer": True}], **NO_AVERAGE)
    assert common_steps(member(read, one), member(read, other)) == 12


def test_hooks_that_look_at_visits_share_nothing_between_orders(read):
    plans = [phases(20, to, hooks=["source_loss"]) for to in (0.5, 0.1)]
    assert common_steps(*(member(read, plan) for plan in plans)) == 20
    assert common_steps(member(read, plans[0]), member(read, plans[1], read.swapped(60))) == 0


def test_each_run_branches_off_the_one_before_it_that_it_shares_most_with(read):
    plans = [phases(24), phases(12), phases(18, 0.2), phases(12, 0.1), make_plan(seed=3)]
    found = branches([member(read, plan) for plan in plans])
    assert found == [None, Branch(0, 12), Branch(0, 18), Branch(0, 12), None]


@pytest.fixture(scope="module")
def trunk(read, tmp_path_factory):
    """A run at a constant rate that left checkpoints at steps 7, 11 and 14."""
    one = keeping(member(read, phases(24), folder=tmp_path_factory.mktemp("trunk") / "run"), 7, 11, 14)
    run_of(read, one)
    return one


def test_a_branch_ends_in_the_bits_of_a_whole_run(read, trunk, tmp_path):
    """Another decay and another order from inside the decay on; the second branches off the first one's decay."""
    order = read.swapped(int(np.searchsorted(read.ends, 13 * STEP)))
    first = keeping(member(read, phases(14, 0.1, shape="1-sqrt"), folder=tmp_path / "first"), 16)
    second = member(read, phases(14, 0.1, shape="1-sqrt"), read.swapped(int(np.searchsorted(read.ends, 18 * STEP))),
                    tmp_path / "second")  # fmt: skip
    third = member(read, phases(12, 0.3), order, tmp_path / "third")
    assert run_of(read, first, [trunk]).resumed_from == 14
    assert run_of(read, second, [trunk, first]).resumed_from == 16
    assert run_of(read, third, [trunk, first, second]).resumed_from == 11
    for one in (first, second, third):
        whole = replace(one, folder=tmp_path / f"whole-{one.folder.name}")
        run_of(read, whole)
        assert content(one.folder) == content(whole.folder)


def test_a_branch_goes_on_where_a_kill_left_it(read, trunk, tmp_path):
    """Killed while the folder is copied, and between the copy and its first step: the plan there is the trunk's."""
    order = read.swapped(int(np.searchsorted(read.ends, 15 * STEP)) + 1)
    one = member(read, phases(14, 0.1), order, tmp_path / "one")
    (tmp_path / f"one{FORKING}" / "checkpoints").mkdir(parents=True)
    assert begin(one, [trunk]) == 14
    assert not (tmp_path / f"one{FORKING}").exists()
    assert begin(one, [trunk]) is None
    train(one.order, read.found.arrays, read.found.heldout, TINY, one.resolved.plan, one.folder, device="cpu",
          change=change_for(one, [trunk, one]))  # fmt: skip
    whole = replace(one, folder=tmp_path / "whole")
    run_of(read, whole)
    assert content(one.folder) == content(whole.folder)


def test_a_damaged_checkpoint_is_nothing_to_begin_from(read, tmp_path):
    trunk = keeping(member(read, phases(24), folder=tmp_path / "trunk"), 7, 11)
    run_of(read, trunk)
    file = next(checkpoint_path(trunk.folder / "checkpoints", 11).glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-8])
    one = member(read, phases(12, 0.1), folder=tmp_path / "one")
    assert begin(one, [trunk]) == 7
