"""What cannot be arranged is refused with the field, the value and the way out."""

import numpy as np
import pyarrow as pa
import pytest

from corpus.config import Config, validated
from corpus.errors import ConfigError
from curriculum.arrange import arrange, stream
from curriculum.duckdb_engine import DuckDBEngine
from curriculum.kinds import Policy
from curriculum.order import OrderError
from tests.curriculum.policy_cases import KINDS, REQUIRED, policy_of, visits_table


class Recipe(Config):
    order: Policy


def recipe(**order):
    return validated(Recipe, {"order": order}, "recipe.yaml").order


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ({"kind": "fold", "by": "edu"}, "there is no kind 'fold'; did you mean 'folding'"),
        ({"kind": "two_fase", "by": "edu"}, "did you mean 'two_phase'"),
        ({"kind": "folding"}, "'order.folding.by' is missing"),
        ({"kind": "folding", "by": "edu", "folds": 1}, "'order.folding.folds': .* greater than or equal to 2"),
        ({"kind": "folding", "by": "edu", "fold": 3}, "did you mean 'folds'"),
        ({"kind": "zigzag", "by": "edu", "folds": 4}, "zigzag with 4 folds would end on .* such as 3 or 5"),
        ({"kind": "stair", "by": "edu", "radius": 0.25}, "radius 0.25 with 2 pieces gives 0.5 .*; set radius below"),
        ({"kind": "saw", "by": "edu", "pieces": 7}, "saw needs 2 x radius below 1 / pieces.* 0.075 with 7 pieces"),
        ({"kind": "segment", "by": "edu", "front": 0.6, "back": "50%"}, "front 0.6 and back 0.5 overlap"),
        ({"kind": "curriculum_warmup", "by": "edu", "tokens": 1}, "'order.curriculum_warmup.tokens': .* less than 1"),
        ({"kind": "curriculum_warmup", "by": "edu", "tokens": 30}, "write 30% if you mean per cent"),
        ({"kind": "gauss_key", "by": "edu", "sigma": 0}, "'order.gauss_key.sigma': Input should be greater than 0"),
        ({"kind": "paced", "by": "edu", "pacing": "quadratic", "initial": 0.2}, "leave out initial"),
        ({"kind": "banded", "by": "edu", "bands": 1}, "'order.banded.bands'"),
        ({"kind": "token_gumbel", "by": ["edu", "level"]}, "at most 1 item"),
        ({"kind": "sorted", "by": "edu", "noise": {"scale": -1}}, "'order.sorted.noise.scale'"),
        ({"kind": "sorted", "by": "edu", "jitter": -1}, "'order.sorted.jitter'"),
        (
            {"kind": "two_phase", "by": "edu", "last_tokens": 0.2, "last": {"kind": "two_phase"}},
            "two_phase.last': there is no kind 'two_phase'",
        ),
        ({"kind": "spiral", "by": "level"}, "'order.spiral.subject' is missing"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_used(order, message):
    with pytest.raises(ConfigError, match=message):
        recipe(**order)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_chosen_by_its_name_and_written_back(kind):
    policy = recipe(kind=kind, **REQUIRED.get(kind, {"by": "edu"}))
    assert type(policy) is KINDS[kind]
    assert recipe(**policy.model_dump(mode="json", exclude_unset=True)) == policy


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (("folding", {"folds": 9}), r"folding cannot deal 8 visits into 9 folds(.|\n)*in all sources(.|\n)*at most 8"),
        (("zigzag", {"folds": 9}), "zigzag cannot deal 8 visits into 9 folds"),
        (("stair", {"pieces": 4, "radius": 0.124}), None),
        (("sorted", {"by": "edo"}), "no column 'edo' to be ordered by; did you mean 'edu'"),
        (("shuffled", {"by": "edo"}), "did you mean 'edu'"),
        (
            ("sorted", {"by": "topic"}),
            r"sorted cannot read the column 'topic'(.|\n)*expected numbers(.|\n)*found +string",
        ),
        (("sorted", {"within": "edu"}), "cannot read the column 'edu'(.|\n)*names or whole numbers"),
        (("interleave", {"subject": "topik"}), "did you mean 'topic'"),
        (("taxonomy_dfs", {"path": "edu"}), "cannot read the column 'edu'"),
        (("two_phase", {"last": {"kind": "sorted", "by": "edo"}}), "no column 'edo'"),
        (("two_phase", {"last": {"kind": "folding", "by": "edu", "folds": 11}}), "folding cannot deal 8 visits"),
    ],
)
def test_visits_that_do_not_fit_a_policy(policy, message):
    kind, settings = policy
    visits = visits_table(8, scores=np.arange(8))
    if message is None:
        assert arrange(visits, policy_of(kind, **settings)).num_rows == 8
        return
    with pytest.raises(OrderError, match=message):
        arrange(visits, policy_of(kind, **settings))


