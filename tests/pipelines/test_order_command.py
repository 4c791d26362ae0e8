"""`gradatim order` on real pages: any policy over token shards or a mixture, its measures, and errors that teach."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from corpus.artifacts import Artifact
from corpus.errors import ArtifactError, ConfigError
from corpus.shards import read_table
from corpus.tokens import read_docs
from curriculum.order import Order, OrderError
from curriculum.visits import same_visits
from pipelines.commands.order import order_command, policy_of
from pipelines.commands.workshop import RuntimeOptions
from tests.pipelines.small_mix import NAMES, mixing, score, write_mix
from tests.pipelines.small_recipe import gradatim

TOKENS = "sources/sqlite/tokens"


@pytest.fixture
def workspace(mixed, tmp_path):
    """A copy of the workspace with a score for every source: the number of the document."""
    copy = tmp_path / "w"
    shutil.copytree(mixed, copy)
    for source in NAMES.values():
        score(copy, source)
    return copy


def order(workspace, given, *overrides, **options):
    phases = options.pop("phases", ())
    name = options.pop("name", "made")
    runtime = RuntimeOptions(options.pop("runtime", "local"), 2)
    order_command(given, workspace, options, overrides, runtime, phases=phases, name=name)
    return Order.open(workspace / "orders" / name)


def test_tokens_are_read_once_each_from_the_worst_to_the_best(workspace, capsys):
    made = order(workspace, TOKENS, kind="sorted", by="edu")
    docs = read_docs(next((workspace / TOKENS).glob("*.npy")))
    assert made.table()["doc"].to_pylist() == list(range(docs.num_rows))
    assert made.n_tokens == pc.sum(docs["length"]).as_py()
    shown = " ".join(capsys.readouterr().out.split())
    assert "rank correlation of position and score +1.0000" in shown
    assert "ends with the best" in shown
    assert "sqlite: 100.0% to 100.0%" in shown


def test_the_other_way_round_ends_with_the_worst(workspace, capsys):
    made = order(workspace, TOKENS, "ascending=false", kind="sorted", by="edu")
    docs = made.table()["doc"].to_pylist()
    assert docs == sorted(docs, reverse=True)
    assert "ends with the worst" in capsys.readouterr().out


def test_documents_are_cut_into_powers_of_two_on_request(workspace):
    whole = order(workspace, TOKENS, kind="sorted", by="length", name="whole")
    pieces = order(workspace, TOKENS, "pieces=[64, 256]", "schedule=growing", kind="length_cycles").table()
    lengths = pieces["length"].to_numpy()
    assert set(lengths[lengths >= 64].tolist()) == {64, 128, 256}
    assert (np.diff(np.frexp(lengths)[1]) >= 0).all()
    rows = pieces.select(["shard", "doc", "length"]).group_by(["shard", "doc"]).aggregate([("length", "sum")])
    docs = whole.table().select(["shard", "doc", "length"])
    assert sorted(map(tuple, (row.values() for row in docs.to_pylist()))) == sorted(
        map(tuple, (row.values() for row in rows.to_pylist()))
    )


def test_labels_are_fields_of_the_documents_and_keys_of_their_meta(workspace):
    """Blocking by the address of a page: subjects in turn, each page's visits together, and none without a label."""
    made = order(workspace, TOKENS, "subject=url", kind="blocking", by="edu").table()
    docs = [path for path in (workspace / "sources/sqlite/documents").glob("*.parquet")]
    urls = dict(zip(*(read_table(docs[0], ["id", "url"])[name].to_pylist() for name in ("id", "url")), strict=True))
    assert len(set(urls.values())) == len(urls) == made.num_rows
    assert same_visits(made, order(workspace, TOKENS, kind="shuffled").table())
    with pytest.raises(OrderError, match=r"no visit has a score 'edu, meta\.topic'"):
        order(workspace, TOKENS, "subject=meta.topic", kind="blocking", by="edu")


def test_folds_stand_where_the_reference_puts_them(workspace):
    made = order(workspace, TOKENS, "folds=3", kind="folding", by="edu")
    n = made.n_visits
    assert made.table()["doc"].to_pylist() == [i for fold in range(3) for i in range(fold, n, 3)]


def test_length_needs_no_rater(workspace):
    made = order(workspace, TOKENS, kind="sorted", by="-length")
    lengths = made.table()["length"].to_pylist()
    assert lengths == sorted(lengths, reverse=True)


def test_a_mixtures_visits_are_put_in_another_order(mix_folder, workspace):
    scores = {"edu": [f"edu_{source}/edu" for source in NAMES.values()]}
    mixture, mixed = mixing(write_mix(mix_folder, "scored", scores=scores), workspace).build("scored")
    made = order(workspace, "mixture/scored", kind="interleaved", by="edu")
    assert same_visits(made.table(), read_table(mixture.visits))
    assert same_visits(made.table(), Order(mixed).table())
    sqlite = made.table().filter(pc.equal(made.table()["source"].cast(pa.string()), "sqlite"))["score"].to_pylist()
    assert sqlite == sorted(sqlite)
    assert made.shards == Order(mixed).shards


