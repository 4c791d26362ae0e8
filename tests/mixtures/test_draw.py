"""A draw reads what was allocated, each token once an epoch, and keeps what came before when the run changes later."""

from collections import Counter
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.config import validated
from corpus.errors import ConfigError
from curriculum.arrange import arrange
from curriculum.order import Order, write_order
from curriculum.policies.mixed import Mixed
from curriculum.policies.shuffled import Shuffled
from curriculum.policies.sorted import Interleaved, Sorted
from curriculum.visits import CANDIDATE_SCHEMA, VISIT_SCHEMA, same_visits
from mixtures.allocate import allocate
from mixtures.available import available
from mixtures.config import MixtureConfig
from mixtures.draw import PLACE, draw
from mixtures.ramps import given as given_by
from mixtures.shares import MixtureError, deadline_turns
from tests.curriculum.making import pool, properties, shuffled_rows
from tests.mixtures.mixing import (
    allocated,
    config_of,
    drawn,
    in_order,
    multiset,
    phased,
    pools,
    tokens_in,
    weights_for,
)

few = settings(max_examples=20, deadline=None)  # an engine sorts the visits of each example
UNITS = st.sampled_from([1, 7])  # document by document, and in turns of seven tokens


@properties
@given(pools, UNITS, st.data())
def test_every_phase_and_component_reads_its_tokens_each_once_an_epoch(sources, unit, data):
    table = pool(sources)
    config = data.draw(phased(list(sources), unit))
    allocation, visits = drawn(table, config)
    assert visits.schema.equals(pa.schema([*VISIT_SCHEMA, PLACE, table.schema.field("edu")]))
    rows = visits.to_pylist()
    read = Counter()
    for row in rows:
        read[row["phase"], row["component"]] += row["length"]
    for interval in allocation.intervals:
        for row in interval.rows:
            assert read[interval.name, row.component] == row.tokens
    assert max(Counter((*token, row["visit"]) for row in rows for token in tokens_in([row])).values()) == 1
    for component in allocation.components:
        epochs, rest = divmod(component.tokens, component.available_tokens)
        times = multiset([row for row in rows if row["component"] == component.name])
        own = [c for c in table.to_pylist() if c["source"] == component.name]
        assert set(times.values()) <= {epochs, epochs + 1}
        assert sum(n == epochs + 1 for n in times.values()) == rest
        assert epochs == 0 or len(times) == sum(c["length"] for c in own)


@properties
@given(pools, UNITS, st.data())
def test_pieces_of_a_visit_lie_end_to_end_and_only_the_last_visit_of_a_stream_is_cut(sources, unit, data):
    table = pool(sources)
    _, visits = drawn(table, data.draw(phased(list(sources), unit)))
    whole = {(c["shard"], c["doc"]): (c["start"], c["length"]) for c in table.to_pylist()}
    pieces = {}
    for row in visits.to_pylist():
        pieces.setdefault((row["component"], row["visit"], row["shard"], row["doc"]), []).append(row)
    cut = Counter()
    for (component, _, shard, doc), found in pieces.items():
        start, length = whole[shard, doc]
        assert found[0]["start"] == start
        for before, after in pairwise(found):
            assert after["start"] == before["start"] + before["length"]
        cut[component] += sum(row["length"] for row in found) < length
    assert max(cut.values(), default=0) <= 1


@properties
@given(pools, UNITS, st.integers(0, 99), st.data())
def test_the_draw_depends_on_the_seed_and_not_on_the_input(sources, unit, shuffle, data):
    table = pool(sources)
    config = data.draw(phased(list(sources), unit))
    allocation, visits = drawn(table, config)
    again = shuffled_rows(table, shuffle)
    assert allocate(available(again, config), config) == allocation
    assert draw(again, allocation, 3).equals(visits)


