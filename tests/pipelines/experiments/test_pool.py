"""The pool, the held-out documents and their properties, on real pages."""

import pickle
from itertools import pairwise

import numpy as np
import pyarrow.compute as pc
import pytest

from corpus.artifacts import Artifact
from corpus.errors import ArtifactError, ConfigError, InputError
from corpus.shards import read_table
from corpus.tokenizer import load_encoder
from curriculum.visits import CANDIDATE_SCHEMA
from mixtures.shares import MixtureError
from pipelines.experiments.heldout import held_out
from pipelines.experiments.results import BEST
from tests.pipelines.experiments.small_study import (
    copy_of,
    prepared,
    small_study,
    write_documents,
    write_scores,
    write_workspace,
)

BOTH = ("documents", "rephrased")


@pytest.fixture(scope="module")
def root(study_root, tmp_path_factory):
    return copy_of(study_root, tmp_path_factory.mktemp("pools"))


@pytest.fixture(scope="module")
def both(root):
    """The small study over documents and their rephrasings."""
    return prepared(root, small_study(name="both"), documents=BOTH)


def documents_of(root, *names):
    """All documents by id."""
    rows = [row for name in names for path in Artifact(root / name).files() for row in read_table(path).to_pylist()]
    return {row["id"]: row for row in rows}


def pool_ids(data):
    """The id of each piece's document."""
    docs = [read_table(path.with_suffix(".docs.parquet"))["id"].to_pylist()
            for item in data.token_artifacts() for path in item.files(".npy")]  # fmt: skip
    pool = data.pool_table()
    return [docs[shard][doc] for shard, doc in zip(pool["shard"].to_pylist(), pool["doc"].to_pylist(), strict=True)]


def decoded(data, ids):
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(data.tokenizer_file)).decode([int(i) for i in ids], skip_special_tokens=True)


def test_no_heldout_document_and_no_rephrasing_of_one_is_in_the_pool(root, both):
    documents = documents_of(root, *BOTH)
    originals = {documents[name]["parent_id"] or name for name in pool_ids(both)}
    measured = set(both.heldout_table()["id"].to_pylist())
    assert measured
    assert not originals & measured
    roots = [row["parent_id"] or name for name, row in documents.items()]
    assert originals == {name for name, out in zip(roots, held_out(roots, 0.2), strict=True) if not out}


def test_rephrasings_are_measured_only_where_the_target_names_them(root, both):
    assert set(both.heldout_sets()) == {"web", "handbook", "german", BEST}
    roles = {"real": "pages", "synthetic": "rephrased pages"}
    study = small_study(name="wrap", roles=roles)
    bound = {"real": ["web"], "synthetic": ["wrap"]}
    plain = prepared(root, study, documents=BOTH, roles=bound)
    assert set(plain.heldout_sets()) == {"real/web", "handbook", "german", BEST}
    study = small_study("sizes.minutes.measured.target=[real,synthetic]", name="wrap", roles=roles)
    named = prepared(root, study, documents=BOTH, roles=bound)
    assert set(named.heldout_sets()) == {"real/web", "synthetic/wrap/easy", "handbook", "german", BEST}
    assert set(named.pool_table()["source"].to_pylist()) == set(named.heldout_sets()) - {BEST}
    target = prepared(root, small_study("sizes.minutes.measured.target=[wrap]", name="target"), documents=BOTH)
    assert "wrap/easy" in target.heldout_sets()
    table = named.heldout_table()
    best = table.filter(table["best"])["source"].to_pylist()
    assert "synthetic/wrap/easy" not in best


def test_sources_that_no_arm_reads_are_left_out_unless_they_are_the_target(root):
    mixture = {"sources": {"web": "50%", "hand*": "50%"}, "max_visits": 4}
    changes = {"name": "some", "base": {**small_study().base, "mixture": mixture}, "extra": {},
               "factors": {"order": {"shuffled": {}, "mixed": {"order": {"kind": "mixed"}}}},
               "contrasts": {"order": {"arm": "mixed", "against": "shuffled"}}}  # fmt: skip
    data = prepared(root, small_study(**changes), documents=BOTH)
    assert set(data.pool_table()["source"].to_pylist()) == {"web", "handbook"}
    assert set(data.heldout_sets()) == {"web", "handbook", BEST}
    assert Artifact(root / data.pool).manifest.config["sources"] == ["handbook", "web"]
    target = small_study("sizes.minutes.measured.target=[german,web]", **changes)
    data = prepared(root, target, documents=BOTH)
    assert set(data.heldout_sets()) == {"web", "handbook", "german", BEST}
    assert set(data.pool_table()["source"].to_pylist()) == {"web", "handbook"}