def test_windows_that_overlap_by_rounding_are_refused():
    """13 visits in 4 pieces: splits at 3, 6 and 10, radius round(1.62) = 2."""
    with pytest.raises(
        OrderError, match=r"overlap in 13 visits(.|\n)*at least 4 visits apart(.|\n)*3 and 6(.|\n)*fewer pieces"
    ):
        arrange(visits_table(13, scores=np.arange(13)), policy_of("stair", pieces=4, radius=0.1249))


def test_a_small_source_is_named_where_it_cannot_be_folded():
    source = pa.array(["web"] * 8 + ["tiny"] * 2).dictionary_encode()
    visits = visits_table(10, scores=np.arange(10))
    visits = visits.set_column(visits.column_names.index("source"), visits.schema.field("source"), source)
    with pytest.raises(OrderError, match=r"2 visits into 3 folds(.|\n)*in source tiny"):
        arrange(visits, policy_of("folding", within="source"))
    assert arrange(visits, policy_of("folding")).num_rows == 10


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "by" in KINDS[kind].model_fields])
def test_scores_that_are_all_null(kind):
    visits = visits_table(9, edu=pa.nulls(9, pa.float32()), level=pa.nulls(9, pa.int8()))
    policy = policy_of(kind, missing="last") if "missing" in KINDS[kind].model_fields else policy_of(kind)
    if kind in ("shuffled", "mixed"):
        assert arrange(visits, policy).num_rows == 9
        return
    with pytest.raises(OrderError, match=r"no visit has a score .*to be ordered by(.|\n)*rate the documents"):
        arrange(visits, policy)


def test_tables_that_are_no_visits_and_phases_without_an_order():
    visits = visits_table(4)
    with pytest.raises(OrderError, match=r"does not hold visits(.|\n)*a column digest"):
        arrange(visits.drop_columns(["digest"]), policy_of("shuffled"))
    with pytest.raises(OrderError, match=r"'' has no order"):
        stream(visits, {"main": policy_of("shuffled")}, engine=DuckDBEngine())
    with pytest.raises(OrderError, match="not named"):
        stream(visits, policy_of("shuffled"), phases=("other",), engine=DuckDBEngine())


def test_an_order_of_no_visits_is_empty():
    empty = visits_table(3).slice(0, 0)
    for kind in KINDS:
        assert arrange(empty, policy_of(kind)).num_rows == 0


def test_names_with_quotes_backslashes_and_other_letters():
    """Columns and names of sources, subjects and paths are data: SQL must read them as they are."""
    odd = ["it's", 'a "b"', "c\\d", "größe", "-- ;"]
    visits = visits_table(10, scores=np.arange(10), **{"edu \"x'": np.arange(10.0), "t\\p": odd * 2})
    source = pa.array(odd * 2).dictionary_encode()
    visits = visits.set_column(visits.column_names.index("source"), visits.schema.field("source"), source)
    order = arrange(visits, policy_of("interleaved", by="edu \"x'"))
    assert sorted(order["source"].to_pylist()) == sorted(odd * 2)
    labelled = policy_of("interleave", by=["level"], subject="t\\p", within="source")
    assert arrange(visits, labelled).num_rows == 10
    assert arrange(visits, policy_of("taxonomy_dfs", path="t\\p", separator="\\")).num_rows == 10
