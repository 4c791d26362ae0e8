"""The command line as a user meets it: help at once, errors that teach, output that can be piped."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from corpus.errors import ConfigError
from pipelines.recipe import DEMO, load_recipe, recipe_file
from pipelines.runtime import LocalRuntime
from tests.pipelines.small_recipe import gradatim, run, write_recipe


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    run(write_recipe(folder / "r"), folder / "w", LocalRuntime(1))
    return folder / "w"


def test_help_loads_nothing_heavy():
    heavy = ("torch", "pyspark", "vllm", "datatrove", "polars", "duckdb", "pyarrow", "numba", "transformers")
    code = f"import sys, pipelines.cli; print([m for m in {heavy!r} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_every_command_explains_itself():
    for command in ("run", "rate", "weigh", "select", "ls", "show", "report", "sql", "doctor", "trace", "verify"):
        ended = gradatim(command, "--help")
        assert ended.returncode == 0
        assert "Usage" in ended.stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokeniser": {}}, "'tokeniser'; did you mean 'tokenizer'"),
        ({"inputs": {"web": {"kind": "wrc", "path": "x"}}}, "inputs.web"),
        ({"inputs": {"web": {"kind": "warc", "path": "web.warc.gz", "pth": 1}}}, "did you mean 'path'"),
        ({"stages": [{"filter": "gopherr"}]}, "did you mean 'gopher'"),
        ({"stages": [{"filter": "gopher", "sources": ["wb"]}]}, "did you mean 'web'"),
        ({"heldout": 10}, "10% if you mean per cent"),
        ({"train": {"arms": {}}, "mixture": None}, "train needs a mixture"),
        ({"inputs": {"web": {"kind": "warc", "path": "none.warc.gz"}}}, "an input is missing"),
    ],
)
def test_a_wrong_recipe_says_what_is_wrong(tmp_path, change, message):
    ended = gradatim("run", write_recipe(tmp_path, **change), "-w", tmp_path / "w", "--runtime", "local")
    assert ended.returncode == 2
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_settings_can_be_overridden_and_are_explained():
    recipe = load_recipe(DEMO, ("mixture.tokens=3M", "train.arms.shuffled.plan.peak_lr=1e-3"))
    assert recipe.mixture.tokens == 3_000_000
    assert recipe.train.arms["shuffled"].plan.peak_lr == 1e-3
    with pytest.raises(ConfigError, match="did you mean 'tokens'"):
        load_recipe(DEMO, ("mixture.token=30K",))
    assert "mixture.tokens = 3000000" in gradatim("run", "demo", "--explain", "--set", "mixture.tokens=3M").stdout


def test_a_plan_that_cannot_be_followed_is_refused_before_any_work():
    with pytest.raises(ConfigError, match=r"shorter than half an optimizer step(.|\n)*train\.arms\.shuffled\.plan"):
        load_recipe(DEMO, ("train.arms.shuffled.plan.tokens=8192",))
    with pytest.raises(ConfigError, match="the plan of shuffled reads more than the mixture holds"):
        load_recipe(DEMO, ("train.arms.shuffled.plan.tokens=500K", "mixture.tokens=499K"))


def test_the_models_vocabulary_follows_the_tokenizers():
    assert load_recipe(DEMO, ("tokenizer.vocabulary=3000",)).train.model.vocabulary == 3008


def test_artifacts_are_listed_shown_and_queried(workspace):
    listing = gradatim("ls", "-w", workspace).stdout
    assert "scores/composite" in listing
    shown = gradatim("show", "documents", "-w", workspace, "--dropped").stdout
    assert "language: " in shown
    answer = gradatim("sql", "SELECT count(*) AS n FROM clean", "-w", workspace, "--format", "json").stdout
    assert json.loads(answer)["n"] > 0
    assert gradatim("sql", "SELECT 1 AS one", "-w", workspace, "--format", "csv").stdout == "one\n1\n"


def test_mistakes_at_the_command_line_get_hints(workspace, tmp_path):
    for arguments, message in [
        (("show", "filterd"), "did you mean 'filtered'"),
        (("sql", "SELECT * FROM cleann"), "clean"),
        (("sql", "SELECT 1", "--format", "xml"), "table, csv or json"),
        (("trace", "ascending", "3"), "there is no finished artifact"),
    ]:
        ended = gradatim(*arguments, "-w", workspace)
        assert ended.returncode == 2
        assert message in ended.stderr
    assert "holds no finished artifact" in gradatim("ls", "-w", tmp_path).stderr
    assert "there is no runtime" in gradatim("run", "demo", "-w", tmp_path, "--runtime", "dask").stderr


def test_verify_finds_a_changed_byte(workspace, tmp_path):
    assert gradatim("verify", workspace).returncode == 0
    path = workspace / "clean" / "manifest.json"
    original = path.read_bytes()
    path.write_bytes(original.replace(b'"totals"', b'"totals" '))
    ended = gradatim("verify", workspace / "clean", workspace / "clean")
    assert ended.returncode == 0
    shard = next((workspace / "tokens").glob("*.npy"))
    content = shard.read_bytes()
    shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    ended = gradatim("verify", workspace)
    assert ended.returncode == 1
    assert f"tokens/{shard.name}: content is not what the manifest says" in ended.stdout
    shard.write_bytes(content)
    path.write_bytes(original)


def test_the_bundled_recipe_is_found_beside_a_folder_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert recipe_file(Path("demo")) == DEMO
    assert load_recipe(Path("demo")).name == "demo"
    (tmp_path / "demo").rmdir()
    (tmp_path / "demo").write_text("name: mine")
    with pytest.raises(ConfigError, match="'inputs' is missing"):
        load_recipe(Path("demo"))
