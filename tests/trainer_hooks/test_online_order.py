"""An online order is a pure function of its log of shares: against an oracle, in pieces, resumed, and written down."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.errors import ArtifactError, ConfigError
from curriculum.order import Order, OrderError
from mixtures.online_policies import DoReMi
from mixtures.online_shares import MILLION, LogRow, OnlineLog
from mixtures.shares import MixtureError, largest_remainder
from tests.trainer_hooks.online_making import SOURCES, counted, sourced
from trainer_hooks.loader import OrderedLoader
from trainer_hooks.online_order import OnlineOrder

NAMES = tuple(SOURCES)
TOTAL = 1200
properties = settings(max_examples=40, deadline=None)
vectors = st.lists(st.integers(1, 50), min_size=3, max_size=3).map(counted)
logs = st.lists(st.tuples(st.integers(1, TOTAL - 1), vectors), max_size=6, unique_by=lambda row: row[0])


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return sourced(tmp_path_factory.mktemp("base"), readings=25)


def log_of(first, rows=()):
    """A log with these updates; what was measured does not matter here."""
    rows = [LogRow(tokens=tokens, signal=(0.0, 0.0, 0.0), shares=shares) for tokens, shares in sorted(rows)]
    return OnlineLog(policy=DoReMi(), names=NAMES, first=first, rows=tuple(rows))


def laid(base, log, tokens=TOTAL, **how):
    online = OnlineOrder(base.order, NAMES, tokens, **how)
    online.follow(log, tokens)
    return online


def oracle(base, log, tokens, piece=None):
    """The visits (source, document, first token, length) of a log, token by token in fractions."""
    lines = [[(row["doc"], row["start"], row["length"]) for row in base.line(name)] for name in NAMES]
    asked, given, at, found, position = [Fraction(0)] * 3, [0] * 3, [0] * 3, [], 0
    gone = [0] * 3
    while position < tokens:
        shares = log.first
        for row in log.rows:
            shares = row.shares if row.tokens + 1 <= position else shares
        counts = largest_remainder(list(shares), MILLION)
        turn = max(range(3), key=lambda i: (asked[i] - given[i], counts[i], -i))
        left = piece or lines[turn][at[turn]][2]
        while left:
            doc, start, length = lines[turn][at[turn]]
            part = min(left, length - gone[turn])
            found.append((NAMES[turn], doc, start + gone[turn], part))
            given[turn], gone[turn], left = given[turn] + part, gone[turn] + part, left - part
            for token in range(position, position + part):
                held = log.first
                for row in log.rows:
                    held = row.shares if row.tokens + 1 <= token else held
                counts = largest_remainder(list(held), MILLION)
                asked = [a + Fraction(c, MILLION) for a, c in zip(asked, counts, strict=True)]
            position += part
            if gone[turn] == length:
                gone[turn], at[turn] = 0, at[turn] + 1
    return found


def rows_of(online):
    table = online.visits(0, online.visits_between(0, online.decided_tokens)[1])
    return [(row["source"], row["doc"], row["start"], row["length"]) for row in table.to_pylist()]


@pytest.mark.parametrize("piece", [None, 16])
@settings(max_examples=10, deadline=None)
@given(first=vectors, rows=logs)
def test_turns_are_those_of_the_rule_counted_in_fractions(base, piece, first, rows):
    log = log_of(first, rows)
    expected = oracle(base, log, 300, piece)
    found = rows_of(laid(base, log, 300, piece_tokens=piece))
    assert found[:-1] == expected[: len(found) - 1]
    last = found[-1]
    assert last[:3] == expected[len(found) - 1][:3]
    assert sum(row[3] for row in found) == 300


@properties
@given(
    first=vectors, rows=logs, stops=st.lists(st.integers(1, TOTAL), max_size=8), piece=st.sampled_from([None, 16, 50])
)
def test_what_is_laid_in_pieces_or_again_is_the_same(base, first, rows, stops, piece):
    log = log_of(first, rows)
    whole = laid(base, log, piece_tokens=piece)
    parts = OnlineOrder(base.order, NAMES, TOTAL, piece_tokens=piece)
    shares, borders = log.first, [*log.rows, None]
    for row in borders:
        border = TOTAL if row is None else row.tokens + 1
        for stop in sorted(stops):
            if stop < border:
                parts.extend(shares, max(stop, 0))
        parts.extend(shares, border)
        shares = shares if row is None else row.shares
    assert rows_of(parts) == rows_of(whole)
    parts.follow(log, TOTAL // 2)  # a resumed run lays less, and then the rest
    early = parts.decided_tokens
    np.testing.assert_array_equal(parts.read(0, early, base.arrays), whole.read(0, early, base.arrays))
    parts.follow(log, TOTAL)
    np.testing.assert_array_equal(parts.read(0, TOTAL, base.arrays), whole.read(0, TOTAL, base.arrays))
    assert whole.n_tokens == whole.decided_tokens == TOTAL


@properties
@given(first=vectors, rows=logs, piece=st.sampled_from([None, 16]))
def test_no_source_is_further_from_its_share_than_promised(base, first, rows, piece):
    log = log_of(first, rows)
    online = laid(base, log, piece_tokens=piece)
    sources = online.sources_of(online.visit_numbers(0, TOTAL))
    longest = piece or max(map(max, SOURCES.values()))
    counts = np.array([largest_remainder(list(log.at(token - 1).values() if token else log.first), MILLION)
                       for token in range(TOTAL)]) / MILLION  # fmt: skip
    for i in range(3):
        ahead = np.cumsum(sources == i) - np.cumsum(counts[:, i])
        assert ahead.max() <= longest + 1e-6
        assert ahead.min() >= -2 * longest - 1e-6


def test_each_source_is_read_in_its_own_order(base):
    online = laid(base, log_of((0.2, 0.3, 0.5)))
    for name in NAMES:
        line = [(row["source"], row["doc"], row["start"], row["length"]) for row in base.line(name)]
        read = [row for row in rows_of(online) if row[0] == name]
        assert read[:-1] == line[: len(read) - 1]


def test_tokens_visits_and_numbers_agree(base):
    online = laid(base, log_of((0.1, 0.2, 0.7), [(400, (0.6, 0.2, 0.2))]), piece_tokens=16)
    first, stop = online.visits_between(100, 333)
    table, numbers = online.visits(first, stop), online.visit_numbers(100, 333)
    assert (numbers[0], numbers[-1]) == (first, stop - 1)
    rows = table.to_pylist()
    pieces = [base.arrays[row["shard"]][row["start"] : row["start"] + row["length"]] for row in rows]
    stream = np.concatenate(pieces)
    skipped = int(np.searchsorted(online.visit_numbers(0, 333), first, side="left"))
    np.testing.assert_array_equal(stream[100 - skipped :][:233], online.read(100, 333, base.arrays))
    assert [NAMES[i] for i in online.sources_of(np.arange(first, stop))] == [row["source"] for row in rows]
    assert table.schema.names == base.table.schema.names


def test_a_finished_order_is_an_artifact_that_reads_the_same(base, tmp_path):
    log = log_of((0.1, 0.2, 0.7), [(400, (0.6, 0.2, 0.2)), (777, (0.05, 0.05, 0.9))])
    online = laid(base, log, piece_tokens=None)
    online.write(tmp_path / "order", name="orders/run", log=log)
    order = Order.open(tmp_path / "order")
    assert order.n_tokens == online.n_tokens
    np.testing.assert_array_equal(order.read(0, TOTAL, base.arrays), online.read(0, TOTAL, base.arrays))
    assert order.table().to_pylist() == online.visits(0, order.n_visits).to_pylist()
    names = {ref.name for ref in order.artifact.manifest.inputs}
    assert names == {"tokens", "orders/base"}
    again = laid(base, log_of(log.first, [(400, (0.6, 0.2, 0.2))]))
    again.write(tmp_path / "other", name="orders/run", log=log_of(log.first, [(400, (0.6, 0.2, 0.2))]))
    assert Order.open(tmp_path / "other").fingerprint != order.fingerprint


def test_what_is_not_decided_cannot_be_read(base):
    online = OnlineOrder(base.order, NAMES, TOTAL)
    with pytest.raises(OrderError, match="0 tokens decided"):
        online.read(0, 1, base.arrays)
    online.extend((0.2, 0.3, 0.5), 65)
    loader = OrderedLoader(online, base.arrays, 16, 4)
    assert loader.n_batches == (TOTAL - 1) // 64
    loader.batch(0)
    with pytest.raises(OrderError, match="cannot be read"):
        loader.batch(8)


def test_passes_count_visits_on_and_end_where_they_are_told_to(tmp_path):
    base = sourced(tmp_path, readings=2)
    code = sum(SOURCES["code"])
    log = log_of((0.02, 0.96, 0.02))
    read = laid(base, log, 5 * code, passes=3).visits(0, 1000).to_pylist()
    seen = [(row["doc"], row["visit"]) for row in read if row["source"] == "code"]
    line = [(row["doc"], row["visit"]) for row in base.line("code")]
    assert seen[: len(line)] == line
    again = seen[len(line) :]
    assert 0 < len(again) < len(line)
    assert again == [(doc, visit + 2) for doc, visit in line][: len(again)]
    assert len(set(seen)) == len(seen)
    with pytest.raises(MixtureError, match="source 'code' of an online mixture has no visits left at token"):
        laid(base, log, 5 * code, passes=1)
    left = laid(base, log, 5 * code, passes=1, exhausted="leave_out")
    sources = left.sources_of(left.visit_numbers(0, 5 * code))
    assert np.sum(sources == NAMES.index("code")) == 2 * code
    with pytest.raises(MixtureError, match="every source"):
        laid(base, log, 10**5, exhausted="leave_out")


@pytest.mark.parametrize("exhausted", ["refuse", "leave_out"])
def test_a_source_may_end_amid_a_piece(tmp_path, exhausted):
    base = sourced(tmp_path, readings=1)
    log = log_of((0.02, 0.96, 0.02))
    if exhausted == "refuse":
        with pytest.raises(MixtureError, match="'code'"):
            laid(base, log, 200, piece_tokens=50, exhausted=exhausted)
        return
    online = laid(base, log, 200, piece_tokens=50, exhausted=exhausted)
    sources = online.sources_of(online.visit_numbers(0, 200))
    assert np.sum(sources == NAMES.index("code")) == sum(SOURCES["code"])


def test_a_source_without_a_share_is_not_read(base):
    online = laid(base, log_of((0.0, 0.5, 0.5), [(600, (0.5, 0.5, 0.0))]), piece_tokens=16)
    sources = online.sources_of(online.visit_numbers(0, TOTAL))
    assert NAMES.index("books") not in sources[:600]
    assert NAMES.index("web") not in sources[640:]


def test_identity_is_what_does_not_change_while_reading(base):
    online = OnlineOrder(base.order, NAMES, TOTAL)
    before = online.fingerprint
    online.extend((0.2, 0.3, 0.5), 500)
    assert online.fingerprint == before
    longer = [OnlineOrder(base.order, NAMES, TOTAL + 1), OnlineOrder(base.order, NAMES, TOTAL, passes=2)]
    assert {other.fingerprint for other in longer} == {before}
    left_out = [OnlineOrder(base.order, NAMES, TOTAL, passes=passes, exhausted="leave_out") for passes in (1, 2)]
    others = [OnlineOrder(base.order, NAMES, TOTAL, piece_tokens=16), OnlineOrder(base.order, NAMES[::-1], TOTAL)]
    assert len({before, *(other.fingerprint for other in [*left_out, *others])}) == 5


@pytest.mark.parametrize(
    ("names", "message"),
    [(("books", "code"), "other sources: web"), ((*NAMES, "old"), "other sources: old"),
     (("books", "code", "weeb"), "did you mean 'web'"), ((*NAMES, "web"), "named twice")],
)  # fmt: skip
def test_sources_that_do_not_fit_are_named(base, names, message):
    with pytest.raises(ConfigError, match=message):
        OnlineOrder(base.order, names, TOTAL)


def test_foreign_shards_and_logs_are_refused(base):
    online = laid(base, log_of((0.2, 0.3, 0.5)))
    with pytest.raises(ArtifactError, match="do not fit"):
        online.read(0, 600, [array[:30] for array in base.arrays])
    with pytest.raises(ConfigError, match="other sources"):
        online.follow(OnlineLog(policy=DoReMi(), names=("a", "b"), first=(0.5, 0.5)), 10)