def test_pieces_cover_the_beginning_of_each_document_once(both):
    pool = both.pool_table()
    pieces = {}
    for row in pool.select(["shard", "doc", "start", "length", "document_tokens", "score"]).to_pylist():
        pieces.setdefault((row["shard"], row["doc"]), []).append(row)
    assert pool["length"].to_numpy().max() == 64
    assert len({*pool["digest"].to_pylist()}) == pool.num_rows
    assert pool.schema.names[: len(CANDIDATE_SCHEMA)] == CANDIDATE_SCHEMA.names
    starts = [read_table(path.with_suffix(".docs.parquet"))["start"].to_pylist()
              for item in both.token_artifacts() for path in item.files(".npy")]  # fmt: skip
    for (shard, doc), rows in pieces.items():
        rows.sort(key=lambda row: row["start"])
        assert rows[0]["start"] == starts[shard][doc]
        assert all(b["start"] == a["start"] + a["length"] for a, b in pairwise(rows))
        assert all(row["length"] == 64 for row in rows[:-1])
        assert sum(row["length"] for row in rows) == min(rows[0]["document_tokens"], 500)
        assert len({row["score"] for row in rows}) == 1


def test_tokens_of_a_piece_are_those_of_its_document(root, both):
    pool, ids, documents = both.pool_table(), pool_ids(both), documents_of(root, *BOTH)
    arrays, seen = both.token_arrays(), {}
    for name, row in zip(ids, pool.select(["shard", "start", "length"]).to_pylist(), strict=True):
        part = arrays[row["shard"]][row["start"] : row["start"] + row["length"]]
        seen.setdefault(name, []).append((row["start"], part))
    for name, parts in list(seen.items())[:20]:
        text = decoded(both, np.concatenate([part for _, part in sorted(parts, key=lambda part: part[0])]))
        assert documents[name]["text"].startswith(text.rstrip("�"))


def test_a_low_score_is_turned_and_the_middle_is_refused(root, both):
    low = prepared(root, small_study(name="low"), documents=BOTH, columns={"score": "noise"})
    raw = {}
    for path in Artifact(root / "scores/quality").files():
        table = read_table(path)
        raw |= dict(zip(table["id"].to_pylist(), table["noise"].to_pylist(), strict=True))
    documents = documents_of(root, *BOTH)
    for name, score in zip(pool_ids(low), low.pool_table()["score"].to_pylist(), strict=True):
        assert score == -raw[documents[name]["parent_id"] or name]  # a rephrasing has its parent's
    with pytest.raises(ConfigError, match="best in the middle"):
        prepared(root, small_study(name="middle"), columns={"score": "quality/share"})


def test_heldout_bytes_are_those_of_the_measured_text(root, both):
    table, sets, documents = both.heldout_table(), both.heldout_sets(), documents_of(root, *BOTH)
    at = dict.fromkeys(sets, 0)
    for row in table.to_pylist():
        one = sets[row["source"]]
        ids = one.tokens[at[row["source"]] : at[row["source"]] + row["n_tokens"]]
        at[row["source"]] += row["n_tokens"]
        text = documents[row["id"]]["text"].encode()
        piece = decoded(both, ids).rstrip("�").encode()
        assert text.startswith(piece)
        assert len(piece) <= row["n_bytes"] <= min(len(piece) + 3, len(text))  # a character may be cut amid
        if ids[-1] == load_encoder(both.tokenizer_file).end_of_text:
            assert row["n_bytes"] == len(text)
    for source in set(table["source"].to_pylist()):
        one, rows = sets[source], table.filter(pc.equal(table["source"], source))
        assert at[source] == len(one.tokens) <= 4_000
        assert one.lengths.tolist() == rows["n_tokens"].to_pylist()
        assert one.n_bytes == sum(rows["n_bytes"].to_pylist())
        assert max(rows["n_tokens"].to_pylist()) <= 4_000 // 20


