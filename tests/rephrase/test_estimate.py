"""What a run is said to cost is what it costs: requests and prompts exactly, lengths by what is known of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.documents import document_id, documents
from rephrase.course import Bench, Source
from rephrase.estimate import Estimate, StyleEstimate, StyleLengths, Whole, estimate_style, first_asks, lengths_of
from rephrase.gates.instruments import NO_INSTRUMENTS
from rephrase.rephrase import open_cache, open_settled, rephrase_documents
from rephrase.style import load_style

SENTENCE = "River number {} rises in the Alps and flows through many countries to the sea. "


@pytest.fixture(scope="module")
def style():
    return load_style("easy")


def sources(repeats):
    return [Source(document_id("t", str(i)), "".join(map(SENTENCE.format, range(n)))) for i, n in enumerate(repeats)]


def whole_of(given_sources, generator):
    lengths = [generator.count_tokens(source.text) for source in given_sources]
    return lengths, Whole(len(given_sources), sum(lengths))


def rephrased(given_sources, style, bench, folder):
    batch = documents([{"id": source.id, "text": source.text, "source": "s"} for source in given_sources])
    cache, settled = open_cache(folder, bench.generator), open_settled(folder, style, bench)
    made = rephrase_documents(batch, style, bench, cache, settled)
    settled.close()
    cache.close()
    return made


def test_requests_and_prompts_are_those_of_the_run_and_then_all_are_stored(scripted, style, tmp_path):
    generator = scripted()
    bench = Bench(generator, NO_INSTRUMENTS)
    given_sources = sources([1, 4, 30, 60, 9])
    lengths, whole = whole_of(given_sources, generator)
    cache = open_cache(tmp_path, generator)
    before = estimate_style(style, given_sources, lengths, whole, bench, cache)
    cache.close()
    assert not generator.batches
    made = rephrased(given_sources, style, bench, tmp_path).attempts.to_pylist()
    first = [row for row in made if row["attempt"] == 0]
    assert before.requests == len(first) > 0
    assert before.n_prompt == sum(row["n_in"] for row in first)
    assert before.cached == 0
    assert before.told_by == "the style's limits"
    after = estimate_style(style, given_sources, lengths, whole, bench, open_cache(tmp_path, generator))
    assert after.cached == after.requests == before.requests
    assert after.n_new == 0
    assert after.n_out == sum(row["n_out"] for row in first)


def test_answers_that_are_stored_foretell_those_that_are_not(scripted, style, tmp_path):
    generator = scripted(lambda text: " ".join(text.split()[:70]))
    bench = Bench(generator, NO_INSTRUMENTS)
    given_sources = sources([8] * 40)
    rephrased(given_sources[:30], style, bench, tmp_path)
    lengths, whole = whole_of(given_sources, generator)
    told = estimate_style(style, given_sources, lengths, whole, bench, open_cache(tmp_path, generator))
    assert told.told_by == "stored answers"
    assert (told.requests, told.cached) == (40, 30)
    assert told.n_new == pytest.approx(10 * 70, rel=0.05)


def test_an_earlier_run_foretells_lengths_where_nothing_is_stored(scripted, style, tmp_path):
    generator = scripted()
    given_sources = sources([8] * 10)
    lengths, whole = whole_of(given_sources, generator)
    bench = Bench(generator, NO_INSTRUMENTS)
    told = estimate_style(style, given_sources, lengths, whole, bench, open_cache(tmp_path, generator), earlier=50.0)
    assert told.told_by == "an earlier run"
    assert told.n_out == pytest.approx(10 * 50, rel=0.05)


def test_a_sample_stands_for_the_whole_by_its_length(scripted, style, tmp_path):
    generator = scripted()
    bench = Bench(generator, NO_INSTRUMENTS)
    given_sources = sources([10, 20, 40, 80] * 5)
    lengths, whole = whole_of(given_sources, generator)
    cache = open_cache(tmp_path, generator)
    exact = estimate_style(style, given_sources, lengths, whole, bench, cache)
    scaled = estimate_style(style, given_sources[:4], lengths[:4], whole, bench, cache)
    assert (scaled.requests, scaled.n_prompt, scaled.n_out) == (exact.requests, exact.n_prompt, exact.n_out)
    assert (scaled.documents, scaled.looked_at) == (20, 4)
    none = estimate_style(style, [], [], Whole(0, 0), bench, cache)
    assert (none.requests, none.n_out) == (0, 0)


def test_a_document_that_is_not_sent_asks_nothing(scripted, style):
    assert first_asks(Source("0" * 32, "Too short."), style, Bench(scripted(), NO_INSTRUMENTS)) == []


@given(st.lists(st.integers(0, 5_000), min_size=1), st.integers(16, 400), st.integers(1, 60), st.floats(0.1, 2))
def test_lengths_follow_the_styles_limits(tokens, chunk, shortest, ratio):
    lengths = StyleLengths(chunk, shortest, 4_000, 600, ratio)
    values = np.array(tokens)
    requests, n_out = lengths.requests(values), lengths.n_out(values)
    sent = (values >= shortest) & (values <= 4_000)
    assert ((requests > 0) == sent).all()
    assert (requests * chunk >= values)[sent].all()
    assert ((requests - 1) * chunk < values)[sent].all()
    assert (n_out <= requests * 600).all()
    assert ((n_out > 0) == sent).all()


def test_a_style_is_expected_in_the_middle_of_what_its_gate_accepts(style):
    gate = style.gates.length
    assert lengths_of(style).ratio == min(style.limits.max_ratio, (gate.low + gate.high) / 2)


def test_time_and_money_follow_from_the_rate():
    row = StyleEstimate("easy", 10, 20, 9_000, 8_000_000, 0, 7_200_000, "the style's limits", 10)
    told = Estimate((row,), rate=250.0, told_by="as given", gpus=4, price=2.5)
    assert told.gpu_hours == pytest.approx(8.0)
    assert told.hours == pytest.approx(2.0)
    assert told.cost == pytest.approx(20.0)
    assert Estimate((row,), rate=45_540.0).gpu_hours_per_billion == pytest.approx(6.1, abs=0.01)
    unknown = Estimate((row,), price=2.5)
    assert (unknown.gpu_hours, unknown.hours, unknown.cost, unknown.gpu_hours_per_billion) == (None,) * 4
