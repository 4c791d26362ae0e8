"""A mixture gives each source its tokens exactly, says what it cannot give, whatever its input's row order."""

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from corpus.config import validated
from corpus.errors import ConfigError
from curriculum.order import Order, write_order
from curriculum.policies import Interleaved, Shuffled, Sorted, arrange
from curriculum.visits import VISIT_SCHEMA, same_visits
from mixtures.mixture import MixtureConfig, allocate, allocation_table, available, draw
from mixtures.shares import MixtureError
from tests.curriculum.making import pool, properties, shuffled_rows

HELD = {"web": (1000, 20_000_000_000), "math": (500, 3_100_000_000), "wrap/easy": (10, 400), "wrap/qa": (20, 600)}
lengths = st.lists(st.integers(1, 30), min_size=1, max_size=25)
pools = st.dictionaries(st.sampled_from(["web", "code", "wrap/qa", "wrap/easy"]), lengths, min_size=1)


def tokens_of(visits, source):
    return pc.sum(visits.filter(pc.equal(visits["source"].cast(pa.string()), source))["length"]).as_py() or 0


@properties
@given(pools, st.data())
def test_each_key_gets_its_tokens_exactly_epoch_by_epoch(sources, data):
    table = pool(sources)
    shares = {name: data.draw(st.integers(0, 100)) / 100 for name in sources}
    assume(any(shares.values()))
    budget = data.draw(st.integers(1, 300))
    allocation = allocate(available(table), MixtureConfig(sources=shares, tokens=budget, max_visits=1000))
    visits = draw(table, allocation, seed=3)
    assert visits.schema.equals(VISIT_SCHEMA)
    assert sum(row.tokens for row in allocation.rows) == allocation.tokens == budget == pc.sum(visits["length"]).as_py()
    for row in allocation.rows:
        assert tokens_of(visits, row.name) == row.tokens
        own = visits.filter(pc.equal(visits["source"].cast(pa.string()), row.name)).to_pylist()
        full, rest = divmod(row.tokens, row.available_tokens)
        whole = {candidate["id"]: candidate["length"] for candidate in table.to_pylist()}
        for epoch in range(full):
            assert sorted(visit["id"] for visit in own if visit["visit"] == epoch) == sorted(
                document["id"] for document in table.to_pylist() if document["source"] == row.name
            )
        last = [visit for visit in own if visit["visit"] == full]
        assert len({visit["id"] for visit in last}) == len(last)
        assert sum(visit["length"] for visit in last) == rest
        cut = [visit for visit in own if visit["length"] < whole[visit["id"]]]
        assert len(cut) <= 1
        assert all(visit["visit"] == full for visit in cut)
        assert all(visit["visit"] <= full for visit in own)


@properties
@given(pools, st.integers(1, 400), st.integers(0, 99))
def test_the_draw_depends_on_the_seed_and_not_on_the_input_order(sources, budget, shuffle):
    table = pool(sources)
    config = MixtureConfig(sources=dict.fromkeys(sources, 1.0), tokens=budget, max_visits=1000)
    allocation = allocate(available(table), config)
    first = draw(table, allocation, seed=3, phase="stable")
    assert draw(shuffled_rows(table, shuffle), allocation, seed=3, phase="stable").equals(first)
    assert set(first["phase"].to_pylist()) == {"stable"}


def test_another_seed_draws_other_documents():
    table = pool({"web": [1] * 100})
    allocation = allocate(available(table), MixtureConfig(sources={"web": 1.0}, tokens=50))
    ids = [set(draw(table, allocation, seed=seed)["id"].to_pylist()) for seed in (1, 2)]
    assert 10 < len(ids[0] & ids[1]) < 40