def test_tenths_and_the_best_follow_the_score(both):
    table = both.heldout_table().sort_by("score")
    n = table.num_rows
    assert table["tenth"].to_pylist() == [10 * i // n for i in range(n)]
    k = round(0.2 * n)
    assert table["best"].to_pylist() == [False] * (n - k) + [True] * k
    best = both.heldout_sets()[BEST]
    assert sorted(best.lengths.tolist()) == sorted(table["n_tokens"].to_pylist()[n - k :])
    assert best.n_bytes == sum(table["n_bytes"].to_pylist()[n - k :])


def test_curve_sets_are_the_same_documents_shorter(both):
    curve, whole = both.curve_sets(), both.heldout_sets()
    assert set(curve) == set(whole)
    for source in ("web", "handbook", "german"):
        assert len(curve[source].tokens) <= 800
        n = int(curve[source].lengths[0])
        assert curve[source].tokens[:n].tolist() == whole[source].tokens[:n].tolist()


def test_without_a_score_there_are_no_tenths_and_no_best(root):
    order = {"order": {"shuffled": {}, "random": {"order": {"kind": "sorted", "by": "random"}}}}
    study = small_study(name="unscored", columns={}, factors=order, extra={},
                        contrasts={"order": {"arm": "random", "against": "shuffled"}})  # fmt: skip
    data = prepared(root, study)
    assert set(data.heldout_sets()) == {"web", "handbook", "german"}
    assert set(data.heldout_table()["tenth"].to_pylist()) == {-1}
    assert data.heldout_table()["score"].null_count == data.heldout_table().num_rows


def test_same_bytes_for_any_number_of_workers_and_a_second_time(tmp_path):
    checksums = []
    for workers in (1, 2):
        root = tmp_path / str(workers)
        write_workspace(root)
        data = prepared(root, small_study(), documents=BOTH, workers=workers)
        names = (data.pool, data.heldout, data.curve, *data.tokens)
        checksums.append([(part.file, part.xxh3) for name in names for part in Artifact(root / name).manifest.parts])
        again = prepared(root, small_study(), documents=reversed(BOTH), workers=workers)
        assert again == data
        assert pickle.loads(pickle.dumps(data)) == data
    assert checksums[0] == checksums[1]
    assert data.fingerprint == prepared(tmp_path / "1", small_study(), documents=BOTH).fingerprint


def test_what_decides_the_data_decides_the_fingerprint(root, both):
    changed = ("measured.share=30%", "measured.tokens=3000", "pool.longest=400", "pool.tokens=40000")
    prints = {prepared(root, small_study(f"sizes.minutes.{one}", name="both"), documents=BOTH).fingerprint
              for one in changed}  # fmt: skip
    assert len({*prints, both.fingerprint}) == 5
    assert prepared(root, small_study(name="both"), documents=BOTH) == both
    assert prepared(root, small_study("sizes.minutes.seeds=3", name="both"), documents=BOTH) == both
    more = {"apart": {"like": "shuffled.constant", "mixture": {"sources": {"web": 1}, "weighing": "given"}}}
    larger = small_study(name="both", extra={**small_study().extra, **more})
    assert prepared(root, larger, documents=BOTH) == both  # so what was trained stays trained


def test_studies_share_tokens(root, both):
    other = prepared(root, small_study(name="other"), documents=BOTH)
    assert (other.tokenizer, other.tokens) == (both.tokenizer, both.tokens)
    assert other.pool != both.pool
    assert both.vocabulary == 384


def test_limits_of_the_pool_hold_and_larger_ones_keep_what_was_there(root, both):
    sizes = {}
    for limit in (15_000, 25_000):
        study = small_study(f"sizes.minutes.pool.per_source={limit}", name="limited")
        data = prepared(root, study, documents=BOTH)
        pool = data.pool_table()
        by_source = pool.group_by("source").aggregate([("length", "sum")]).to_pylist()
        assert all(limit - 500 < row["length_sum"] <= limit or row["length_sum"] < limit for row in by_source)
        sizes[limit] = set(pool_ids(data))
    assert sizes[15_000] < sizes[25_000] < set(pool_ids(both))
    documents = documents_of(root, *BOTH)
    small = prepared(root, small_study("sizes.minutes.pool.tokens=30000", name="limited"), documents=BOTH)
    assert 29_500 < sum(small.pool_table()["length"].to_pylist()) <= 30_000
    together = set(pool_ids(small))
    pairs = [row["parent_id"] in together for name, row in documents.items() if row["parent_id"] and name in together]
    assert np.mean(pairs) > 0.9  # a document and its rephrasing are let in together


def test_documents_without_a_score_that_others_of_their_source_have_are_left_out(tmp_path):
    write_workspace(tmp_path)
    documents = documents_of(tmp_path, "documents")
    some = {name for name, row in documents.items() if row["source"] == "web"}
    missing = {name for name, row in documents.items() if row["source"] == "german"} | set(sorted(some)[:8])
    write_scores(tmp_path, Artifact(tmp_path / "documents"), "partly", {"partly": "high"}, {"partly": 4}, missing)
    data = prepared(tmp_path, small_study(), columns={"score": "partly"})
    read = set(pool_ids(data))
    assert read & missing == {name for name in read if documents[name]["source"] == "german"}  # none of it is rated
    assert read & some == {name for name in some - missing if not held_out([name], 0.2)[0]}
    assert Artifact(tmp_path / data.pool).manifest.totals["unscored"] == 8 - sum(held_out(sorted(some)[:8], 0.2))
    for row in data.heldout_table().to_pylist():
        assert (row["tenth"] == -1) == (row["id"] in missing)


@pytest.mark.parametrize(
    ("roles", "problem"),
    [
        ({}, "nothing plays the role 'old'"),
        ({"old": ["web"], "young": ["german"]}, "has no role 'young'"),
        ({"old": ["wob"], "new": ["german"]}, "did you mean 'web'"),
        ({"old": ["web"], "new": ["web"]}, "plays two roles"),
    ],
)
def test_roles_that_cannot_be_had_are_refused(root, roles, problem):
    study = small_study(name="roles", roles={"old": "what is read first", "new": "what is read then"})
    with pytest.raises(ConfigError, match=problem):
        prepared(root, study, roles=roles)


def test_refusals_name_what_to_change(root):
    with pytest.raises(ConfigError, match="did you mean 'edu'"):
        prepared(root, small_study(name="refused"), columns={"score": "edo"})
    with pytest.raises(ConfigError, match="did you mean 'handbook'"):
        prepared(root, small_study("sizes.minutes.measured.target=[handbok]", name="refused"))
    with pytest.raises(InputError, match=r"no document of 'handbook' was held out[\s\S]*measured.share"):
        prepared(root, small_study("sizes.minutes.measured.share=0.001", name="refused"))
    with pytest.raises(InputError, match="all documents are rephrasings"):
        prepared(root, small_study(name="refused"), documents=["rephrased"])
    with pytest.raises(ArtifactError, match=r"scores/quality holds no documents"):
        prepared(root, small_study(name="refused"), documents=["scores/quality"])
    with pytest.raises(ConfigError, match=r"lower sizes.minutes.vocabulary"):
        prepared(root, small_study("sizes.minutes.vocabulary=30000", name="refused"))
    factors = {**small_study().factors}
    longer = {**factors, "schedule": {**factors["schedule"], "long": {"plan": {"sequence_length": 128}}}}
    with pytest.raises(ConfigError, match="sequences of different lengths"):
        prepared(root, small_study(name="refused", factors=longer))
    with pytest.raises(ConfigError, match="cannot be called 'document'"):
        prepared(root, small_study(name="refused"), columns={"document": "edu"})


def test_one_source_in_two_artifacts_is_refused(tmp_path):
    write_workspace(tmp_path)
    rows = [row for name, row in documents_of(tmp_path, "documents").items() if row["source"] == "web"]
    write_documents(tmp_path, "more", {"web": [{key: row[key] for key in ("id", "text", "source")} for row in rows]})
    with pytest.raises(ConfigError, match=r"'web' is in two artifacts[\s\S]*documents and more"):
        prepared(tmp_path, small_study(), documents=["documents", "more"])


def test_a_pool_that_is_too_small_says_how_much_there_is_and_what_to_change(root):
    study = small_study("sizes.minutes.plan.tokens=600K", name="short")
    with pytest.raises(MixtureError, match=r"the arm shuffled.constant cannot be read") as caught:
        prepared(root, study)
    said = str(caught.value)
    assert "tokens in the pool: german " in said
    assert "sizes.minutes.plan.tokens" in said
    assert "sizes.minutes.pool" in said
    assert "max_visits" in said


def test_a_mixture_of_unknown_sources_is_not_taken_for_a_small_pool(root):
    study = small_study(name="unknown", base={**small_study().base, "mixture": {"sources": {"wob": "100%"}}}, extra={},
                        factors={"order": {"shuffled": {}, "random": {"order": {"kind": "sorted", "by": "random"}}}},
                        contrasts={"order": {"arm": "random", "against": "shuffled"}})  # fmt: skip
    with pytest.raises(MixtureError, match="did you mean 'web'") as caught:
        prepared(root, study)
    assert "sizes.minutes.pool" not in str(caught.value)
