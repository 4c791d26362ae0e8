"""Answers come in the order of the questions, groups do not shift on a resume, and nothing is asked twice."""

import pytest

from corpus.errors import ConfigError
from rephrase.answering import answers
from rephrase.cache import GenerationCache
from rephrase.generator import GenerationRequest, Message


def questions(n):
    return {f"k{i}": GenerationRequest((Message("user", f"question {i}"),), 5) for i in range(n)}


def asked(folder, generator, n, **options):
    cache = GenerationCache(folder, generator=generator.identity, request_hash="r")
    return answers(questions(n), generator, cache, **{"seed": 3, "batch_size": 4, **options})


def test_answers_are_those_of_the_questions_and_are_asked_once(tmp_path, scripted):
    first, second = scripted(), scripted()
    given = asked(tmp_path, first, 10)
    assert [given[f"k{i}"].text for i in range(10)] == [f"question {i}" for i in range(10)]
    assert [len(texts) for _, texts in first.batches] == [4, 4, 2]
    assert asked(tmp_path, second, 10) == given
    assert second.batches == []


@pytest.mark.parametrize("stop", [0, 1, 2])
def test_a_resume_asks_for_the_missing_groups_with_their_seeds(tmp_path, scripted, stop):
    whole, cut, rest = scripted(), scripted(fails_after=stop), scripted()
    asked(tmp_path / "whole", whole, 10)
    with pytest.raises(KeyboardInterrupt):
        asked(tmp_path / "cut", cut, 10)
    asked(tmp_path / "cut", rest, 10)
    assert cut.batches + rest.batches == whole.batches


def test_progress_counts_what_was_stored_and_a_group_of_none_is_refused(tmp_path, scripted):
    seen = []
    asked(tmp_path, scripted(), 4)
    asked(tmp_path, scripted(), 6, progress=lambda state: seen.append((state.done, state.total, state.from_cache)))
    assert seen == [(4, 6, 4), (6, 6, 4)]
    with pytest.raises(ConfigError, match="batch_size"):
        asked(tmp_path, scripted(), 1, batch_size=0)
