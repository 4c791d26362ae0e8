"""A route is a pure function of id, bucket and seed; its control gives out as many tokens blind to the score."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.config import Config, validated
from corpus.documents import document_id
from corpus.errors import ConfigError
from rephrase.routing import (
    BUCKETS,
    QUALITY_BANDS,
    Buckets,
    Routing,
    fit_buckets,
    quota_weights,
    route,
    route_at_random,
    styles_of_bands,
    table_of,
)

STYLES = styles_of_bands(QUALITY_BANDS)


def ids(n):
    return [document_id("t", str(i)) for i in range(n)]


def routed(names, buckets, routing, styles=STYLES, seed=0, per_document=1):
    weights = quota_weights(routing, styles, np.ones(len(styles)))
    table = table_of(routing, styles)
    return route(names, np.asarray(buckets), styles, table, seed=seed, per_document=per_document, weights=weights)


def test_the_bundled_table_is_the_references():
    expected = {
        range(1, 3): set(),
        range(3, 9): {"guided_rewrite", "wikipedia"},
        range(9, 12): {"wikipedia", "medium", "easy"},
        range(12, 18): {"qa", "diverse_qa", "faq", "tutorial", "table"},
        range(18, 21): {"distill", "extract_knowledge", "knowledge_list", "math", "table", "faq"},
    }
    table = table_of(Routing(kind="quality"), STYLES)
    assert not table[0].any()
    for buckets, styles in expected.items():
        for bucket in buckets:
            assert {style for style, on in zip(STYLES, table[bucket], strict=True) if on} == styles


@settings(deadline=None)
@given(st.lists(st.integers(0, BUCKETS), min_size=1, max_size=40), st.randoms(), st.integers(0, 9), st.integers(1, 4))
def test_a_documents_styles_depend_on_nothing_but_its_id_its_bucket_and_the_seed(buckets, random, seed, per_document):
    names = ids(len(buckets))
    routing = Routing(kind="quality")
    whole = routed(names, buckets, routing, seed=seed, per_document=per_document)
    some = random.sample(range(len(buckets)), random.randint(1, len(buckets)))
    alone = routed([names[i] for i in some], [buckets[i] for i in some], routing, seed=seed, per_document=per_document)
    assert (whole[some] == alone).all()
    table = table_of(routing, STYLES)
    assert not (whole & ~table[buckets]).any()
    assert (whole.sum(axis=1) == np.minimum(per_document, table[buckets].sum(axis=1))).all()


def test_another_seed_routes_otherwise_and_the_switch_is_off_for_all():
    names, buckets = ids(200), [12] * 200
    quality = Routing(kind="quality")
    assert (routed(names, buckets, quality) != routed(names, buckets, quality, seed=1)).any()
    assert routed(names, [0] * 200, Routing(kind="all"), per_document=None).all()


def test_quotas_weigh_the_draw():
    styles = ["easy", "qa", "table"]
    routing = Routing(kind="all", quotas={"qa": 0.6}, quota_of="documents")
    marks = routed(ids(20_000), [0] * 20_000, routing, styles=styles)
    assert marks.sum(axis=1).max() == 1
    assert np.allclose(marks.mean(axis=0), [0.2, 0.6, 0.2], atol=0.015)  # four standard deviations: 0.014
    none = routed(ids(100), [0] * 100, Routing(kind="all", quotas={"easy": 0}), styles=styles, per_document=None)
    assert not none[:, 0].any()


def test_quotas_of_tokens_allow_for_how_long_a_styles_outputs_are():
    routing = Routing(kind="all", quotas={"easy": 0.5, "qa": 0.5})
    weights = quota_weights(routing, ["easy", "qa"], np.array([1.0, 0.25]))
    assert weights[1] == 4 * weights[0]


def test_a_style_of_ones_own_goes_wherever_any_style_goes():
    styles = ["easy", "mine"]
    table = table_of(Routing(kind="quality"), styles)
    assert table[:, 1].tolist() == [False] * 3 + [True] * 18
    assert np.flatnonzero(table[:, 0]).tolist() == [9, 10, 11]


def test_bands_of_ones_own():
    table = table_of(Routing(kind="quality", bands={"1": ("easy",), "19-20": ("qa", "easy")}), ["easy", "qa"])
    assert np.flatnonzero(table[:, 0]).tolist() == [1, 19, 20]
    assert np.flatnonzero(table[:, 1]).tolist() == [19, 20]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"kind": "quality", "bands": {"3-8": ["easy"], "8": ["qa"]}}, "bucket 8 lies in two bands"),
        ({"kind": "quality", "bands": {"0-3": ["easy"]}}, "'0-3' is no band of buckets"),
        ({"kind": "quality", "bands": {"high": ["easy"]}}, "'high' is no band of buckets"),
        ({"kind": "all", "bands": {"3-8": ["easy"]}}, "bands need kind: quality or random"),
        ({"quotas": {"easy": 0.7, "qa": "40%"}}, "the quotas add up to 110.0%"),
    ],
)
def test_what_cannot_be_routed_is_refused(data, said):
    with pytest.raises(ConfigError, match=said):
        validated(Routing, data, "rephrase.route")


def test_styles_that_are_not_asked_for_are_named():
    with pytest.raises(ConfigError, match="not asked for: 'quiz'"):
        table_of(Routing(kind="quality", bands={"1-20": ("quiz",)}), ["easy"])
    with pytest.raises(ConfigError, match=r"quota of a style that is not asked for: 'eazy'; did you mean 'easy'\?"):
        table_of(Routing(quotas={"eazy": 0.5}), ["easy"])


def test_a_route_may_be_named_by_its_kind():
    class Section(Config):
        route: Routing = Routing()

    assert validated(Section, {"route": "quality"}, "").route == Routing(kind="quality")
    with pytest.raises(ConfigError, match=r"route.*kind"):
        validated(Section, {"route": "best"}, "")


@settings(deadline=None)
@given(st.lists(st.integers(-9999, 9999), min_size=40, max_size=200, unique=True))
def test_buckets_hold_equal_shares_and_both_directions_agree(values):
    scores = np.array(values, dtype=float)
    high = fit_buckets(scores, score="edu", rater="r", better="high")
    buckets = high.of(scores)
    counts = np.bincount(buckets, minlength=BUCKETS + 1)[1:]
    assert buckets.min() >= 1
    assert buckets.max() <= BUCKETS
    assert counts.max() - counts.min() <= 1
    assert (np.diff(buckets[np.argsort(scores)]) >= 0).all()
    low = fit_buckets(-scores, score="noise", rater="r", better="low")
    assert (low.of(-scores) == buckets).all()


def test_frozen_buckets_survive_a_file_and_a_missing_score_has_none():
    frozen = fit_buckets(np.arange(100.0), score="edu", rater="abc", better="high")
    again = Buckets.model_validate_json(frozen.model_dump_json())
    assert again == frozen
    assert again.of(np.array([-9.0, 50.0, np.nan, 900.0])).tolist() == [1, 11, 0, 20]
    with pytest.raises(ConfigError, match="no document has a value of 'edu'"):
        fit_buckets(np.full(3, np.nan), score="edu", rater="r", better="high")
    with pytest.raises(ConfigError, match="has no good end"):
        fit_buckets(np.arange(3.0), score="length", rater="r", better="middle")


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 99), st.integers(1, 2))
def test_the_control_gives_each_style_as_many_tokens_blind_to_the_score(seed, per_document):
    names = ids(600)
    random = np.random.default_rng(seed)
    tokens, buckets = random.integers(20, 900, 600), random.integers(0, 21, 600)
    quality = routed(names, buckets, Routing(kind="quality"), seed=seed, per_document=per_document)
    targets = (quality * tokens[:, None]).sum(axis=0)
    control = route_at_random(names, tokens, STYLES, targets, seed=seed, per_document=per_document)
    given_out = (control * tokens[:, None]).sum(axis=0)
    assert (np.abs(given_out - targets) <= 450).all()  # half of the longest document
    assert control.sum(axis=1).max() <= per_document
    by_score = route_at_random(names, tokens, STYLES, targets, seed=seed, per_document=per_document)
    assert (control == by_score).all()
    assert control[buckets <= 2].any()  # buckets that the route leaves out
