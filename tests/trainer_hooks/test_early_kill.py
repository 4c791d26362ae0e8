"""Early kill: the golden ranking, its guards, a log that is replayed, and runs that end with a checkpoint."""

import itertools
import json

import pytest
import yaml
from hook_runs import Cut, events_of, steps_of, train_with
from hypothesis import given
from hypothesis import strategies as st

from corpus.config import validated
from corpus.errors import ConfigError, InputError
from trainer_hooks.early_kill import EarlyKill, Signals, look, rank, read_decisions, signals_of, stop_killed
from trainer_hooks.hooks.stop_file import STOP_FILE, write_stop

SFT = EarlyKill(rule="sft", warmup_steps=2, every_steps=5, control=False)
GOLDEN_G, GOLDEN_L = (1.2, 0.8, 1.0, 2.0), (2.1, 2.4, 2.2, 1.9)


def write_run(folder, norms, losses, order="o", step_tokens=64, extra=()) -> None:
    folder.mkdir(parents=True)
    (folder / "plan.yaml").write_text(yaml.safe_dump({"order": order, "resolved": {"step_tokens": step_tokens}}))
    lines = [
        {"step": step, "tokens": 64 * step, "lr": 0.1, "loss": loss, "grad_norm": norm}
        for step, (norm, loss) in enumerate(zip(norms, losses, strict=True), start=1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines, *extra]))


def study(folder, norms=GOLDEN_G, losses=GOLDEN_L, steps=22) -> dict:
    """Runs 1, 2, ... whose steps all have the same norm and loss, after a warm-up that must not count."""
    runs = {str(number): folder / str(number) for number in range(1, len(norms) + 1)}
    for path, norm, loss in zip(runs.values(), norms, losses, strict=True):
        write_run(path, [99.0, 99.0, *[norm] * steps], [99.0, 99.0, *[loss] * steps])
    return runs


def test_golden_ranking_of_the_reference(tmp_path):
    runs = study(tmp_path)
    first = look(runs, SFT, 1, tmp_path / "log.jsonl")
    assert first.ranked == ("2", "3", "1", "4")
    assert first.killed == ()
    second = look(runs, SFT, 2, tmp_path / "log.jsonl")
    assert second.kept == ("2", "3")
    assert second.killed == ("1", "4")
    assert second.signals["1"].grad_norm == 1.2
    assert second.signals["1"].loss == pytest.approx(2.1)


def test_two_always_go_on(tmp_path):
    runs, log = study(tmp_path, range(1, 10), range(9, 0, -1)), tmp_path / "log.jsonl"
    settings = SFT.model_copy(update={"eta": 3.0})
    kept = [look(runs, settings, number, log).kept for number in (1, 2, 3, 4)]
    assert [len(names) for names in kept] == [9, 3, 2, 2]
    assert kept[-1] == ("1", "2")


def test_one_of_those_to_be_killed_goes_on_by_lot_and_is_not_compared_again(tmp_path):
    runs, log = study(tmp_path, range(1, 9), range(8, 0, -1)), tmp_path / "log.jsonl"
    settings = SFT.model_copy(update={"control": True})
    decisions = [look(runs, settings, number, log) for number in (1, 2, 3)]
    control = decisions[1].control
    assert decisions[0].control is None
    assert control in {"5", "6", "7", "8"}
    assert set(decisions[1].killed) == {"5", "6", "7", "8"} - {control}
    assert decisions[2].control == control
    assert decisions[2].ranked == ("1", "2", "3", "4")
    assert decisions[2].killed == ("3", "4")
    assert control in decisions[2].signals
    lots = set()
    for seed in range(12):
        other, folder = settings.model_copy(update={"seed": seed}), tmp_path / f"log-{seed}.jsonl"
        lots.add([look(runs, other, number, folder) for number in (1, 2)][1].control)
    assert len(lots) > 1


def test_decisions_are_read_again_and_not_made_again(tmp_path):
    runs, log = study(tmp_path), tmp_path / "log.jsonl"
    made = [look(runs, SFT, number, log) for number in (1, 2)]
    text = log.read_bytes()
    for path in runs.values():
        (path / "metrics.jsonl").write_text("")
    assert [look(runs, SFT, number, log) for number in (1, 2)] == made == read_decisions(log)
    assert log.read_bytes() == text


def test_a_log_of_other_settings_or_runs_or_a_look_left_out_is_refused(tmp_path):
    runs, log = study(tmp_path), tmp_path / "log.jsonl"
    with pytest.raises(ConfigError, match="look 2 cannot come after 0 looks"):
        look(runs, SFT, 2, log)
    look(runs, SFT, 1, log)
    with pytest.raises(ConfigError, match="other settings or for other runs"):
        look(runs, SFT.model_copy(update={"eta": 4.0}), 2, log)
    with pytest.raises(ConfigError, match="other settings or for other runs"):
        look({name: runs[name] for name in "123"}, SFT, 2, log)
    with pytest.raises(ConfigError, match="nothing to kill"):
        look({name: runs[name] for name in "12"}, SFT, 1, tmp_path / "other.jsonl")


def test_runs_that_cannot_be_compared_or_have_not_come_far_enough_are_refused(tmp_path):
    runs = study(tmp_path, steps=8)
    look(runs, SFT, 1, tmp_path / "log.jsonl")
    with pytest.raises(InputError, match="has not come to step 12"):
        look(runs, SFT, 2, tmp_path / "log.jsonl")
    write_run(tmp_path / "5", [1.0] * 9, [1.0] * 9, order="another")
    with pytest.raises(ConfigError, match="runs 4 and 5 cannot be compared"):
        look({**runs, "5": tmp_path / "5"}, SFT, 1, tmp_path / "new.jsonl")