@properties
@given(lengths, st.integers(1, 400), st.integers(1, 400))
def test_a_larger_budget_keeps_the_visits_of_a_smaller_one(sizes, a, b):
    """But for the one visit that the smaller budget had to cut."""
    table = pool({"web": sizes})
    small, large = (
        draw(table, allocate(available(table), MixtureConfig(sources={"web": 1.0}, tokens=n, max_visits=1000)), seed=5)
        for n in sorted((a, b))
    )
    kept = {(visit["id"], visit["visit"]) for visit in large.to_pylist()}
    assert {(visit["id"], visit["visit"]) for visit in small.to_pylist()} <= kept


def test_arms_with_different_orders_read_the_same_tokens(tmp_path):
    table = pool({"web": [5, 7, 9] * 20, "wrap/qa": [4] * 30, "wrap/easy": [6] * 10})
    config = MixtureConfig(sources={"web": 0.5, "wrap/*": 0.5}, tokens=613)
    visits = draw(table, allocate(available(table), config), seed=1)
    arms = [arrange(visits, policy) for policy in (Shuffled(seed=2), Sorted(by="edu"), Interleaved(by="edu"))]
    assert all(same_visits(arm, visits) for arm in arms)
    shards = ["web", "wrap/qa", "wrap/easy"]
    write_order(tmp_path, arms[2], name="order/a", fingerprint="0" * 16, config={}, inputs=[], shards=shards)
    totals = Order.open(tmp_path).artifact.manifest.totals
    assert totals["tokens"] == 613
    assert totals["tokens_by_source"]["web"] == 307
    assert totals["tokens_by_source"]["wrap/qa"] + totals["tokens_by_source"]["wrap/easy"] == 306


def test_the_error_teaches():
    config = MixtureConfig(sources={"web": 0.85, "math": 0.15}, tokens="30B", max_visits=2)
    assert [round(row.epochs, 2) for row in allocate(HELD, config).rows] == [1.27, 1.45]
    with pytest.raises(MixtureError) as caught:
        allocate(HELD, config.model_copy(update={"sources": {"math": 0.15, "web": 0.85}, "max_visits": 1}))
    assert str(caught.value).splitlines() == [
        "source 'math' cannot fill its share of the mixture",
        "  expected 4.50 B tokens: 15% of 30.00 B",
        "  found    3.10 B tokens in 500 documents: 1.45 epochs, and max_visits is 1",
        "  where    mixture.sources.math",
        "  to fix   set max_visits: 2, or lower its share to 10.3%, or set tokens: 20666666666",
    ]


def test_without_a_budget_the_caps_decide():
    allocation = allocate(HELD, MixtureConfig(sources={"web": 0.5, "math": 0.5}, max_visits=1.5))
    assert allocation.tokens == 9_300_000_000
    assert [row.tokens for row in allocation.rows] == [4_650_000_000] * 2


@properties
@given(
    st.lists(st.tuples(st.integers(100, 1000), st.integers(1, 100)), min_size=1, max_size=6),
    st.floats(0.1, 8).map(lambda x: round(x, 2)),
)
def test_the_largest_budget_is_within_the_caps_and_cannot_grow(sources, cap):
    held = {f"s{i}": (1, tokens) for i, (tokens, _) in enumerate(sources)}
    shares = {f"s{i}": share / 100 for i, (_, share) in enumerate(sources)}
    config = MixtureConfig(sources=shares, max_visits=cap)
    allocation = allocate(held, config)
    assert all(row.tokens <= cap * row.available_tokens + 1e-6 for row in allocation.rows)
    with pytest.raises(MixtureError, match="cannot fill"):
        allocate(held, config.model_copy(update={"tokens": 2 * allocation.tokens + 2}))


def test_keys_stand_for_sources():
    def owned(*keys):
        config = MixtureConfig(sources=dict.fromkeys(keys, 1.0), tokens=100)
        return {row.name: row.sources for row in allocate(HELD, config).rows}

    assert owned("web", "wrap/*") == {"web": ("web",), "wrap/*": ("wrap/easy", "wrap/qa")}
    assert owned("wrap") == {"wrap": ("wrap/easy", "wrap/qa")}
    assert owned("wrap", "wrap/qa") == {"wrap": ("wrap/easy",), "wrap/qa": ("wrap/qa",)}
    assert owned("*", "wrap/q*") == {"*": ("math", "web", "wrap/easy"), "wrap/q*": ("wrap/qa",)}
    with pytest.raises(MixtureError, match=r"'mth'.*did you mean 'math'(.|\n)*mixture.sources.mth"):
        owned("mth")