def test_a_score_that_the_draw_did_not_need_is_looked_up(mix_folder, workspace):
    """The visits hold no score; the order has that of each document, and the mixture is not drawn again."""
    mixture, _ = mixing(write_mix(mix_folder, "plain"), workspace).build("plain")
    drawn = mixture.artifact.manifest.fingerprint
    assert "edu" not in read_table(mixture.visits).column_names
    made = order(workspace, "mixture/plain", kind="sorted", by="edu").table()
    plain = Order.open(workspace / "orders/plain").table()
    assert same_visits(made, plain)
    assert made["score"].to_pylist() == sorted(made["score"].to_pylist())
    assert made["score"].to_pylist() == made["doc"].to_pylist()  # the score of a document is its number
    assert Artifact(workspace / "mixture/plain").manifest.fingerprint == drawn


def test_one_phase_alone_is_put_in_another_order(workspace):
    before = Order.open(workspace / "orders" / "phased").table()
    made = order(workspace, "mixture/phased", kind="sorted", by="length", phases=["anneal"]).table()
    first = np.searchsorted(np.cumsum(before["length"].to_numpy()), 240_000) + 1
    assert made.slice(0, first).drop_columns(["rule"]).equals(before.slice(0, first).drop_columns(["rule"]))
    lengths = made.slice(first)["length"].to_pylist()
    assert lengths == sorted(lengths)
    assert same_visits(made, before)


def test_all_phases_are_put_in_order_one_after_the_other(workspace):
    table = order(workspace, "mixture/phased", kind="sorted", by="length").table()
    assert pc.unique(table["phase"].cast(pa.string())).to_pylist() == ["stable", "anneal"]
    for phase in ("stable", "anneal"):
        lengths = table.filter(pc.equal(table["phase"].cast(pa.string()), phase))["length"].to_pylist()
        assert lengths == sorted(lengths)


def test_settings_are_read_as_in_a_recipe():
    policy = policy_of({"kind": "sorted", "by": "level, -edu"}, ["missing=last", "jitter=1K"])
    assert (policy.by, policy.missing, policy.jitter) == (("level", "-edu"), "last", 1000)


@pytest.mark.parametrize(
    ("given", "options", "overrides", "error", "message"),
    [
        (TOKENS, {"kind": "sorted", "by": "edo"}, [], ConfigError, "did you mean 'edu'"),
        (TOKENS, {"kind": "sorted"}, [], ConfigError, "by' is missing"),
        (TOKENS, {"kind": "sortd", "by": "edu"}, [], ConfigError, "did you mean 'sorted'"),
        (TOKENS, {"kind": "sorted", "by": "edu"}, ["assending=true"], ConfigError, "did you mean 'ascending'"),
        (TOKENS, {"kind": "stair", "by": "edu"}, ["radius=0.3"], ConfigError, "windows overlap"),
        (TOKENS, {"kind": "folding", "by": "edu"}, ["folds=1000"], (ConfigError, OrderError), "fold"),
        (TOKENS, {"kind": "sorted", "by": "edu", "phases": ["x"]}, [], ConfigError, "have no phases"),
        ("sources/tokenizer", {"kind": "sorted", "by": "edu"}, [], ConfigError, "cannot be put in order"),
        (
            "sources/sqlite/token",
            {"kind": "sorted", "by": "edu"},
            [],
            ArtifactError,
            "did you mean 'sources/sqlite/tokens'",
        ),
        ("mixture/phased", {"kind": "sorted", "by": "length", "phases": ["aneal"]}, [], ArtifactError, "'anneal'"),
        (
            "mixture/mix",
            {"kind": "sorted", "by": "ede"},
            [],
            ConfigError,
            "no input has a score 'ede'; did you mean 'edu'",
        ),
    ],
)
def test_bad_input_names_the_field_and_the_way_out(workspace, given, options, overrides, error, message):
    with pytest.raises(error, match=message):
        order(workspace, given, *overrides, **options)


def test_a_score_that_is_all_null_is_refused(workspace):
    shutil.rmtree(workspace / "scores" / "edu_django")
    score(workspace, "django", [None] * 25)
    with pytest.raises(OrderError, match="no visit has a score 'edu'"):
        order(workspace, "sources/django/tokens", kind="sorted", by="edu")


def test_documents_without_a_score_have_a_place_when_asked(workspace):
    shutil.rmtree(workspace / "scores" / "edu_django")
    score(workspace, "django", [None, *range(24)])
    with pytest.raises(OrderError, match="1 of 25 visits have no score 'edu'"):
        order(workspace, "sources/django/tokens", kind="sorted", by="edu")
    made = order(workspace, "sources/django/tokens", "missing=last", kind="sorted", by="edu")
    assert made.table()["doc"].to_pylist() == [*range(1, 25), 0]


def test_the_command_as_a_user_runs_it(workspace):
    done = gradatim("order", TOKENS, "--kind", "zigzag", "--by", "edu", "--set", "folds=3", "-w", workspace)
    assert done.returncode == 0, done.stderr
    assert "The order is in" in done.stdout
    assert Artifact(workspace / "orders" / "zigzag").manifest.config["policy"]["folds"] == 3
