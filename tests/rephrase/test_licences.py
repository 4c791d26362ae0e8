"""Licences by their names: what they ask for, and the stricter of two."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rephrase.licences import TERMS, stricter, strictest, terms

NAMES = ("cc0-1.0", "apache-2.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "")


@pytest.mark.parametrize(
    ("name", "term"),
    [
        ("CC0 1.0", "free"),
        ("public domain", "free"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "free"),
        ("MIT", "attribution"),
        ("Apache-2.0", "attribution"),
        ("CC BY 4.0", "attribution"),
        ("https://creativecommons.org/licenses/by/4.0/", "attribution"),
        ("ODC-By", "attribution"),
        ("CC-BY-SA 3.0", "share-alike"),
        ("GPL-3.0-or-later", "share-alike"),
        ("cc_by_nc_4.0", "non-commercial"),
        ("https://creativecommons.org/licenses/by-nc-sa/4.0/", "non-commercial"),
        ("research only", "non-commercial"),
        ("CC-BY-NC-ND-4.0", "no derivatives"),
        ("third-party web pages (no licence)", "unknown"),
        ("Llama 3.1 Community License", "unknown"),
        ("standard", "unknown"),
        (None, "unknown"),
        (" ", "unknown"),
    ],
)
def test_names_tell_what_is_asked_for(name, term):
    assert terms(name) == term


@given(st.sampled_from(NAMES), st.sampled_from(NAMES))
def test_the_stricter_of_two_is_one_of_them_and_asks_for_the_most(first, second):
    found = stricter(first, second)
    assert found in (first, second, "unknown")
    assert TERMS.index(terms(found)) == max(TERMS.index(terms(name)) for name in (first, second))
    assert terms(stricter(second, first)) == terms(found)


def test_one_strict_text_makes_the_set_strict():
    assert [terms(name) for name in NAMES] == list(TERMS)
    assert strictest(["cc0-1.0", "cc-by-nc-4.0", "mit"]) == "cc-by-nc-4.0"
    assert terms(strictest(["cc0-1.0", None])) == "unknown"
    assert strictest([]) == "free"
