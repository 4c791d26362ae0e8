"""The gates over many outputs: duplicates by exact Jaccard similarity, meaning in one batch, and who stays."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rephrase.fidelity import Profile, jaccard
from rephrase.gates.across import judge_across, judge_duplicates, judge_meaning
from rephrase.gates.instruments import NO_INSTRUMENTS, Instruments
from rephrase.gates.judging import Limits, Verdict
from rephrase.style import Style

STYLE = Style.model_validate(
    {"name": "test", "version": 1, "about": "for tests", "system": "Rewrite the passage.", "template": "{document}"}
)
TEXT = " ".join(f"w{i}" for i in range(44))  # 40 shingles


def made(text, reason=None):
    return Verdict(text, dict.fromkeys(Limits.model_fields), reason)


def attempts(*texts):
    return [("a source that shares nothing with them", made(text)) for text in texts]


def reasons(verdicts):
    return [verdict.reason for verdict in verdicts]


def test_of_equal_outputs_the_first_stays_and_words_alone_count():
    found = judge_across(attempts(TEXT, TEXT, TEXT.upper().replace(" ", ", "), "another text"), STYLE, NO_INSTRUMENTS)
    assert reasons(found) == [None, "duplicate", "duplicate", None]
    assert [verdict.values["duplicate"] for verdict in found] == [0.0, 1.0, 1.0, 0.0]


def test_the_border_is_at_a_similarity_of_four_fifths():
    longer = [f"{TEXT} {' '.join(f'v{i}' for i in range(n))}" for n in (10, 11)]
    for text, similarity, reason in ((longer[0], 40 / 50, "duplicate"), (longer[1], 40 / 51, None)):
        found = judge_across(attempts(TEXT, text), STYLE, NO_INSTRUMENTS)
        assert found[1].values["duplicate"] == pytest.approx(similarity)
        assert reasons(found) == [None, reason]


def test_the_best_scored_stays():
    found = judge_across(attempts(TEXT, TEXT, TEXT), STYLE, NO_INSTRUMENTS, scores=[1.0, 3.0, 2.0])
    assert reasons(found) == ["duplicate", None, "duplicate"]


def test_an_output_that_is_its_source_is_a_duplicate():
    found = judge_duplicates([(f"{TEXT} end", made(TEXT)), ("else", made("short text"))], STYLE)
    assert reasons(found) == ["duplicate", None]


def test_what_failed_before_is_neither_measured_nor_compared_with():
    failed = made(TEXT, "length")
    asked = []
    instruments = Instruments(similarity=lambda pairs: asked.append(list(pairs)) or [0.9] * len(pairs))
    found = judge_across([("s", failed), ("s", made(TEXT)), ("t", made("other words"))], STYLE, instruments)
    assert found[0] is failed
    assert reasons(found) == ["length", None, None]
    assert asked == [[(TEXT, "s"), ("other words", "t")]]
    assert [verdict.values["meaning"] for verdict in found] == [None, 0.9, 0.9]


def test_a_text_of_another_meaning_does_not_shield_its_duplicates():
    instruments = Instruments(similarity=lambda pairs: [0.1 if source == "far" else 0.8 for _, source in pairs])
    found = judge_across([("far", made(TEXT)), ("near", made(TEXT))], STYLE, instruments)
    assert reasons(found) == ["meaning", None]


def test_without_outputs_the_instrument_is_not_asked():
    instruments = Instruments(similarity=lambda pairs: pytest.fail("asked"))
    assert judge_meaning([("s", made("x", "loops"))], STYLE, instruments) == [made("x", "loops")]
    assert judge_across([], STYLE, instruments) == []


texts = st.lists(st.sampled_from("abcd"), min_size=1, max_size=14).map(" ".join)


@given(st.lists(texts, max_size=8))
def test_values_equal_the_pairwise_similarities(outputs):
    """The nearest of the kept ones before, or the source; found by comparing all pairs."""
    source = "a b c d a b c d"
    found = judge_duplicates([(source, made(text)) for text in outputs], STYLE)
    kept = []
    for verdict in found:
        text = Profile(verdict.text)
        wanted = max(jaccard(text, other) for other in [Profile(source), *kept])
        assert verdict.values["duplicate"] == pytest.approx(wanted)
        assert verdict.reason == ("duplicate" if wanted > 0.799 else None)
        kept += [text] if verdict.reason is None else []
    assert all(jaccard(a, b) <= 0.799 for a, b in pairwise(kept))
