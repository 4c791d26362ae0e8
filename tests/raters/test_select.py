"""Selection: golden rules, nested budgets, drawn rankings, and the cut found by passes equals the one in memory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.config import validated
from corpus.errors import ConfigError, InputError
from raters.budget_cut import Chunk, Cut, find_cuts, key_of, ranked_bits
from raters.normalise import fit
from raters.quotas import ALL, OTHERS, Group, Quotas, budget_groups, within_caps
from raters.select import drawn_keys, take_budget

IDS = ["d1", "d2", "d3", "d4"]
SCORES, TOKENS = [0.9, 0.9, 0.8, 0.7], [400, 300, 500, 200]
RULES = ("prefix", "crossing", "fill")
SEED = next(seed for seed in range(100) if take_budget(SCORES, TOKENS, 10_000, seed=seed, ids=IDS).rows[0] == 0)


@pytest.mark.parametrize(
    ("rule", "rows", "tokens"), [("prefix", [0, 1], 700), ("crossing", [0, 1, 2], 1200), ("fill", [0, 1, 3], 900)]
)
def test_golden_selection_by_each_rule(rule, rows, tokens):
    chosen = take_budget(SCORES, TOKENS, 1_000, seed=SEED, ids=IDS, rule=rule)
    assert chosen.rows.tolist() == rows
    assert (chosen.tokens, chosen.shortfall, chosen.unscored) == (tokens, 1_000 - tokens, 0)
    assert chosen.lowest == min(SCORES[i] for i in rows)
    (cut,) = find_cuts(chunks_of(list(zip(IDS, SCORES, TOKENS, strict=True)), 2), [1_000], seed=SEED, rule=rule)
    assert (cut.documents, cut.tokens) == (len(rows), tokens)


@pytest.mark.parametrize(
    ("budget", "rows"), [(0, []), (399, []), (400, [0]), (700, [0, 1]), (1_400, [0, 1, 2, 3]), (9_999, [0, 1, 2, 3])]
)
def test_prefixes_at_their_edges(budget, rows):
    assert take_budget(SCORES, TOKENS, budget, seed=SEED, ids=IDS).rows.tolist() == rows


def test_a_budget_that_is_met_exactly_is_not_crossed():
    assert take_budget(SCORES, TOKENS, 700, seed=SEED, ids=IDS, rule="crossing").rows.tolist() == [0, 1]
    assert take_budget(SCORES, TOKENS, 0, seed=SEED, ids=IDS, rule="crossing").rows.tolist() == []


documents = st.lists(st.tuples(st.sampled_from([-0.5, 0.0, 0.5, 0.9, np.nan]), st.integers(0, 50)), max_size=40)
budgets = st.integers(0, 900)
rules = st.sampled_from(RULES)
temperatures = st.sampled_from([0.0, 1.0])


@given(documents, budgets, budgets, rules, temperatures, st.randoms(use_true_random=False))
def test_selections_fit_are_nested_and_do_not_depend_on_row_order(rows, budget, other, rule, temperature, random):
    named = [(f"{i}", score, tokens) for i, (score, tokens) in enumerate(rows)]

    def take(part: list, limit: int) -> list[str]:
        ids, scores, tokens = ([row[i] for row in part] for i in range(3))
        chosen = take_budget(scores, tokens, limit, seed=3, ids=ids, rule=rule, temperature=temperature)
        assert sum(tokens[i] for i in chosen.rows) == chosen.tokens == limit - chosen.shortfall
        assert chosen.unscored == sum(np.isnan(score) for score in scores)
        if rule == "crossing":
            assert sum(tokens[i] for i in chosen.rows[:-1]) <= limit
            assert chosen.shortfall <= 0 or len(chosen.rows) == len(ids) - chosen.unscored
        else:
            assert chosen.tokens <= limit
        return [ids[i] for i in chosen.rows]

    small, large = sorted((budget, other))
    best = take(named, large)
    if rule != "fill":
        assert best[: len(take(named, small))] == take(named, small)
    assert take(random.sample(named, len(named)), large) == best


def test_selection_refuses_columns_that_do_not_fit_together():
    with pytest.raises(InputError, match="same documents"):
        take_budget([0.1], [1, 2], 5, seed=0, ids=["a"])
    with pytest.raises(InputError, match="have an id"):
        take_budget([0.1, 0.2], [1, 2], 5, seed=0, ids=["a", "a"])
    with pytest.raises(InputError, match="negative"):
        take_budget([0.1], [-1], 5, seed=0, ids=["a"])


# ---- drawn rankings


def test_drawing_takes_documents_in_proportion_to_exp_z_over_temperature():
    """The Gumbel-max identity: the first of the ranking is document i with probability softmax(z / tau)_i."""
    scores, temperature, draws = np.array([0.0, 1.0, 2.0, 4.0]), 2.0, 20_000
    z = (scores - scores.mean()) / scores.std()
    expected = np.exp(z / temperature) / np.exp(z / temperature).sum()
    table = fit(scores, "z").table
    first = np.zeros(4)
    for i in range(draws):
        first[np.argmax(drawn_keys(scores, [f"{i}-{j}" for j in range(4)], 5, temperature, table))] += 1
    np.testing.assert_allclose(first / draws, expected, atol=3 * np.sqrt(0.25 / draws))


def test_a_low_temperature_is_the_ranking_and_a_high_one_forgets_it():
    rng = np.random.default_rng(0)
    scores, ids = rng.normal(size=2_000), [f"{i}" for i in range(2_000)]

    def top(temperature):
        return set(take_budget(scores, np.ones(2_000), 200, seed=1, ids=ids, temperature=temperature).rows.tolist())

    assert top(1e-6) == top(0.0)
    assert len(top(0.0) & top(1.0)) in range(40, 120)
    assert len(top(0.0) & top(1e6)) in range(5, 40)  # 20 are expected of a random tenth


def test_a_constant_score_is_drawn_uniformly_and_not_divided_by_0():
    keys = drawn_keys(np.full(5, 3.0), list("abcde"), 0, 1.0, fit(np.full(5, 3.0), "z").table)
    assert np.isfinite(keys).all()
    assert len(set(keys)) == 5


# ---- the cut found in passes


def chunks_of(rows: list, size: int, groups=None):
    """Rows of (id, key, tokens), in chunks."""

    def chunks():
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            yield Chunk(
                np.array([row[1] for row in part], float),
                np.array([row[2] for row in part], np.int64),
                np.array(groups[start : start + size] if groups else [0] * len(part), np.int64),
                lambda part=part: [row[0] for row in part],
            )

    return chunks


keys = st.sampled_from([-1e308, -1e300, -2.0, -1e-310, 0.0, -0.0, 0.5, 0.5 + 2**-52, 0.75, 3.0, 1e300, np.nan])
many = st.lists(st.tuples(keys, st.integers(0, 50), st.integers(-1, 2)), max_size=60)


@given(many, budgets, budgets, rules, st.integers(1, 16), st.integers(1, 30), st.integers(1, 25))
def test_passes_and_memory_select_the_same(rows, budget, other, rule, digit_bits, collected, size):
    named = [(f"{i}", key, tokens) for i, (key, tokens, _) in enumerate(rows)]
    groups = [group for *_, group in rows]
    asked = [budget, other, 200]
    chunks = chunks_of(named, size, groups)
    cuts = find_cuts(chunks, asked, seed=7, rule=rule, digit_bits=digit_bits, collected=collected)
    for i, cut in enumerate(cuts):
        mine = [row for row, group in zip(named, groups, strict=True) if group == i]
        ids, scores, tokens = ([row[j] for row in mine] for j in range(3))
        chosen = take_budget(scores, tokens, asked[i], seed=7, ids=ids, rule=rule)
        expected = {ids[row] for row in chosen.rows}
        found = set()
        for chunk in chunks():
            mask = cut.takes(np.where(chunk.groups == i, chunk.keys, np.nan), chunk.ids, 7)
            found |= {chunk.ids()[row] for row in np.flatnonzero(mask)}
        assert found == expected
        assert (cut.documents, cut.tokens) == (len(expected), chosen.tokens)
        assert Cut.model_validate_json(cut.model_dump_json()) == cut


def test_a_million_ties_are_cut_by_their_hashes_in_little_memory():
    rows = [(f"{i}", 0.5, 1 + i % 7) for i in range(5_000)]
    (cut,) = find_cuts(chunks_of(rows, 512), [9_000], seed=0, collected=10)
    ids, scores, tokens = zip(*rows, strict=True)
    chosen = take_budget(scores, tokens, 9_000, seed=0, ids=ids)
    assert (cut.documents, cut.tokens, cut.key) == (len(chosen.rows), chosen.tokens, 0.5)


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=30))
def test_ranked_bits_sort_best_first_and_can_be_read_back(values):
    values = np.array(values) + 0.0
    bits = ranked_bits(values)
    order = np.argsort(bits, kind="stable")
    assert (values[order][:-1] >= values[order][1:]).all()
    assert [key_of(int(number)) for number in bits] == values.tolist()


# ---- quotas

OFFERED = {"web": 700, "old": 200, "code": 100}


def test_shares_leave_the_rest_to_the_others_and_no_token_is_lost():
    groups = budget_groups(Quotas(shares={"web": 0.6}), 1_001, OFFERED)
    assert groups == [Group("web", ("web",), 601), Group(OTHERS, ("code", "old"), 400)]
    whole = budget_groups(Quotas(shares={"web": 0.6, "old": 0.4}), 10, OFFERED)
    assert whole == [Group("web", ("web",), 6), Group("old", ("old",), 4)]
    assert budget_groups(Quotas(), 10, OFFERED) == [Group(ALL, ("code", "old", "web"), 10)]


def test_proportional_budgets_follow_the_tokens_on_offer():
    groups = budget_groups(Quotas(proportional=True), 501, OFFERED)
    assert {group.name: group.budget for group in groups} == {"code": 50, "old": 100, "web": 351}
    assert [group.budget for group in budget_groups(Quotas(proportional=True), 5, {"web": 0})] == [0]


@pytest.mark.parametrize(
    ("data", "message"),
    [({"shares": {"web": 0.7, "old": 0.4}}, "sum to 1.1"), ({"proportional": True, "caps": {"old": 0.1}}, "one of"),
     ({"caps": {"web": 60}}, "60% if you mean")],
)  # fmt: skip
def test_quotas_that_cannot_be_met_are_refused(data, message):
    with pytest.raises(ConfigError, match=message):
        validated(Quotas, data, "options")


def test_a_quota_of_an_unknown_source_names_the_nearest():
    with pytest.raises(ConfigError, match=r"'wbe'.*did you mean 'web'"):
        budget_groups(Quotas(shares={"wbe": 0.5}), 10, OFFERED)


ranked = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 30)), max_size=50)


@given(ranked, st.integers(0, 600), st.sampled_from([0.05, 0.3, 0.5]), st.sampled_from([0.1, 0.4]))
def test_caps_select_what_a_walk_down_the_ranking_does(rows, budget, cap_a, cap_b):
    caps = {"a": cap_a, "b": cap_b}
    limits = {name: int(round(cap * 100) * budget / 100) for name, cap in caps.items()}
    spent, stopped, expected = {"a": 0, "b": 0, "c": 0}, set(), []
    for i, (source, tokens) in enumerate(rows):
        if source in stopped:
            continue
        if sum(spent.values()) + tokens > budget:
            break
        if source in limits and spent[source] + tokens > limits[source]:
            stopped.add(source)
            continue
        spent[source] += tokens
        expected.append(i)

    def solve(groups):
        cuts, got = [], []
        for group in groups:
            mine = [i for i, (source, _) in enumerate(rows) if source in group.sources]
            tokens = [rows[i][1] for i in mine]
            chosen = take_budget([-i for i in mine], tokens, group.budget, seed=0, ids=[f"{i}" for i in mine])
            cuts += [mine[row] for row in chosen.rows]
            got.append({name: sum(rows[mine[r]][1] for r in chosen.rows if rows[mine[r]][0] == name) for name in "abc"})
        return cuts, got

    groups, found = within_caps(caps, budget, ["a", "b", "c"], solve)
    assert sorted(found) == expected
    assert sum(group.budget for group in groups if group.name not in caps) <= budget