@pytest.mark.parametrize(
    "settings",
    [
        {"rule": "pretraining"},
        {"rule": "pretraining", "metric": "loss"},
        {"rule": "pretraining", "better": "low"},
        {"rule": "sft", "better": "low"},
    ],
)
def test_the_sign_is_said_where_it_is_not_known(settings):
    with pytest.raises(ConfigError, match="metric"):
        validated(EarlyKill, {**settings, "warmup_steps": 0, "every_steps": 1}, "study")


def test_pretraining_ranks_by_any_logged_metric_and_either_sign(tmp_path):
    extra = [{"step": 5, "tokens": 320, "heldout": "web", "weights": "raw", "nats_per_token": 3.0},
             {"step": 5, "tokens": 320, "heldout": "web", "weights": "ema", "nats_per_token": 0.1},
             {"step": 9, "tokens": 576, "heldout": "web", "weights": "raw", "nats_per_token": 1.0}]  # fmt: skip
    write_run(tmp_path / "run", [1.0, 5.0, 2.0, 9.0, 3.0, 3.0, 1, 1, 1], [4.0] * 5 + [2.0] * 4, extra=extra)
    base = {"rule": "pretraining", "warmup_steps": 1, "every_steps": 1, "ema": 0.5}
    found = {
        metric: signals_of(tmp_path / "run", EarlyKill(**base, metric=metric, better="low"), 6)
        for metric in ("loss", "grad_norm", "heldout/web")
    }
    assert found["grad_norm"] == Signals(grad_norm=3.0, loss=3.0, metric=3.0)
    assert found["loss"].metric == 3.0  # 4, 4, 4, 4, then half way to 2
    assert found["heldout/web"].metric == 3.0
    with pytest.raises(InputError, match="has no source_loss/code"):
        signals_of(tmp_path / "run", EarlyKill(**base, metric="source_loss/code", better="low"), 6)
    signals = {name: Signals(grad_norm=1.0, loss=1.0, metric=value) for name, value in (("a", 1.0), ("b", 2.0))}
    for better, order in (("low", ("a", "b")), ("high", ("b", "a"))):
        assert rank(signals, EarlyKill(**base, metric="x", better=better)) == order


def test_a_run_that_diverged_is_last_even_where_a_high_loss_is_good(tmp_path):
    runs = study(tmp_path / "runs")
    write_run(tmp_path / "0", [0.01] * 20, [9.0] * 6 + [None] * 14)
    decision = look({**runs, "0": tmp_path / "0"}, SFT, 1, tmp_path / "log.jsonl")
    assert decision.ranked == ("2", "3", "1", "4", "0")
    assert decision.signals["0"].loss is None


@given(st.permutations(range(6)), st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=6, max_size=6))
def test_the_ranking_does_not_depend_on_the_order_of_the_runs(shuffle, values):
    signals = {str(i): Signals(grad_norm=g, loss=loss) for i, (g, loss) in enumerate(values)}
    ranked = rank(signals, SFT)
    assert rank({str(i): signals[str(i)] for i in shuffle}, SFT) == ranked
    places = {name: place for place, name in enumerate(ranked)}
    for a, b in itertools.permutations(signals, 2):
        if signals[a].grad_norm < signals[b].grad_norm and signals[a].loss >= signals[b].loss:
            assert places[a] < places[b]


def test_killed_runs_end_with_a_checkpoint_and_end_again_until_the_file_is_gone(workspace, tiny, tmp_path):
    runs, often = {str(seed): tmp_path / str(seed) for seed in range(3)}, {"eval_every": 8 * 64}
    settings = EarlyKill(rule="pretraining", metric="heldout/web", better="low", warmup_steps=0, every_steps=8)
    for seed, folder in enumerate(runs.values()):
        with pytest.raises(Cut):
            train_with(workspace, tiny, folder, ["stop_file"], cut=17, seed=seed, **often)
    decisions = [look(runs, settings, number, tmp_path / "log.jsonl") for number in (1, 2)]
    (spared,) = {decisions[1].control}
    assert spared is not None  # the only run to be killed was spared by lot
    assert decisions[1].killed == ()
    strict = settings.model_copy(update={"control": False})
    killed = [look(runs, strict, number, tmp_path / "strict.jsonl") for number in (1, 2)][1]
    assert killed.killed == (spared,)
    stop_killed(killed, runs)
    result = train_with(workspace, tiny, runs[spared], ["stop_file"], seed=int(spared), **often)
    assert result.step == result.resumed_from + 1 < 24
    assert f"rank 3 of 3 at step {killed.step}" in result.stopped
    assert result.checkpoint.exists()
    assert "early kill" in events_of(runs[spared], "stopped")[0]["reason"]
    (runs[spared] / STOP_FILE).unlink()
    assert train_with(workspace, tiny, runs[spared], ["stop_file"], seed=int(spared), **often).stopped is None
    assert len(steps_of(runs[spared])) == 24


def test_a_stop_file_is_looked_for_as_often_as_asked(workspace, tiny, tmp_path):
    (tmp_path / "run").mkdir()
    write_stop(tmp_path / "run", "enough")
    result = train_with(workspace, tiny, tmp_path / "run", [{"kind": "stop_file", "every": 6}])
    assert result.step == 6
    assert "enough" in result.stopped