def test_another_seed_draws_other_documents():
    table = pool({"web": [1] * 100})
    config = config_of(sources={"web": 1.0}, tokens=50)
    docs = [set(drawn(table, config, seed)[1]["doc"].to_pylist()) for seed in (1, 2)]
    assert 10 < len(docs[0] & docs[1]) < 40


@few
@given(pools, UNITS, st.data())
def test_a_document_follows_the_hash_of_its_epoch_or_lies_as_it_lay(sources, unit, data):
    table = pool(sources)
    _, visits = drawn(table, data.draw(phased(list(sources), unit)))
    config_a = data.draw(phased(list(sources), unit))
    allocation, visits = drawn(table, config_a)
    ordered = in_order(allocation, visits)
    shard_of = {c["source"]: c["shard"] for c in table.to_pylist()}
    for component in allocation.components:
        own = [row for row in ordered if row["shard"] == shard_of[component.name]]
        if component.sequence == "original":
            assert own == sorted(own, key=lambda row: (row["visit"], row["doc"], row["start"]))
        else:
            assert [row["visit"] for row in own] == sorted(row["visit"] for row in own)


@few
@given(pools, UNITS, st.data())
def test_editing_a_later_phase_leaves_the_tokens_before_it(sources, unit, data):
    table = pool(sources)
    config = data.draw(phased(list(sources), unit))
    last = config.phases[-1]
    edited = data.draw(weights_for(list(sources)))
    tokens = data.draw(st.integers(1, 60)) * unit
    changed = config_of(
        sources={k: v.model_dump(exclude_unset=True) for k, v in config.sources.items()}, turns=config.turns,
        phases=[*(p.model_dump(exclude_unset=True) for p in config.phases[:-1]),
                {"name": last.name, "tokens": tokens, "sources": edited}],
    )  # fmt: skip
    before = sum(phase.tokens.tokens for phase in config.phases[:-1])
    a, b = (tokens_in(in_order(*drawn(table, one)))[:before] for one in (config, changed))
    assert a == b


@few
@given(pools, UNITS, st.integers(1, 120), st.integers(1, 120), st.data())
def test_a_longer_run_keeps_the_tokens_of_a_shorter_one_up_to_its_first_cut(sources, unit, short, longer, data):
    weights = data.draw(weights_for(list(sources)))
    table = pool(sources)
    short, longer = sorted((short, longer))
    first, second = (
        drawn(table, config_of(sources=weights, tokens=n * unit, turns=unit if unit > 1 else None))
        for n in (short, longer)
    )
    a, b = tokens_in(in_order(*first)), tokens_in(in_order(*second))
    if unit > 1:  # turns are whole, so nothing is cut
        assert b[: len(a)] == a
        return
    places = {}  # of the last visit of each component, the only one that may be cut
    for row in first[1].to_pylist():
        places[row["component"]] = max(places.get(row["component"], -1), row["place"])
    kept = sum(row["length"] for row in first[1].to_pylist() if row["place"] < min(places.values()))
    assert b[:kept] == a[:kept]
    assert len(a) - kept <= sum(max(lengths) for lengths in sources.values()) * len(sources) + short * unit


@few
@given(pools, st.data())
def test_every_prefix_keeps_every_share_within_half_a_document_of_each(sources, data):
    allocation, visits = drawn(pool(sources), data.draw(phased(list(sources), most=300)))
    ordered, half = in_order(allocation, visits), {k: Fraction(max(lengths), 2) for k, lengths in sources.items()}
    source = {row["shard"]: row["component"] for row in visits.to_pylist()}
    for interval in allocation.intervals:
        taken, passed = Counter(), 0
        for visit in (visit for visit in ordered if visit["phase"] == interval.name):
            taken[source[visit["shard"]]] += visit["length"]
            passed += visit["length"]
            for row in interval.rows:
                due = given_by(passed, row.start_share, row.share, interval.ramp_tokens)
                share = max(row.start_share, row.share)
                bound = half[row.component] + share * (sum(half.values()) + len(half)) + 2
                assert abs(taken[row.component] - due) <= bound


