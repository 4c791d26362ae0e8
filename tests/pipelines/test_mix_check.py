"""`gradatim mix` before and after: plans, what makes a mixture impossible, comparisons, errors that teach."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
import yaml

from corpus.artifacts import Artifact
from corpus.errors import ArtifactError, ConfigError, InputError, SchemaError
from curriculum.common_prefix import common_tokens
from curriculum.order import Order, OrderError
from curriculum.order_shards import open_shards
from mixtures.available import Available
from mixtures.presets import PRESETS
from mixtures.shares import MixtureError
from pipelines.commands.mix import (
    MixOptions,
    check_command,
    explain_command,
    plan_command,
    presets_command,
    show_command,
)
from pipelines.commands.mix_diff import changes, diff_command
from pipelines.commands.mix_tables import phase_bars
from pipelines.commands.workshop import RuntimeOptions
from pipelines.mix_check import checked
from pipelines.mix_settings import MixSettings, load_mix
from pipelines.mixing import Mixture
from tests.pipelines.small_mix import PHASES, SHARES, mixing, write_mix


@pytest.fixture
def folder(mix_folder):
    return mix_folder


@pytest.fixture
def built(mixed):
    return mixed


# ---- plan and check


def test_a_run_of_trillions_is_planned_without_data(tmp_path, capsys):
    settings = {
        "declare": {"web": "3T", "math": {"available": "4.5B", "documents": "2M"}},
        "tokens": "2T", "max_visits": 4, "sources": {"web": "98%", "math": {"share": "2%", "max_visits": 10}},
        "phases": [
            {"name": "stable", "tokens": "90%", "sources": {"web": "99%", "math": "1%"}},
            {"name": "anneal", "tokens": "10%", "ramp": "2%", "sources": {"web": "90%", "math": "10%"}},
        ],
    }  # fmt: skip
    file = tmp_path / "big.yaml"
    file.write_text(yaml.safe_dump(settings))
    plan_command(MixOptions(file, tmp_path / "w"))
    shown = capsys.readouterr().out
    assert all(said in shown for said in ("2.00 T", "3.00 T", "stable 1.80 T"))
    page = (tmp_path / "w" / "mix" / "big.html").read_text()
    assert "1,963,800,000,000" in page  # .99 of 1.8 T, .945 of the ramp's 40 B, .9 of 160 B
    assert "<script" not in page
    image = (tmp_path / "w" / "mix" / "big.svg").read_text()
    assert image.startswith("<svg xmlns=")
    assert "&lt;" not in image


def test_what_was_declared_is_held_against_what_there_is(folder, built):
    work = mixing(folder / "mix.yaml", built, "declare={sqlite: 1M, debian: 1M, django: 1M, office: 1M}")
    assert {one.available_tokens for one in work.plan().components} == {10**6}
    said = work.misdeclared()
    assert len(said) == 4
    assert said[0].startswith("sqlite was declared with 1.00 M tokens and holds ")


def test_check_lists_everything_that_is_short_at_once(folder, built, capsys):
    options = MixOptions(folder / "mix.yaml", built, ("max_visits=0.5",))
    assert check_command(options) == 1
    shown = " ".join(capsys.readouterr().out.split())
    for source in ("sqlite", "django", "office"):
        assert f"{source} needs" in shown
    assert "visits, cap 0.5" in shown
    assert "set tokens:" in shown
    assert check_command(MixOptions(folder / "mix.yaml", built)) == 0
    assert "can be had as it is written" in capsys.readouterr().out


def test_a_cap_counts_all_of_a_source_that_is_read_along_a_curve():
    sources = {"web": {"share": "50%", "upsample": {"by": "edu"}, "max_visits": 2}, "books": "50%"}
    held = Available({"web": (10_000, 10**6), "books": (10_000, 10**7)})
    for tokens, short in (("3.9M", False), ("4.1M", True)):
        settings = MixSettings.model_validate({"sources": sources, "tokens": tokens})
        found = checked(held, settings)
        assert bool(found.problems) is short
    assert found.problems == ("web needs 2.05 M tokens, 1.00 M exist: 2.05 visits, cap 2",)


def test_the_way_out_that_check_names_is_one(folder, built):
    work = mixing(folder / "phased.yaml", built, "max_visits=0.5")
    found = checked(work.available, work.settings)
    tokens = found.ways_out[0].split()[2].rstrip(",")
    changed = mixing(folder / "phased.yaml", built, "max_visits=0.5", f"tokens={tokens}")
    assert not checked(changed.available, changed.settings).problems


def test_sources_that_are_not_there_are_all_named(folder, built):
    work = mixing(folder / "mix.yaml", built, "sources={sqlite: 50%, debain: 30%, wiki: 20%}")
    found = checked(work.available, work.settings)
    assert len(found.problems) == 2
    assert "did you mean 'debian'" in found.problems[0]
    assert "'wiki'" in found.problems[1]


def test_bars_are_as_long_as_the_shares(built):
    lines = phase_bars(Mixture.open(Artifact(built / "mixture" / "phased")).allocation)
    assert [line.plain.split()[0] for line in lines] == ["stable", "anneal", "anneal"]
    assert lines[0].plain.count("a") - lines[0].plain.split()[0].count("a") == 24  # 40 % of 60
    assert "of ramp" in lines[1].plain


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_can_be_planned(name, tmp_path):
    chosen = PRESETS[name]
    roles = list(dict.fromkeys(role for phase in chosen.phases for role in phase.roles))
    shares = {
        phase.name: {role: 1 / len(phase.roles) for role in phase.roles} for phase in chosen.phases if not phase.shares
    }
    said = {"name": name, "roles": {role: f"s{i}" for i, role in enumerate(roles)}, "shares": shares, "score": "edu"}
    settings, _ = load_mix(
        None, (f"declare={{{', '.join(f's{i}: 9T' for i in range(len(roles)))}}}", "tokens=1T"), chosen=said
    )
    held = Available({name: (10**9, one.available) for name, one in settings.declare.items()})
    allocation = checked(held, settings).allocation
    assert allocation is not None
    assert allocation.tokens == sum(one.tokens for one in allocation.components) == 10**12


def test_a_preset_stands_in_the_file_and_gives_way_to_it(tmp_path):
    file = tmp_path / "mix.yaml"
    roles = {"web": "crawl", "code": "code", "math": "math"}
    settings = {
        "preset": {"name": "smollm3", "roles": roles},
        "declare": dict.fromkeys(roles.values(), "9T"),
        "tokens": "1T",
    }
    file.write_text(yaml.safe_dump({**settings, "sources": {"math": {"max_visits": 2}}}))
    found, _ = load_mix(file)
    assert [phase.name for phase in found.phases] == ["stable", "stable-2", "decay"]
    assert found.sources["math"].max_visits == 2


def test_every_setting_is_explained_without_a_file(capsys):
    explain_command(MixOptions(None, Path("unused")))
    shown = " ".join(capsys.readouterr().out.split())
    for setting in ("sources.web.max_visits", "phases.all.ramp.share", "declare", "when_short"):
        assert setting in shown


def test_the_bundled_mixture_can_be_had(tmp_path):
    sources = "declare={web: 300K, old: 100K}"
    settings, _ = MixOptions(Path("demo"), tmp_path, (sources,)).load()
    held = Available({name: (1, one.available) for name, one in settings.declare.items()})
    found = checked(held, settings)
    assert not found.problems
    assert found.allocation.phases == ("stable", "anneal")


def test_presets_are_listed_with_their_sources(capsys):
    presets_command(None)
    listed = capsys.readouterr().out
    assert all(name in listed for name in PRESETS)
    presets_command("olmo2")
    shown = " ".join(capsys.readouterr().out.split())
    assert "not published: web, code, papers, math" in shown
    assert "arXiv 2501.00656" in shown


# ---- comparing


def test_a_later_phase_that_changes_leaves_the_earlier_ones(folder, built, tmp_path, capsys):
    phases = [PHASES[0], {**PHASES[1], "sources": {"sqlite": "5%", "debian": "25%", "django": "40%", "office": "30%"}}]
    file = write_mix(folder, "edited", phases=phases)
    shutil.copytree(built, tmp_path / "w")
    mixing(file, tmp_path / "w").build("edited")
    orders = [Order.open(tmp_path / "w" / "orders" / name) for name in ("phased", "edited")]
    same = common_tokens(*orders)
    assert 240_000 <= same < 300_000
    streams = [order.read(0, 300_000, open_shards(order, tmp_path / "w")) for order in orders]
    assert np.array_equal(streams[0][:same], streams[1][:same])
    diff_command("phased", "edited", tmp_path / "w", RuntimeOptions())
    shown = " ".join(capsys.readouterr().out.split())
    assert f"the same up to token {same:,}" in shown
    assert "phases.anneal.sources.office.share: 0.25 -> 0.3" in shown


def test_a_longer_run_begins_as_the_shorter_one(folder, built, tmp_path):
    shutil.copytree(built, tmp_path / "w")
    _, longer = mixing(folder / "mix.yaml", tmp_path / "w", "tokens=400K").build("longer")
    shorter = Order.open(built / "orders" / "mix")
    same = common_tokens(Order(longer), shorter)
    longest = pc.max(Order(longer).table()["length"]).as_py()
    assert same >= 300_000 - len(SHARES) * longest  # up to the last documents, which the end of a run cuts


def test_a_file_is_compared_with_what_was_built(folder, built, capsys):
    diff_command("mix", str(folder / "phased.yaml"), built, RuntimeOptions())
    shown = " ".join(capsys.readouterr().out.split())
    assert "phases.stable: not set ->" in shown
    assert "has no order yet" in shown


def test_changes_are_told_by_path():
    a = {"x": 1, "phases": [{"name": "s", "tokens": 1}], "only": [1, 2]}
    b = {"x": 1, "phases": [{"name": "s", "tokens": 2}], "only": [1]}
    assert list(changes(a, b)) == ["phases.s.tokens: 1 -> 2", "only.1: 2 -> not set"]


# ---- bad input


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"sources": {"sqlite": "0%", "debian": "0%"}}, MixtureError, "cannot be used"),
        ({"sources": {"sqlite": {"weight": -1}, "debian": "50%"}}, ConfigError, "sources.sqlite.weight"),
        ({"sources": {"sqlite": float("nan"), "debian": "50%"}}, (ConfigError, MixtureError), "sqlite|nan"),
        ({"sources": {"sqlite": "100%", "wiki": "0%"}}, MixtureError, "names 'wiki'"),
        ({"sources": {"sqlite": "100%"}, "tokens": "100M"}, MixtureError, "sqlite needs 100.*visits, cap 3"),
        ({"inputs": {}}, ConfigError, "the mixture has no inputs"),
        ({"inputs": {"x": {"artifact": "nothing"}}}, ArtifactError, "no finished artifact 'nothing'"),
        ({"inputs": {"x": "nothing.jsonl"}}, InputError, "nothing.jsonl"),
        ({"inputs": {"x": {"artifact": "sources/tokenizer"}}}, ConfigError, "neither tokens nor documents"),
        ({"scores": {"length": "edu"}}, (ConfigError, SchemaError), "edu|length"),
        ({"order": {"kind": "stair", "by": "edu", "splits": 3, "radius": 0.2}}, (ConfigError, OrderError), "order"),
        ({"tokns": "1M"}, ConfigError, "did you mean 'tokens'"),
        ({"preset": "smollm"}, MixtureError, "did you mean 'smollm3'"),
        ({"preset": {"name": "smollm3", "roles": {"web": "sqlite"}}}, MixtureError, "role 'code'"),
    ],
)
def test_bad_input_names_the_field_and_the_way_out(folder, built, change, error, message):
    with pytest.raises(error, match=message):
        mixing(write_mix(folder, "bad", **change), built).plan()


def test_another_tokenizer_is_refused_naming_both(folder, built, tmp_path):
    inputs = {"sqlite": "sqlite.jsonl", "old": {"artifact": "sources/debian/tokens", "workspace": str(built)}}
    file = write_mix(
        folder, "mixed", inputs=inputs, sources={"sqlite": "50%", "debian": "50%"}, tokenizer={"vocabulary": 700}
    )
    with pytest.raises(ConfigError, match="'sqlite' and 'old' were made with different tokenizers") as caught:
        mixing(file, tmp_path).plan()
    assert all(said in str(caught.value) for said in ("700 tokens", "600 tokens"))


def test_one_source_from_two_inputs_is_refused(folder, built):
    inputs = {name: {"artifact": "sources/sqlite/tokens"} for name in ("first", "second")}
    file = write_mix(folder, "twice", inputs=inputs, sources={"sqlite": "100%"}, tokenizer=None)
    with pytest.raises(ConfigError, match="'sqlite' comes from two inputs") as caught:
        mixing(file, built).plan()
    assert "under: second" in str(caught.value)


def test_a_source_written_twice_is_refused(folder, built):
    file = folder / "doubled.yaml"
    file.write_text("sources: {sqlite: 50%, debian: 25%, sqlite: 25%}\n")
    with pytest.raises(ConfigError, match="key 'sqlite' is written twice"):
        load_mix(file)


def test_an_order_whose_shards_changed_since_is_refused(folder, tmp_path):
    _, order = mixing(folder / "mix.yaml", tmp_path).build("mix")
    mixing(folder / "mix.yaml", tmp_path, "tokenizer.vocabulary=500").plan()
    held = Order(order)
    with pytest.raises(ArtifactError, match="is not the one that orders/mix was made from"):
        open_shards(held, tmp_path)


def test_an_allocation_that_cannot_be_read_says_what_to_do(mixed, tmp_path):
    shutil.copytree(mixed, tmp_path / "w")
    path = tmp_path / "w" / "mixture" / "mix" / "allocation.json"
    path.write_text(path.read_text().replace('"tokens"', '"tokenz"', 1))
    with pytest.raises(ArtifactError, match="build the mixture again"):
        show_command(tmp_path / "w", "mix")
