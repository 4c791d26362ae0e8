"""An allocation meets shares to the token, keeps caps over all phases, and explains what it cannot give."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.config import validated
from corpus.errors import ConfigError
from mixtures.allocate import allocate
from mixtures.allocation import Allocation
from mixtures.available import available
from mixtures.config import MixtureConfig
from mixtures.shares import MixtureError
from tests.curriculum.making import pool, properties
from tests.mixtures.mixing import NAMES, allocated, config_of, hamilton, phased, pools, share_at, weights_for

HELD = {"web": (1000, 20_000_000_000), "math": (500, 3_100_000_000), "wrap/easy": (10, 400), "wrap/qa": (20, 600)}


def given_tokens(allocation):
    return [one.tokens for one in allocation.components]


@properties
@given(pools, st.data())
def test_each_phase_holds_the_exact_integral_of_its_shares(sources, data):
    table = pool(sources)
    allocation = allocated(table, data.draw(phased(list(sources))))
    for interval in allocation.intervals:
        masses = [
            sum((share_at(row, interval, place) for place in range(interval.tokens)), Fraction(0))
            for row in interval.rows
        ]
        assert [row.tokens for row in interval.rows] == hamilton(masses, interval.tokens)
        assert sum(row.share for row in interval.rows) == sum(row.start_share for row in interval.rows) == 1
    assert sum(given_tokens(allocation)) == allocation.tokens == sum(one.tokens for one in allocation.intervals)
    assert Allocation.model_validate_json(allocation.model_dump_json()) == allocation


@properties
@given(st.dictionaries(st.sampled_from(NAMES), st.integers(20, 500), min_size=2), st.data())
def test_caps_hold_over_all_phases_and_an_earlier_phase_comes_first(held, data):
    cap = data.draw(st.integers(1, 30)) / 10
    turns = data.draw(st.sampled_from([None, 4]))
    lengths = data.draw(st.lists(st.integers(4, 60).map(lambda n: 4 * n), min_size=1, max_size=3))
    phases = [
        {"name": f"p{i}", "tokens": tokens, "ramp": 4 * data.draw(st.integers(0, 1)) if i else 0,
         "sources": data.draw(weights_for(list(held)))}
        for i, tokens in enumerate(lengths)
    ]  # fmt: skip
    config = config_of(sources=phases[0]["sources"], phases=phases, max_visits=cap, when_short="spread", turns=turns)
    counts = {name: (1, tokens) for name, tokens in held.items()}
    try:
        allocation = allocate(counts, config)
    except MixtureError as error:
        assert "cannot fill" in error.what or "needs" in error.what  # noqa: PT017
        return
    for one in allocation.components:
        assert one.tokens <= Fraction(str(cap)) * one.available_tokens
    first = config.model_copy(update={"phases": config.phases[:1]})
    assert allocate(counts, first).intervals[0] == allocation.intervals[0]


@properties
@given(
    st.lists(st.tuples(st.integers(100, 1000), st.integers(1, 100)), min_size=1, max_size=6),
    st.floats(0.1, 8).map(lambda x: round(x, 2)),
    st.sampled_from([(), (("a", "60%", "0"), ("b", "40%", "10%"))]),
    st.sampled_from([None, 7]),
)
def test_the_largest_budget_is_within_the_caps_and_close_to_them(sources, cap, phases, turns):
    held = {f"s{i}": (1, tokens) for i, (tokens, _) in enumerate(sources)}
    shares = {f"s{i}": {"weight": share} for i, (_, share) in enumerate(sources)}
    config = config_of(
        sources=shares, max_visits=cap, turns=turns,
        phases=[{"name": name, "tokens": tokens, "ramp": ramp} for name, tokens, ramp in phases],
    )  # fmt: skip
    try:
        allocation = allocate(held, config)
    except MixtureError as error:
        assert "holds no tokens" in error.what  # noqa: PT017
        return
    assert all(one.tokens <= Fraction(str(cap)) * one.available_tokens for one in allocation.components)
    with pytest.raises(MixtureError, match="needs"):
        allocate(held, config.model_copy(update={"tokens": (2 * allocation.tokens + 200) // 7 * 7}))


def test_the_error_teaches():
    config = MixtureConfig.model_validate({"sources": {"web": 0.85, "math": 0.15}, "tokens": "30B", "max_visits": 2})
    assert [round(one.epochs, 2) for one in allocate(HELD, config).components] == [1.27, 1.45]
    with pytest.raises(MixtureError) as caught:
        allocate(HELD, config_of(sources={"math": {"share": 0.15, "max_visits": 1}, "web": 0.85}, tokens="30B"))
    assert str(caught.value).splitlines() == [
        "math needs 4.50 B tokens, 3.10 B exist: 1.45 visits, cap 1",
        "  expected at most 3,100,000,000 tokens",
        "  found    4,500,000,000 tokens, 15% of 30,000,000,000",
        "  where    mixture.sources.math",
        "  to fix   set max_visits: 2, or lower its share to 10.3%, or shorten the run (tokens: 20666666666), "
        "or set when_short: spread, which gives the rest to the others",
    ]


def test_an_error_in_a_later_phase_counts_what_earlier_ones_took():
    phases = [{"name": "stable", "tokens": "80%"}, {"name": "anneal", "tokens": "20%", "sources": {"math": 1.0}}]
    config = {"sources": {"web": "90%", "math": "10%"}, "tokens": 1000, "phases": phases, "max_visits": 1}
    with pytest.raises(MixtureError) as caught:
        allocate({"web": (9, 9000), "math": (9, 200)}, MixtureConfig.model_validate(config))
    assert caught.value.what == "math needs 280 tokens by the end of the phase 'anneal', 200 exist: 1.40 visits, cap 1"
    assert caught.value.found == "280 tokens, 100% of 200 and 80 of the phases before"
    assert caught.value.where == "mixture.phases.anneal.sources.math"


def test_the_share_that_an_error_names_can_be_had_on_a_ramp():
    def of(share):
        phases = [
            {"name": "p", "tokens": 800},
            {"name": "q", "tokens": 200, "ramp": 150, "sources": {"math": share, "web": 1 - share}},
        ]
        sources = {"web": "80%", "math": {"share": "20%", "max_visits": 1}}
        return allocate({"web": (9, 9000), "math": (9, 230)}, config_of(sources=sources, phases=phases))

    with pytest.raises(MixtureError, match=r"lower its share to 44%") as caught:
        of(0.6)
    assert "shorten the phase" in caught.value.fix
    assert of(0.44).components[1].tokens == 230
    with pytest.raises(MixtureError, match="math needs"):
        of(0.45)


def test_a_larger_cap_a_lower_share_and_a_smaller_budget_each_help_as_the_error_says():
    def of(share, tokens, visits):
        sources = {"math": {"share": share, "max_visits": visits}, "web": 1 - share}
        return allocate(HELD, MixtureConfig.model_validate({"sources": sources, "tokens": tokens}))

    assert of(0.15, "30B", 2)
    assert of(0.103, "30B", 1)
    assert of(0.15, 20_666_666_666, 1)
    for share, tokens, visits in ((0.15, "30B", 1.4), (0.104, "30B", 1), (0.15, 20_666_666_680, 1)):
        with pytest.raises(MixtureError, match="math needs"):
            of(share, tokens, visits)


def test_keys_stand_for_sources():
    def owned(*keys):
        config = config_of(sources={key: {"weight": 1} for key in keys}, tokens=100)
        return {one.name: one.sources for one in allocate(HELD, config).components}

    assert owned("web", "wrap/*") == {"web": ("web",), "wrap/*": ("wrap/easy", "wrap/qa")}
    assert owned("wrap") == {"wrap": ("wrap/easy", "wrap/qa")}
    assert owned("wrap", "wrap/qa") == {"wrap": ("wrap/easy",), "wrap/qa": ("wrap/qa",)}
    assert owned("*", "wrap/q*") == {"*": ("math", "web", "wrap/easy"), "wrap/q*": ("wrap/qa",)}
    with pytest.raises(MixtureError, match=r"'mth'.*did you mean 'math'(.|\n)*mixture.sources.mth"):
        owned("mth")


def test_what_is_asked_in_tokens_shares_and_weights_fits_together():
    def tokens(sources, **settings):
        return given_tokens(
            allocate({"a": (1, 900), "b": (1, 900), "c": (1, 900)}, config_of(sources=sources, **settings))
        )

    assert tokens({"a": {"tokens": 300}, "b": {"tokens": 500}}) == [300, 500]
    assert tokens({"a": {"tokens": 300}, "b": "50%", "c": {"weight": 1}}, tokens=1000) == [300, 500, 200]
    assert tokens({"a": {"tokens": 300}, "b": "20%", "c": "30%"}, tokens=1000) == [300, 280, 420]
    assert tokens({"a": {"weight": 1}, "b": {"weight": 2}}, tokens=900) == [300, 600]
    phases = [
        {"name": "p", "tokens": 400},
        {"name": "q", "tokens": 600, "sources": {"b": {"tokens": 100}, "c": {"weight": 1}}},
    ]
    assert tokens({"a": {"tokens": 300}, "b": {"weight": 1}}, phases=phases) == [120, 380, 500]
    for sources, message in (
        ({"a": {"tokens": 300}, "b": {"tokens": 500}}, "less than the run"),
        ({"a": {"tokens": 1300}, "b": {"weight": 1}}, "ask for 1,300 tokens"),
        ({"a": "80%", "b": "40%", "c": {"weight": 1}}, "nothing is left for c"),
        ({"a": "80%", "b": {}}, "b asks for nothing"),
        ({"a": {"weight": 1}, "b": {}}, "b asks for nothing, and others have weights"),
        ({"a": 0.0, "b": {"weight": 0}}, "cannot be used"),
        ({"a": 0.0}, "cannot be used"),
    ):
        with pytest.raises(MixtureError, match=message):
            tokens(sources, tokens=1000)


def test_rules_weigh_those_who_ask_for_nothing():
    held = {"a": (1, 900), "b": (1, 90), "c": (1, 10)}

    def rows(**settings):
        sources = settings.pop("sources", {"a": {}, "b": {}, "c": {}})
        return allocate(held, config_of(sources=sources, **settings)).intervals[0].rows

    assert [row.tokens for row in rows(weighing="proportional", tokens=1000)] == [900, 90, 10]
    assert [row.tokens for row in rows(weighing="uniform", tokens=300)] == [100, 100, 100]
    tempered = rows(weighing="proportional", temperature=2, tokens=10_000)
    assert [row.tokens for row in tempered] == [7034, 2224, 742]  # the reference's golden: .7034 .2224 .0741
    assert {row.bound for row in tempered} == {"temperature 2"}
    unimax = rows(weighing="unimax", tokens=300, max_visits=4)
    assert [row.tokens for row in unimax] == [130, 130, 40]  # the reference's golden
    assert {row.bound for row in unimax} == {"UniMax"}
    half = rows(sources={"a": "50%", "b": {}, "c": {}}, weighing="unimax", tokens=300, max_visits=4)
    assert [row.tokens for row in half] == [150, 110, 40]
    with pytest.raises(MixtureError, match="the sources hold too little"):
        rows(weighing="unimax", tokens=5000, max_visits=4)
    assert sum(row.tokens for row in rows(weighing="unimax", max_visits=4)) == 4000
    with pytest.raises(ConfigError, match="temperature bends proportional shares"):
        validated(MixtureConfig, {"sources": {"a": "50%"}, "temperature": 2}, "recipe.yaml")


def test_floors_and_ceilings_bind_and_say_so():
    config = config_of(
        sources={"a": "80%", "b": {"share": "15%", "min_share": "20%"}, "c": {"share": "5%", "max_share": "2%"}},
        tokens=1000,
    )
    rows = allocate({"a": (1, 900), "b": (1, 900), "c": (1, 900)}, config).intervals[0].rows
    assert [(row.tokens, row.bound) for row in rows] == [(780, "the rest of others"), (200, "floor"), (20, "ceiling")]
    sources = {"web": {"share": 0.5, "min_share": 0.6}, "math": {"share": 0.5, "min_share": 0.5}}
    with pytest.raises(MixtureError, match="floors cannot be kept together"):
        allocate(HELD, config_of(sources=sources, tokens=9))


def test_spread_gives_what_there_is_and_the_rest_to_the_others():
    config = config_of(sources={"web": 0.6, "wrap/*": 0.3, "old": 0.1}, tokens=1000, max_visits=2, when_short="spread")
    allocation = allocate({"web": (50, 900), "wrap/a": (2, 20), "old": (9, 400)}, config)
    assert given_tokens(allocation) == [823, 40, 137]
    assert [row.bound for row in allocation.intervals[0].rows] == [
        "the rest of others",
        "cap on visits",
        "the rest of others",
    ]
    assert any("wrap/* asked for 300 tokens and could give 40" in text for text in allocation.warnings)
    absent = allocate({"web": (50, 900), "old": (9, 400)}, config)
    assert given_tokens(absent) == [857, 0, 143]


def test_spread_repeats_until_nobody_is_over_and_refuses_what_nobody_can_give():
    config = config_of(sources={"a": 0.5, "b": 0.3, "c": 0.2}, tokens=500, max_visits=4, when_short="spread")
    golden = allocate({"a": (1, 1000), "b": (1, 40), "c": (1, 10)}, config)  # the repetition cap's golden: .60 .32 .08
    assert given_tokens(golden) == [300, 160, 40]
    with pytest.raises(MixtureError, match=r"the sources cannot fill the mixture(.|\n)*at most 400") as caught:
        allocate({"a": (1, 50), "b": (1, 40), "c": (1, 10)}, config)
    assert caught.value.fix.endswith("mixture.tokens: 400")
    unbounded = config.model_copy(update={"tokens": None})
    assert allocate({"a": (1, 50), "b": (1, 40), "c": (1, 10)}, unbounded).tokens == 400


def test_repeats_are_warned_of_and_refused():
    def of(tokens, **settings):
        config = MixtureConfig.model_validate({"sources": {"a": 1.0}, "tokens": tokens, "max_visits": 99, **settings})
        return allocate({"a": (1, 100)}, config)

    assert of(400).warnings == ()
    assert "5.00 epochs are worth 4.52" in of(500).warnings[0]
    with pytest.raises(MixtureError, match=r"'a' would be read 17.0 times"):
        of(1700)
    assert of(1700, allow_many_visits=True).components[0].epochs == 17
    assert round(of(1600).components[0].effective_epochs, 2) == 10.58  # the reference's golden


def test_phases_that_cannot_be_laid_out():
    def of(*phases, tokens=1000, **settings):
        config = config_of(sources={"a": 0.5, "b": 0.5}, phases=phases, tokens=tokens, **settings)
        return allocate({"a": (1, 9000), "b": (1, 9000)}, config)

    half = {"name": "p", "tokens": "50%"}
    once, twice = ({"a": {"share": 1.0, "max_visits": n}} for n in (1, 2))
    for phases, message in (
        ([half, {"name": "q", "tokens": "40%"}], r"do not add up to the run(.|\n)*900 tokens: p 50%, q 40%"),
        ([half, {"name": "q", "tokens": 400}], "do not add up"),
        ([half, {"name": "q", "tokens": "50%", "ramp": "60%"}], r"ramp of the phase 'q' is longer than the phase"),
        ([{**half, "ramp": 10}, {"name": "q", "tokens": "50%"}], "ramp of the phase 'p' comes from nowhere"),
        ([{"name": "p", "tokens": "100%"}, {"name": "q", "tokens": 0}], "'q' holds no tokens"),
        ([half, {"name": "q", "tokens": "50%", "sources": {"a": {"share": 1.0, "max_visits": 1}, "b": {"share": 0.0}}},
          ], None),
        ([{**half, "sources": once}, {"name": "q", "tokens": "50%", "sources": twice}], "more than one max_visits"),
    ):  # fmt: skip
        if message is None:
            assert of(*phases).components[0].max_visits == 1
            continue
        with pytest.raises(MixtureError, match=message):
            of(*phases)
    with pytest.raises(ConfigError, match="two phases are called 'p'"):
        validated(MixtureConfig, {"sources": {"a": 1.0}, "phases": [half, half]}, "recipe.yaml")
    with pytest.raises(MixtureError, match=r"1,000 tokens are not whole turns(.|\n)*set it to 960 or 1024"):
        of(half, {"name": "q", "tokens": "50%"}, turns=64)
    with pytest.raises(MixtureError, match="not whole turns"):
        of({"name": "p", "tokens": 1000}, {"name": "q", "tokens": 24}, tokens=1024, turns=64)
    assert [one.tokens for one in of(half, {"name": "q", "tokens": 500}).intervals] == [500, 500]


def test_lengths_in_tokens_set_the_budget_and_shares_need_one_beside_them():
    def of(*lengths):
        phases = [{"name": str(i), "tokens": length} for i, length in enumerate(lengths)]
        return allocate({"a": (1, 9000)}, config_of(sources={"a": 1.0}, phases=phases)).tokens

    assert of(100, "1K") == 1100
    with pytest.raises(MixtureError, match="need a run whose length is known"):
        of(100, "50%")


def test_a_phase_inherits_limits_and_not_asks():
    phases = [
        {"name": "p", "tokens": 100},
        {"name": "q", "tokens": 100, "sources": {"math": 0.5, "web": {"weight": 1}}},
    ]
    sources = {"web": "90%", "math": {"share": "10%", "max_visits": 2, "keep": {"by": "edu", "top": "50%"}}}
    config = MixtureConfig.model_validate({"sources": sources, "phases": phases})
    allocation = allocate({"web": (10, 1000), "math": (10, 100)}, config)
    assert [row.tokens for interval in allocation.intervals for row in interval.rows] == [90, 10, 50, 50]
    math = allocation.components[1]
    assert (math.max_visits, math.available_tokens, math.epochs) == (2, 50, 1.2)
    assert [band.tokens for band in math.bands] == [(0, 0), (10, 50)]
    assert any("bands of math are a guess" in warning for warning in allocation.warnings)


def test_bad_values_are_refused_by_name():
    for sources, message in (
        ({"web": 45.0}, r"'sources.web.share': 45.0 is not a share"),
        ({"web": {"weight": -1}}, "greater than or equal to 0"),
        ({"web": {"weight": float("nan")}}, "finite number"),
        ({"web": float("nan")}, "not a share"),
        ({"web": {"share": 0.5, "tokens": 5}}, "asks in one way"),
        ({"web": {"share": 0.5, "min_share": 0.6, "max_share": 0.5}}, "min_share 0.6 is above max_share 0.5"),
        ({"web": {"shar": 0.5}}, "did you mean 'share'"),
        ({}, "sources"),
    ):
        with pytest.raises(ConfigError, match=message):
            validated(MixtureConfig, {"sources": sources}, "recipe.yaml")
    with pytest.raises(ConfigError, match="max_visits"):
        validated(MixtureConfig, {"sources": {"web": 1.0}, "max_visits": 0}, "recipe.yaml")
    with pytest.raises(MixtureError, match="the mixture holds no tokens"):
        allocate(HELD, config_of(sources={"web": 1.0}, tokens=0))
    with pytest.raises(MixtureError, match="'void' holds no tokens"):
        allocate({"void": (0, 0), "web": (1, 10)}, config_of(sources={"web": 0.5, "void": 0.5}, tokens=4))


def test_asked_given_and_what_bound():
    config = config_of(
        sources={"web": 0.5, "wrap/*": 0.6}, tokens=11_000,
        phases=[{"name": "p", "tokens": "60%"}, {"name": "q", "tokens": "40%", "ramp": "40%", "sources": {"web": 1.0}}],
    )  # fmt: skip
    allocation = allocate(HELD, config)
    assert allocation.warnings[0] == "the shares sum to 1.1 and were divided by it"
    assert allocation.warnings[-1] == "not in the mixture, and not read: math"
    web, wrap = allocation.components
    assert (web.tokens, wrap.tokens, allocation.tokens) == (6200, 4800, 11_000)
    assert (wrap.documents, wrap.available_tokens, wrap.epochs) == (30, 1000, 4.8)
    assert wrap.effective_epochs == pytest.approx(4.37, abs=0.005)
    rows = [row for interval in allocation.intervals for row in interval.rows]
    shares = [(row.component, round(float(row.start_share), 4), round(float(row.share), 4)) for row in rows]
    assert shares == [
        ("web", 0.4545, 0.4545), ("wrap/*", 0.5455, 0.5455), ("web", 0.4545, 1), ("wrap/*", 0.5455, 0)
    ]  # fmt: skip
    assert rows[3].bound == "not asked"


@properties
@given(pools, st.data())
def test_what_is_there_is_counted_by_source_and_band(sources, data):
    table = pool(sources)
    name = data.draw(st.sampled_from(sorted(sources)))
    parts = data.draw(st.integers(2, 5))
    config = config_of(sources={name: {"share": 1.0, "bands": {"by": "edu", "weights": [1] * parts}}}, tokens=10)
    found = available(table, config)
    assert found.sources == {key: (len(lengths), sum(lengths)) for key, lengths in sources.items()}
    bands = found.bands[name]
    assert tuple(map(sum, zip(*bands, strict=True))) == found.sources[name]
    assert all(abs(held - sum(sources[name]) / parts) <= max(sources[name]) for _, held in bands)
    assert len(bands) == parts