@few
@given(pools, st.data())
def test_turns_are_whole_sequences_and_keep_their_shares_to_less_than_one(sources, data):
    unit = data.draw(st.integers(2, 9))
    allocation, visits = drawn(pool(sources), data.draw(phased(list(sources), unit)))
    ordered = in_order(allocation, visits)
    source = {row["shard"]: row["component"] for row in visits.to_pylist()}
    for interval in allocation.intervals:
        stream = [source[v["shard"]] for v in ordered if v["phase"] == interval.name for _ in range(v["length"])]
        turns = [set(stream[i : i + unit]) for i in range(0, len(stream), unit)]
        assert all(len(turn) == 1 for turn in turns)
        assert len(stream) == interval.tokens
        k = sum(1 for row in interval.rows if row.share or (interval.ramp_tokens and row.start_share))
        most = 1 - Fraction(1, 2 * k - 2) if k > 1 else 0
        taken = Counter()
        for m, turn in enumerate(turns, 1):
            taken.update(turn)
            for row in interval.rows:
                line = (row.start_share, row.share, interval.ramp_tokens // unit)
                assert abs(taken[row.component] - given_by(m, *line)) <= most


def test_replay_is_stratified_and_keeps_its_original_order():
    """5 % of every batch of 512 sequences is old: 25 or 26 of them, and the old data lies as it lay."""
    table = pool({"old": [7, 5, 11] * 700, "new": [9, 4] * 9000})
    config = config_of(
        sources={"new": "95%", "old": {"share": "5%", "sequence": "original"}}, tokens=512 * 20 * 8, turns=8
    )
    allocation, visits = drawn(table, config)
    ordered = in_order(allocation, visits)
    old = table.filter(pc.equal(table["source"].cast(pa.string()), "old"))["shard"][0].as_py()
    owner = np.array([v["shard"] for v in ordered for _ in range(v["length"])]).reshape(-1, 8)
    counts = (owner[:, 0] == old).reshape(20, 512).sum(axis=1)
    assert set(counts.tolist()) == {25, 26}
    assert counts.sum() == 512  # 5 % of 10,240
    assert (np.abs(np.cumsum(counts) - 25.6 * np.arange(1, 21)) <= 0.5).all()
    read = [(v["doc"], v["start"]) for v in ordered if v["shard"] == old]
    assert read == sorted(read)
    assert (deadline_turns([0.95, 0.05], 10_240) == (owner[:, 0] == old)).all()


def test_batches_hold_the_same_turns_in_keyed_order():
    table = pool({"old": [7, 5, 11] * 200, "new": [9, 4] * 600})
    sources = {"new": "75%", "old": {"share": "25%", "sequence": "original"}}

    def owners(batches, seed=3, **settings):
        config = config_of(sources=sources, tokens=batches * 16 * 4, turns=4, **settings)
        ordered = in_order(*drawn(table, config, seed), seed)
        return np.array([v["shard"] for v in ordered for _ in range(v["length"])]).reshape(-1, 4)[:, 0].reshape(-1, 16)

    plain, keyed = owners(60), owners(60, batch=16)
    assert (np.sort(plain) == np.sort(keyed)).all()
    assert (np.sum(keyed == 0, axis=1) == 4).all()  # a quarter of every batch of 16
    assert len({batch.tobytes() for batch in keyed}) > 50
    assert (owners(20, batch=16) == keyed[:20]).all()
    assert (owners(60, seed=4, batch=16) != keyed).any()
    with pytest.raises(MixtureError, match=r"not whole turns(.|\n)*a multiple of 64"):
        allocated(table, config_of(sources=sources, tokens=4 * 17, turns=4, batch=16))
    with pytest.raises(ConfigError, match="there are no turns"):
        validated(MixtureConfig, {"sources": sources, "batch": 16}, "recipe.yaml")


def test_arms_with_different_orders_read_the_same_tokens(tmp_path):
    table = pool({"web": [5, 7, 9] * 20, "wrap/qa": [4] * 30, "wrap/easy": [6] * 10})
    _, visits = drawn(table, config_of(sources={"web": 0.5, "wrap/*": 0.5}, tokens=613), seed=1)
    policies = (Shuffled(seed=2), Sorted(by="edu"), Interleaved(by="edu"), Mixed(by="edu"))
    arms = [arrange(visits, policy) for policy in policies]
    assert all(same_visits(arm, visits) for arm in arms)
    shards = ["web", "wrap/qa", "wrap/easy"]
    write_order(tmp_path, arms[2], name="order/a", fingerprint="0" * 16, config={}, inputs=[], shards=shards)
    totals = Order.open(tmp_path).artifact.manifest.totals
    assert totals["tokens"] == 613
    assert totals["tokens_by_source"]["web"] == 307
    assert totals["tokens_by_source"]["wrap/qa"] + totals["tokens_by_source"]["wrap/easy"] == 306


def test_colliding_hashes_and_a_document_in_two_shards_do_not_depend_on_the_input_order():
    table = pool({"web": [3, 5, 4, 6, 2, 8], "old": [4, 4]})
    same = pa.table(
        {**{name: table[name] for name in table.column_names}, "digest": pa.array([7] * 8)}, schema=table.schema
    )
    config = config_of(sources={"web": 0.7, "old": 0.3}, tokens=41)
    visits = drawn(same, config)[1]
    for seed in range(5):
        assert drawn(shuffled_rows(same, seed), config)[1].equals(visits)


# ---- quality bands


def banded_pool(n=200, seed=1):
    """One source whose scores rise with the document's number; every tenth document is not rated."""
    table = pool({"web": np.random.default_rng(seed).integers(1, 30, n).tolist()})
    score = pa.array([None if i % 10 == 0 else float(i) for i in range(n)], pa.float32())
    return table.set_column(table.column_names.index("edu"), "edu", score)


def test_a_filter_reads_the_best_documents_only_and_says_what_is_not_rated():
    table = banded_pool()
    allocation, visits = drawn(
        table, config_of(sources={"web": {"share": 1.0, "keep": {"by": "edu", "top": "30%"}}}, tokens=1500)
    )
    (component,) = allocation.components
    kept = pc.min(visits["edu"]).as_py()
    rated = table.filter(pc.is_valid(table["edu"]))
    above = pc.sum(rated.filter(pc.greater_equal(rated["edu"], kept))["length"]).as_py()
    assert component.available_tokens == above
    assert abs(above - 0.3 * pc.sum(rated["length"]).as_py()) <= 30
    assert component.epochs == 1500 / above > 1
    assert "20 documents of web" in allocation.warnings[0]
    reverse = config_of(sources={"web": {"share": 1.0, "keep": {"by": "-edu", "top": "30%"}}}, tokens=500)
    assert pc.max(drawn(table, reverse)[1]["edu"]).as_py() < kept


def test_weights_for_bands_are_met_to_the_token():
    table = banded_pool()
    asked = {"share": 1.0, "bands": {"by": "edu", "weights": [50, 30, 20]}}
    allocation, visits = drawn(table, config_of(sources={"web": asked}, tokens=3000))
    assert [band.tokens for band in allocation.components[0].bands] == [(600,), (900,), (1500,)]
    line = sorted(zip(visits["edu"].to_pylist(), visits["length"].to_pylist(), strict=True))
    score = np.repeat([score for score, _ in line], [length for _, length in line])
    assert score[599] < score[600] < score[1499] < score[1500]  # bands do not overlap


def test_the_upsampling_curve_reads_better_bands_more_often_and_none_above_its_top():
    table = banded_pool(2000)
    rated = pc.sum(table.filter(pc.is_valid(table["edu"]))["length"]).as_py()
    asked = {"share": 1.0, "upsample": {"by": "edu", "bands": 10, "top": 7}}
    allocation, visits = drawn(table, config_of(sources={"web": asked}, tokens=int(2.5 * rated)))
    epochs = [band.epochs for band in allocation.components[0].bands]
    assert epochs[:4] == [0] * 4
    assert epochs[4:] == sorted(epochs[4:])
    assert 6.5 < epochs[-1] <= 7
    times = Counter(visits.filter(pc.equal(visits["doc"], 1999))["visit"].to_pylist())
    assert set(times) in ({*range(6)}, {*range(7)})
    with pytest.raises(MixtureError, match=r"web needs .* tokens, and its upsampling curve gives"):
        allocated(table, config_of(sources={"web": asked}, tokens=int(4.3 * rated)))


def test_a_curve_shaped_for_stated_visits_does_not_bend_when_a_later_phase_changes():
    table, half = banded_pool(500), 3000

    def first_phase(later, **curve):
        asked = {"share": 1.0, "upsample": {"by": "edu", **curve}}
        phases = [{"name": "p", "tokens": half}, {"name": "q", "tokens": later}]
        allocation, visits = drawn(table, config_of(sources={"web": asked}, phases=phases))
        return tokens_in(in_order(allocation, visits))[:half]

    assert first_phase(1000, visits=2) == first_phase(4000, visits=2)
    assert first_phase(1000) != first_phase(4000)
    with pytest.raises(MixtureError, match="its upsampling curve gives"):
        first_phase(20_000, visits=2)


def test_phases_may_keep_different_parts_and_a_document_is_counted_through_them():
    table = pool({"web": [10] * 100})
    score = pa.array(np.arange(100), pa.float32())
    table = table.set_column(table.column_names.index("edu"), "edu", score)

    def keep(top):
        return {"web": {"share": 1.0, "keep": {"by": "edu", "top": top}}}

    phases = [
        {"name": "all", "tokens": 1000},
        {"name": "half", "tokens": 500, "sources": keep("50%")},
        {"name": "tenth", "tokens": 100, "sources": keep("10%")},
    ]
    config = config_of(sources={"web": 1.0}, phases=phases, max_visits=3)
    _, visits = drawn(table, config)
    times = Counter(visits["doc"].to_pylist())
    assert [times[doc] for doc in (0, 49, 50, 89, 90, 99)] == [1, 1, 2, 2, 3, 3]
    assert sorted(visits.filter(pc.equal(visits["doc"], 95))["visit"].to_pylist()) == [0, 1, 2]
    with pytest.raises(MixtureError, match="web needs"):
        allocated(table, config.model_copy(update={"max_visits": 2.9}))


@few
@given(st.integers(2, 6), UNITS, st.data())
def test_bands_in_phases_read_what_was_allocated(parts, unit, data):
    table = pool({"web": [3, 8, 1, 9, 4] * 8, "code": [5] * 10})
    asked = data.draw(st.sampled_from([
        {"keep": {"by": "edu", "top": 0.4}}, {"bands": {"by": "edu", "weights": [*range(1, parts + 1)]}},
    ]))  # fmt: skip
    phases = [
        {"name": "p", "tokens": 40 * unit, "sources": {"web": {"weight": 2, **asked}, "code": {"weight": 1}}},
        {"name": "q", "tokens": 40 * unit, "ramp": 20 * unit, "sources": {"code": {"weight": 1}}},
    ]
    config = config_of(
        sources={"web": {"weight": 1}, "code": {"weight": 1}}, phases=phases, turns=unit if unit > 1 else None
    )
    allocation, visits = drawn(table, config)
    for i, phase in enumerate(allocation.phases):
        part = visits.filter(pc.equal(visits["phase"].cast(pa.string()), phase))
        assert pc.sum(part["length"]).as_py() == 40 * unit
        assert sum(band.tokens[i] for one in allocation.components for band in one.bands) == 40 * unit
    assert same_visits(pa.Table.from_pylist(in_order(allocation, visits), schema=None), visits)


def test_scores_that_are_not_there_are_named():
    table = pool({"web": [1, 2, 3]}, scored=False)
    for by, message in (
        ("edu", "no document of web has a score 'edu'"),
        ("edo", "'edo'.*did you mean 'edu'"),
        ("length", "no such score"),
    ):
        with pytest.raises(MixtureError, match=message):
            allocated(table, config_of(sources={"web": {"share": 1.0, "keep": {"by": by, "top": 0.5}}}, tokens=2))


def test_bands_that_cannot_be_had_name_their_source():
    table = pool({"web": [100, 1, 1]})
    table = table.set_column(table.column_names.index("edu"), "edu", pa.array([1, 2, 3], pa.float32()))
    for asked, message in (
        (
            {"bands": {"by": "edu", "weights": [1, 1, 1]}},
            r"web: the quality band 3 of 3 \(from the best\) holds no document",
        ),
        ({"upsample": {"by": "edu", "top": 2, "visits": 1.5}}, r"web: the source cannot be repeated this often"),
    ):
        with pytest.raises(MixtureError, match=message) as caught:
            allocated(table, config_of(sources={"web": {"share": 1.0, **asked}}, tokens=50))
        assert caught.value.where == "mixture.sources.web"


def test_one_score_and_one_kind_of_cut_for_all_phases():
    for other, message in (
        ({"keep": {"by": "fluency", "top": 0.5}}, "read by two scores"),
        ({"upsample": {"by": "edu"}}, "upsampled by a curve in one place"),
    ):
        phases = [{"name": "p", "tokens": 9}, {"name": "q", "tokens": 9, "sources": {"web": {"share": 1.0, **other}}}]
        sources = {"web": {"share": 1.0, "keep": {"by": "edu", "top": 0.3}}}
        with pytest.raises(MixtureError, match=message):
            allocate({"web": (9, 90)}, config_of(sources=sources, phases=phases))


def test_candidates_must_be_those_that_were_allocated():
    table = pool({"web": [1, 2, 3]})
    allocation = allocated(table, config_of(sources={"web": 1.0}, tokens=5))
    with pytest.raises(MixtureError, match="not those the mixture was made for"):
        draw(table.slice(1), allocation, seed=0)
    planned = allocate(
        {"web": (3, 6)}, config_of(sources={"web": {"share": 1.0, "keep": {"by": "edu", "top": 0.5}}}, tokens=3)
    )
    with pytest.raises(MixtureError, match="not those the mixture was made for"):
        draw(pool({"web": [1, 1, 4]}), planned, seed=0)


def test_a_share_of_zero_is_read_not_at_all():
    table = pool({"web": [4] * 5, "code": [4] * 5})
    _, visits = drawn(table, config_of(sources={"web": 1.0, "code": 0.0}, tokens=10))
    assert set(visits["source"].to_pylist()) == {"web"}
    assert CANDIDATE_SCHEMA.names == visits.column_names[: len(CANDIDATE_SCHEMA.names)]


@pytest.mark.parametrize("seed", [0, 7])
def test_a_shuffle_of_the_same_seed_spreads_the_last_epoch(seed):
    """The last, partial epoch is a sample by hash; the control must not read that sample first."""
    table = pool({"web": [1] * 4000})
    config = config_of(sources={"web": 1.0}, tokens=5000)
    order = arrange(draw(table, allocated(table, config), seed), Shuffled(seed=seed))
    places = np.flatnonzero(order["visit"].to_numpy() == 1) / order.num_rows
    assert len(places) == 1000
    assert abs(places.mean() - 0.5) < 4 * (1 / np.sqrt(12 * 1000))
