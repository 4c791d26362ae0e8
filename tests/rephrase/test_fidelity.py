"""Measures of likeness: words in many scripts, copying, drift, loops; and facts in the ways people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rephrase.fidelity import Profile, copied_share, jaccard, repeated_share, shared_content, stem, words
from rephrase.gates.facts import fact_precision, fact_recall, facts, new_fact_words
from rephrase.gates.numbers import number_readings, spelled_numbers, written_numbers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's a test_case, n\u00b0 5.", ["it's", "a", "test", "case", "n", "5"]),
        ("caf\u00e9 l\u2019eau", ["caf\u00e9", "l'eau"]),
        ("cafe\u0301 infor\u00admation", ["caf\u00e9", "information"]),
        (
            "\u0939\u093f\u0928\u094d\u0926\u0940 \u092e\u0947\u0902",
            ["\u0939\u093f\u0928\u094d\u0926\u0940", "\u092e\u0947\u0902"],
        ),
        ("私は2024年AIを", ["私", "は", "2024", "年", "ai", "を"]),
        ("Москва и Москве", ["москва", "и", "москве"]),
        ("", []),
    ],
)
def test_words_in_many_scripts(text, expected):
    assert words(text) == expected
    assert Profile(text).words == expected


@given(st.text(st.characters(codec="ascii"), max_size=200))
def test_words_hold_every_letter_and_digit_in_order(text):
    kept = [c for c in text.lower() if c.isalnum()]
    assert [c for word in words(text) for c in word if c != "'"] == kept


def test_inflected_forms_share_a_stem():
    assert stem("germany") == stem("german")
    assert stem("москва") == stem("москве")
    assert stem("caf\u00e9's") == stem("cafe")
    assert stem("austria") != stem("australia")


def test_copying_counts_runs_of_eight_words():
    source = Profile("a b c d e f g h i j k l")
    assert copied_share(Profile("a b c d e f g h"), source) == 1
    assert copied_share(Profile("a b c d e f g h x"), source) == 0.5
    assert copied_share(Profile("a b c d e f g"), source) is None
    assert copied_share(Profile("x a b c d e f g"), source) == 0


def test_drift_is_about_content_words_in_any_form():
    source = Profile("The engineers were building granite walls.", "en")
    assert shared_content(Profile("An engineer who had built the wall", "en"), source) == pytest.approx(1 / 3)
    assert shared_content(Profile("the of and", "en"), source) is None
    german = Profile("Der Hafen wurde gebaut und er ist alt.", "de")
    assert german.content == {"hafen", "gebaut", "alt"}


def test_repetition_by_words_and_by_characters():
    assert repeated_share(Profile("a b c d e f g h")) == 0
    assert repeated_share(Profile("a b c d a b c d")) == pytest.approx(1 / 5)
    assert repeated_share(Profile("ha" * 30)) == 1
    assert repeated_share(Profile("no " * 30)) > 0.9
    assert repeated_share(Profile("the end" + "." * 93)) == pytest.approx(0.93)
    assert repeated_share(Profile("")) == 0
    assert repeated_share(Profile("internationalisation is a long word, and 1000000000000 a long number")) == 0


def test_jaccard_of_five_word_shingles():
    assert jaccard(Profile("a b c d e f"), Profile("a b c d e g")) == pytest.approx(1 / 3)
    assert jaccard(Profile("a b"), Profile("A, b!")) == 1
    assert jaccard(Profile(""), Profile("")) == 0


@pytest.mark.parametrize(
    ("written", "readings"),
    [
        ("1,000", [{"1000", "1"}]),
        ("1.000", [{"1000", "1"}]),
        ("1,234,567", [{"1234567"}]),
        ("1.234.567,5", [{"1234567.5"}]),
        ("1,234.50", [{"1234.5"}]),
        ("1 000 000", [{"1000000"}]),
        ("1'000'000", [{"1000000"}]),
        ("in 1995 200 men", [{"1995"}, {"200"}]),
        ("3.50%", [{"3.5"}]),
        ("007", [{"7"}]),
        ("0.125", [{"0.125"}]),
        ("19th and 1990s", [{"19"}, {"1990"}]),
        ("12.03.1892", [{"12"}, {"3"}, {"1892"}]),
        ("2021-05-12", [{"2021"}, {"5"}, {"12"}]),
        ("10:30", [{"10"}, {"30"}]),
        ("1914-18", [{"1914"}, {"18"}]),
        ("1.5 million", [{"1500000"}]),
        ("2 Mrd. Euro", [{"2000000000"}]),
        ("5k but 5km", [{"5000"}, {"5"}]),
        ("3 万", [{"30000"}]),
        ("\u0663\u0664", [{"34"}]),
        ("MP3 and A4", []),
        ("none", []),
    ],
)
def test_numbers_are_read_as_people_write_them(written, readings):
    assert [set(one) for one in written_numbers(Profile(written))] == readings


def test_spelled_numbers_are_known_and_large_ones_are_facts():
    text = Profile("Twenty-five men, one dog, two hundred thousand coins, on the third day of May.")
    assert spelled_numbers(text) == [frozenset(["25"]), frozenset(["200000"])]
    assert {"25", "1", "200000", "3", "5", "month 5"} <= number_readings(text)


@pytest.mark.parametrize(
    ("output", "source"),
    [
        ("It cost 1000 pounds.", "It cost 1,000 pounds."),
        ("It cost 1,500,000.", "It cost 1.5 million."),
        ("It cost 1.5 million.", "It cost 1,500,000."),
        ("There were 12 ships.", "There were twelve ships."),
        ("There were twelve ships.", "There were 12 ships."),
        ("It was the 3rd year.", "It was the third year."),
        ("It opened on March 12, 1892.", "It opened on 12.03.1892."),
        ("It opened on 1892-03-12.", "It opened on 12 March 1892."),
        ("Half of it, or 50 percent.", "50% of it."),
        ("Staff of the UN came.", "Staff of the United Nations came."),
        ("It was Marie's house.", "The house of Marie was old."),
        ("They met in S\u00e3o Paulo.", "They met in Sao Paulo."),
        ("Поезд идет в Москву.", "Москва далеко."),
    ],
)
def test_a_fact_is_backed_in_other_words(output, source):
    assert fact_precision(Profile(output), Profile(source)) == 1


@pytest.mark.parametrize(
    ("output", "new"),
    [
        ("It opened in 1893.", {"1893"}),
        ("It was seen by Napoleon there.", {"napoleon"}),
        ("It cost 5 billion, which is 2,500 more.", {"5", "2", "500"}),
        ("In Porto it opened in 1892.", set()),
        ("Nobody saw NASA there.", {"nasa"}),
    ],
)
def test_new_facts_are_named(output, new):
    source = Profile("The harbour at Porto opened in 1892 and cost 5 million.")
    assert new_fact_words(Profile(output), source) == new
    assert (fact_precision(Profile(output), source) == 1) == (not new)


def test_names_are_capitals_inside_a_sentence():
    assert facts(Profile("Engineers met Ada Lovelace. Then she left for Paris, with NATO.")).names == {
        "ada", "lovelace", "paris", "nato",
    }  # fmt: skip
    assert facts(Profile("How To Build A House In Spain\nThey built it.")).names == frozenset()
    assert facts(Profile("CALL NOW FOR FREE SHIPPING TODAY!\nit is here")).names == frozenset()
    assert facts(Profile("I think I'm right, and I've said so.")).names == frozenset()


def test_german_nouns_are_no_names():
    text = Profile("Der Hafen von Porto wurde nicht von der Stadt gebaut, und Albert Einstein sah die Schiffe.", "de")
    assert facts(text).names == {"einstein"}
    assert facts(Profile(text.text)).names == {"einstein"}


def test_recall_is_of_the_source_and_null_without_facts():
    source = Profile("They met Ada in Paris in 1892 and in 1893.")
    assert fact_recall(Profile("In 1892 Ada came."), source) == pytest.approx(2 / 4)
    assert fact_recall(Profile("x"), Profile("nothing to be found here")) is None
    assert fact_precision(Profile("nothing to be found here"), source) is None


@given(st.text(max_size=150))
def test_a_text_backs_its_own_facts(text):
    profile = Profile(text)
    assert fact_precision(profile, profile) in (None, 1.0)
    assert fact_recall(profile, Profile(text)) in (None, 1.0)