def test_warnings_and_the_table_say_what_was_changed():
    config = MixtureConfig(sources={"web": 0.5, "wrap/*": 0.6}, tokens=11_000, max_visits=10)
    allocation = allocate(HELD, config)
    assert allocation.warnings == (
        "the shares sum to 1.1 and were divided by it",
        "wrap/* is read 6.0 times; repeats past 4 teach little",
        "not in the mixture, and not read: math",
    )
    web, wrap, total = allocation_table(allocation)
    assert (web["asked"], web["given tokens"], web["given"], web["epochs"]) == ("50%", "5,000", "45.45%", "0.00")
    assert (wrap["documents"], wrap["available tokens"], wrap["epochs"]) == ("30", "1,000", "6.00")
    assert (total["asked"], total["given tokens"]) == ("110%", "11,000")


def test_what_cannot_be_a_mixture():
    with pytest.raises(MixtureError, match="holds no tokens"):
        allocate(HELD, MixtureConfig(sources={"web": 1.0}, tokens=0))
    with pytest.raises(ConfigError, match=r"'sources.web': 45.0 is not a share"):
        validated(MixtureConfig, {"sources": {"web": 45.0}}, "recipe.yaml")
    with pytest.raises(ConfigError, match="max_visits"):
        validated(MixtureConfig, {"sources": {"web": 1.0}, "max_visits": 0}, "recipe.yaml")
    table = pool({"web": [1, 2, 3]})
    allocation = allocate(available(table), MixtureConfig(sources={"web": 1.0}, tokens=5))
    with pytest.raises(MixtureError, match="not those the mixture was made for"):
        draw(table.slice(1), allocation, seed=0)


def test_a_share_of_zero_is_read_not_at_all():
    table = pool({"web": [4] * 5, "code": [4] * 5})
    allocation = allocate(available(table), MixtureConfig(sources={"web": 1.0, "code": 0.0}, tokens=10))
    assert set(draw(table, allocation, seed=0)["source"].to_pylist()) == {"web"}


def test_spread_gives_what_there_is_and_the_rest_to_the_others():
    config = MixtureConfig(
        sources={"web": 0.6, "wrap/*": 0.3, "old": 0.1}, tokens=1000, max_visits=2, when_short="spread"
    )
    allocation = allocate({"web": (50, 900), "wrap/a": (2, 20), "old": (9, 400)}, config)
    assert [row.tokens for row in allocation.rows] == [823, 40, 137]
    assert any("wrap/* asked for 300 tokens and could give 40" in text for text in allocation.warnings)
    absent = allocate({"web": (50, 900), "old": (9, 400)}, config)
    assert [row.tokens for row in absent.rows] == [857, 0, 143]


def test_spread_repeats_until_nobody_is_over_and_refuses_what_nobody_can_give():
    config = MixtureConfig(sources={"a": 0.5, "b": 0.3, "c": 0.2}, tokens=500, max_visits=4, when_short="spread")
    golden = allocate({"a": (1, 1000), "b": (1, 40), "c": (1, 10)}, config)  # the repetition cap's golden: .60 .32 .08
    assert [row.tokens for row in golden.rows] == [300, 160, 40]
    with pytest.raises(MixtureError, match="cannot fill"):
        allocate({"a": (1, 50), "b": (1, 40), "c": (1, 10)}, config)
    unbounded = config.model_copy(update={"tokens": None})
    assert allocate({"a": (1, 50), "b": (1, 40), "c": (1, 10)}, unbounded).tokens == 400
