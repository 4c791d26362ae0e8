"""Diversity: golden collapse, real text without alarms, measures that do not depend on length, and trends."""

import json
import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rephrase.diversity import (
    FEW,
    Diversity,
    Measure,
    distinct,
    diversity,
    drift,
    near_duplicates,
    skeleton,
    word_cosine,
    worst,
)
from rephrase.fidelity import words

PAGES = Path(__file__).parents[2] / "pipelines" / "demo" / "pages.jsonl"
LETTERS = "bcdfghjklmnpqrstvwz"


@pytest.fixture(scope="module")
def pages() -> list[str]:
    lines = PAGES.read_text(encoding="utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    return [text[:1200] for text in texts if text and len(text) > 400][:150]


def invented(n: int, n_words: int = 60, seed: int = 0) -> list[str]:
    """Texts of random words: no two alike."""
    draw = random.Random(seed)
    return [" ".join("".join(draw.choices(LETTERS, k=5)) for _ in range(n_words)) for _ in range(n)]


def measure(found: Diversity, name: str) -> Measure:
    return next(one for one in found.measures if one.name.startswith(name))


def test_a_thousand_copies_of_one_opening_have_share_one_and_entropy_zero():
    texts = invented(1000)
    found = diversity([f"In this passage we will learn {text}" for text in texts], texts)
    opening, entropy = measure(found, "share of the commonest opening"), measure(found, "entropy of openings")
    assert (opening.value, opening.example, opening.level) == (1.0, "in this passage we will", "stop")
    assert opening.real == 0.001
    assert (entropy.value, entropy.level) == (0.0, "note")
    assert entropy.real == pytest.approx(math.log2(1000))
    assert found.level == "stop"


def test_a_thousand_copies_of_one_text_raise_every_alarm():
    texts = invented(1000)
    found = diversity(["Nobody knows why it is so. It was always thus, and it will be thus again."] * 1000, texts)
    assert {one.level for one in found.measures if not one.name.startswith("distinct 1")} == {"note", "stop"}
    assert measure(found, "near-duplicates").value == 1.0
    assert measure(found, "self-similarity").value == pytest.approx(1.0)
    assert measure(found, "entropy of sentence skeletons").value == 0.0
    assert measure(found, "distinct 4-grams").value == pytest.approx(13 / 13_000)


def test_real_pages_beside_themselves_raise_no_alarm_that_compares(pages: list[str]):
    found = diversity(pages, pages)
    compared = [one for one in found.measures if "real text" in one.alarm]
    assert len(compared) == 8
    assert all(one.level == "fine" and one.value == one.real for one in compared)


@pytest.mark.parametrize(("share", "level"), [(0.03, "fine"), (0.031, "note"), (0.1, "note"), (0.101, "stop")])
def test_the_opening_alarm_has_its_levels_at_three_and_ten_per_cent(share: float, level: str):
    texts = invented(1000)
    alike = round(share * 1000)
    outputs = [f"There is no doubt that {text}" for text in texts[:alike]] + texts[alike:]
    opening = measure(diversity(outputs, texts), "share of the commonest opening")
    assert (opening.value, opening.level) == (share, level)


def test_closings_are_counted_by_their_last_eight_words():
    texts = invented(100)
    found = diversity([f"{text} and that is why you should call today" for text in texts], texts)
    assert measure(found, "share of the commonest closing").example == "and that is why you should call today"
    assert measure(found, "share of the commonest closing").level == "note"


def test_a_small_sample_says_nothing():
    texts = invented(FEW - 1)
    found = diversity([f"In this passage we will {text}" for text in texts], texts)
    assert found.level == "few"
    assert measure(found, "share of the commonest opening").value == 1.0
    empty = diversity([], [])
    assert empty.level == "few"
    assert all(one.value is None for one in empty.measures)


def test_length_alone_raises_no_alarm(pages: list[str]):
    """Outputs as long as their sources' first 40 words, of the same kind of text, are as varied as real text."""
    short = [" ".join(words(text)[40:80]) for text in pages]
    found = diversity(short, pages)
    assert {one.name: one.level for one in found.measures if one.name.startswith(("distinct", "compressed"))} == {
        **{f"distinct {n}-grams": "fine" for n in (1, 2, 3, 4)},
        "compressed size (gzip)": "fine",
    }


@given(st.lists(st.lists(st.sampled_from("abcdef"), max_size=12), max_size=8), st.integers(1, 4), st.integers(0, 60))
def test_distinct_n_equals_its_definition(texts: list[list[str]], n: int, n_words: int):
    left, cut = n_words, []
    for text in texts:
        cut.append(text[:left])
        left -= len(cut[-1])
    grams = [tuple(text[i : i + n]) for text in cut for i in range(len(text) - n + 1)]
    assert distinct(texts, n, n_words) == (len(set(grams)) / len(grams) if grams else None)


def test_near_duplicates_are_found_and_others_are_not():
    texts = [words(text) for text in invented(50, n_words=200)]
    almost = [*texts[0][:-3], "one", "two", "three"]
    assert near_duplicates(texts) == 0.0
    assert near_duplicates([*texts, almost]) == pytest.approx(2 / 51)
    assert near_duplicates([[], []]) == 0.0


def test_skeletons_take_out_numbers_and_names():
    first = "In 1998, John Smith met 12.5 people in New York. Then he left."
    assert skeleton(first) == skeleton("In 2004, Ada met 3 people in Paris. And so on.")
    assert skeleton(first) == "in 0, x met 0 people in x."
    assert skeleton("") == ""


def test_given_cosines_replace_the_word_counts():
    asked = []

    def cosines(pairs):
        asked.extend(pairs)
        return [0.5 if left.startswith("out") else 0.2 for left, _ in pairs]

    found = diversity([f"out {i}" for i in range(40)], [f"in {i}" for i in range(40)], cosines)
    similarity = measure(found, "self-similarity (embeddings)")
    assert (similarity.value, similarity.real, similarity.level) == (0.5, pytest.approx(0.2), "note")
    pairs = [pair for pair in asked if pair[0].startswith("out")]
    assert len({frozenset(pair) for pair in pairs}) == len(pairs) == 40 * 39 // 2  # each pair once, below 1,000


@given(st.text(max_size=80), st.text(max_size=80))
def test_word_cosine_is_symmetric_and_bounded(first: str, second: str):
    found = word_cosine(first, second)
    assert found == pytest.approx(word_cosine(second, first))
    assert -1e-9 <= found <= 1 + 1e-9
    assert word_cosine(first, first) in (0.0, pytest.approx(1.0))


def test_a_growing_opening_is_a_trend_and_a_steady_one_is_none():
    slices = [invented(50, seed=number) for number in range(5)]
    growing = [
        ["There is no doubt that " + text if i < 4 * number else text for i, text in enumerate(texts)]
        for number, texts in enumerate(slices)
    ]
    assert drift(growing).level == "note"
    assert drift(growing).opening_shares == (0.02, 0.08, 0.16, 0.24, 0.32)
    assert drift([slices[0]] * 5).level == "fine"
    assert drift(growing[:4]).level == "few"
    assert drift([texts[: FEW - 1] for texts in growing]).level == "few"


def test_the_worst_level_wins():
    assert worst(["fine", "few", "note"]) == "note"
    assert worst(["fine", "stop", "note"]) == "stop"
    assert worst(["few", "fine"]) == "fine"
    assert worst([]) == worst(["few"]) == "few"


def test_measures_are_the_same_every_time(pages: list[str]):
    assert diversity(pages, pages) == diversity(pages, pages)
