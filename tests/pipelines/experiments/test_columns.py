"""What a study's columns may be: scores by name, their mean, and learned weights."""

import numpy as np
import pytest

from corpus.artifacts import Artifact
from corpus.errors import ConfigError
from corpus.shards import read_table
from pipelines.experiments.columns import bound_columns, check_names, turned, weights_file
from pipelines.experiments.reading import write_run_order
from pipelines.token_source import TokenSource
from raters.weights_file import Evidence, WeightsFile, write_weights
from tests.pipelines.experiments.small_study import (
    copy_of,
    prepared,
    run_of,
    small_study,
    workshop,
    write_documents,
    write_scores,
)


@pytest.fixture(scope="module")
def root(study_root, tmp_path_factory):
    return copy_of(study_root, tmp_path_factory.mktemp("columns"))


@pytest.fixture
def weights(tmp_path):
    """Weights that count `edu` three times as much as `noise`, which is good when low."""
    path = tmp_path / "weights.json"
    write_weights(path, WeightsFile(scores=("edu", "noise"), weights=(3, 1), directions={"edu": "high", "noise": "low"},
                                    evidence=Evidence(summary="made for a test")))  # fmt: skip
    return path


def raw_scores(root):
    """The sidecars' columns by document."""
    rows = [row for path in Artifact(root / "scores/quality").files() for row in read_table(path).to_pylist()]
    return {row["id"]: row for row in rows}


def by_document(data):
    """The score of each document of the pool and of the held-out table, by id."""
    found = {row["id"]: row["score"] for row in data.heldout_table().to_pylist()}
    pool = data.pool_table()
    docs = [read_table(path.with_suffix(".docs.parquet"))["id"].to_pylist()
            for item in data.token_artifacts() for path in item.files(".npy")]  # fmt: skip
    rows = zip(pool["shard"].to_pylist(), pool["doc"].to_pylist(), pool["score"].to_pylist(), strict=True)
    return found | {docs[shard][doc]: score for shard, doc, score in rows}


def ranks(values):
    return np.argsort(np.argsort(values)) / len(values)


@pytest.mark.parametrize("name", ["edu", "quality/edu"])
def test_a_score_is_named_alone_or_after_its_sidecars(root, name):
    scores, raw = by_document(prepared(root, small_study(name="named"), columns={"score": name})), raw_scores(root)
    assert len(scores) > 150
    assert all(score == raw[one]["edu"] for one, score in scores.items())


def test_equal_is_the_mean_of_quantiles_turned_so_that_high_is_good(root):
    scores, raw = by_document(prepared(root, small_study(name="equal"), columns={"score": "equal"})), raw_scores(root)
    ids = sorted(raw)
    edu, noise, share = (np.array([raw[one][name] for one in ids]) for name in ("edu", "noise", "share"))
    middle = 1 - 2 * np.abs(ranks(share) - 0.5)  # the middle of a score that is best there counts as good
    expected = dict(zip(ids, (ranks(edu) + 1 - ranks(noise) + middle) / 3, strict=True))
    assert max(abs(scores[one] - expected[one]) for one in scores) < 0.02


def test_learned_weights_come_from_a_file_or_from_an_artifact(root, weights):
    study = small_study(name="learned")
    scores, raw = by_document(prepared(root, study, columns={"score": f"weights:{weights}"})), raw_scores(root)
    ids = sorted(raw)
    edu, noise = (np.array([raw[one][name] for one in ids]) for name in ("edu", "noise"))
    expected = dict(zip(ids, 0.75 * ranks(edu) + 0.25 * (1 - ranks(noise)), strict=True))
    assert max(abs(scores[one] - expected[one]) for one in scores) < 0.02
    shop = workshop(root)
    shop.build_here("weigh/weights", "weights", config={}, inputs=[],
                    make=lambda folder: weights.rename(folder / "weights.json") and {})  # fmt: skip
    assert by_document(prepared(root, study, columns={"score": "weights:weigh/weights"})) == scores
    with pytest.raises(ConfigError, match="did you mean 'weigh/weights'"):
        weights_file(root, "weigh/weight")


def test_combined_scores_are_not_combined_again(root):
    documents = [Artifact(root / "documents")]
    first = bound_columns(workshop(root), documents, {"score": "equal"})
    folder = root / "scores" / first["score"][0]
    before = Artifact(folder).manifest
    assert bound_columns(workshop(root), documents, {"score": "equal"}) == first
    assert Artifact(folder).manifest == before


def test_nothing_to_combine_says_what_to_run(root, tmp_path):
    rows = {"web": [{"id": f"{i:032x}", "text": f"page {i} " * 30, "source": "web"} for i in range(40)]}
    made = write_documents(tmp_path, "documents", rows)
    with pytest.raises(ConfigError, match="gradatim rate documents"):
        bound_columns(workshop(tmp_path), [made], {"score": "equal"})
    with pytest.raises(ConfigError, match="no weights file"):
        bound_columns(workshop(tmp_path), [made], {"score": "weights:weights.json"})


def test_one_name_with_two_good_ends_is_refused(tmp_path):
    rows = {
        source: [{"id": f"{number}{i:031x}", "text": f"{source} {i} " * 30, "source": source} for i in range(40)]
        for number, source in enumerate(("one", "two"))
    }
    for (source, held), better in zip(rows.items(), ("high", "low"), strict=True):
        made = write_documents(tmp_path, source, {source: held})
        write_scores(tmp_path, made, f"of_{source}", {"edu": better}, {"edu": 1})
    with pytest.raises(ConfigError, match=r"good when high for some documents, and when low for others"):
        prepared(tmp_path, small_study("sizes.minutes.vocabulary=280"), documents=["one", "two"])


def test_labels_are_not_turned(root, tmp_path):
    by_style = {"like": "shuffled.constant", "order": {"kind": "interleaved", "by": "score", "within": "style"}}
    extra = {**small_study().extra, "by_style": by_style}
    study = small_study(name="labels", columns={"score": "edu", "style": "style"}, extra=extra)
    data = prepared(root, study, documents=["documents", "rephrased"])
    pool = data.pool_table()
    assert set(pool["style"].to_pylist()) == {None, "easy"}
    sources = [TokenSource.of(item) for item in data.token_artifacts()]
    assert turned(pool, sources, {"style": ("style",)}).equals(pool)
    run = run_of(study, "by_style")
    assert write_run_order(data, run, tmp_path / "order").n_tokens == run.arm.tokens + 1


@pytest.mark.parametrize("name", ["random", "length", "document", "place", "shard"])
def test_the_pools_own_columns_are_not_to_be_named(name):
    with pytest.raises(ConfigError, match=f"cannot be called '{name}'"):
        check_names([name])
