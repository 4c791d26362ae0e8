"""Skill-targeted weights: the golden chain from failures to documents, its limits, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.errors import InputError
from mixtures.skill_targeted import (
    Item,
    SkillSettings,
    deficits,
    document_weights,
    failed_by_loss,
    is_difficult,
    skill_weights,
)
from tests.curriculum.making import properties

DOCUMENTS = [{"0"}, {"0", "1"}, {"2"}, {"0", "1", "2"}]


def items():
    """40 items for each of three skills, of which 30, 10 and 2 failed."""
    return [Item(frozenset({str(s)}), i < failed) for s, failed in enumerate((30, 10, 2)) for i in range(40)]


def test_golden_chain_from_failures_to_documents():
    lacking = deficits(items())
    assert lacking == {"0": 0.75, "1": 0.25, "2": 0.05}
    weights = skill_weights(lacking)
    assert list(weights.values()) == pytest.approx([0.7037, 0.2407, 0.0556], abs=5e-5)
    found = document_weights(DOCUMENTS, weights, np.full(4, 0.25))
    np.testing.assert_allclose(found, (0.3898, 0.2862, 0.0999, 0.2241), atol=5e-5)


def test_items_count_for_every_skill_they_need():
    assert deficits([Item(frozenset({"a", "b"}), True), Item(frozenset({"b"}), False)]) == {"a": 1.0, "b": 0.5}


@properties
@given(st.lists(st.sets(st.sampled_from("012"), min_size=1), min_size=1, max_size=20), st.floats(0, 1), st.floats(0, 4))
def test_weights_sum_to_one_and_the_base_keeps_its_part(skills, rho, gamma):
    base = np.arange(1.0, len(skills) + 1)
    settings = SkillSettings(rho=rho, gamma=gamma)
    found = document_weights(skills, skill_weights(deficits(items()), settings), base, settings)
    assert found.sum() == pytest.approx(1)
    assert np.all(found >= rho * base / base.sum() - 1e-12)
    if rho == 1 or gamma == 0:
        np.testing.assert_allclose(found, base / base.sum())


def test_a_document_without_skills_keeps_its_base_share_alone():
    found = document_weights([{"0"}, set()], {"0": 1.0}, np.array([0.5, 0.5]), SkillSettings(rho=0.3))
    np.testing.assert_allclose(found, (0.85, 0.15))


def test_difficult_answers_by_their_rewards():
    assert not is_difficult([0.9, 0.9, 0.95])
    assert is_difficult([0.95, 0.95, 0.85])
    assert is_difficult([0.7, 1.0, 1.0])
    assert is_difficult([0.75, 0.8, 0.9])
    assert not is_difficult([0.71, 1.0, 1.0])


def test_base_models_fail_by_a_quantile_of_loss():
    assert failed_by_loss(np.array([1.0, 2.0, 3.0, 4.0]), 0.5) == [False, False, True, True]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: deficits([]), "names a skill"),
        (lambda: document_weights([{"algebr"}], {"algebra": 1.0}, np.ones(1)), "did you mean 'algebra'"),
        (lambda: document_weights([{"a"}], {"a": 1.0}, np.ones(2)), "as many as documents"),
        (lambda: document_weights([set()], {"a": 1.0}, np.ones(1)), "no document has any"),
        (lambda: failed_by_loss(np.array([1.0, np.nan]), 0.5), "cannot be split"),
        (lambda: is_difficult([]), "without steps"),
    ],
)
def test_what_cannot_be_weighed_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
