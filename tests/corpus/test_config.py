"""Quantities, closed models, overrides, and messages that help."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from corpus.config import Config, Count, Share, apply_overrides, load_yaml, parse_count, parse_share, validated
from corpus.errors import ConfigError


class Inner(Config):
    tokens: Count = 10
    share: Share = 0.5


class Outer(Config):
    inner: Inner = Inner()
    items: tuple[Inner, ...] = ()
    named: dict[str, Inner] = Field(default={})


@pytest.mark.parametrize(
    ("text", "count"),
    [("30B", 30 * 10**9), ("64K", 64_000), ("1.5M", 1_500_000), (" 2m ", 2_000_000), ("1_000", 1000), (7, 7)],
)
def test_counts(text, count):
    assert parse_count(text) == count


@given(st.integers(0, 10**15))
def test_whole_numbers_are_their_own_count(number):
    assert validated(Inner, {"tokens": str(number)}, "here").tokens == number


@pytest.mark.parametrize("text", ["many", "1.5", "-3", "3 KB", ""])
def test_what_is_not_a_count_is_refused(text):
    with pytest.raises(ConfigError, match="tokens"):
        validated(Inner, {"tokens": text}, "here")


def test_shares():
    assert parse_share("15%") == pytest.approx(0.15)
    assert parse_share("0.25") == 0.25
    assert parse_share("1.1%") == 0.011  # and not 1.1 / 100, which is 0.011000000000000001
    with pytest.raises(ConfigError, match="15% if you mean per cent"):
        validated(Inner, {"share": 15}, "here")


def test_unknown_keys_name_the_nearest_at_any_depth():
    for data, path in [
        ({"iner": {}}, "'iner'; did you mean 'inner'"),
        ({"inner": {"token": 1}}, "'inner.token'; did you mean 'tokens'"),
        ({"items": [{"shar": 1}]}, "'items.0.shar'; did you mean 'share'"),
        ({"named": {"a": {"tokns": 1}}}, "'named.a.tokns'; did you mean 'tokens'"),
    ]:
        with pytest.raises(ConfigError, match=path):
            validated(Outer, data, "here")


def test_every_problem_is_reported_at_once():
    with pytest.raises(ConfigError) as caught:
        validated(Outer, {"inner": {"tokens": "x", "share": 3}, "other": 1}, "recipe.yaml")
    assert "3 settings" in str(caught.value)
    assert "recipe.yaml" in str(caught.value)


def test_models_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Inner().tokens = 3


def test_overrides():
    data = {"a": {"b": 1}, "list": [{"x": 1}, {"x": 2}]}
    assert apply_overrides(data, ["a.b=30B", "list.1.x=[1, 2]", "new.key=true"]) == {
        "a": {"b": "30B"},
        "list": [{"x": 1}, {"x": [1, 2]}],
        "new": {"key": True},
    }
    assert data == {"a": {"b": 1}, "list": [{"x": 1}, {"x": 2}]}
    for bad in ("no equals", "=3", "a..b=1", "a.b.c=1", "a=[1"):
        with pytest.raises(ConfigError, match="--set"):
            apply_overrides(data, [bad])


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2\n", "a: [1\n", "- 1\n", "!!python/object/apply:os.system ['true']", "\x00"]
)
def test_bad_yaml_is_refused_and_runs_nothing(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        load_yaml(path)


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(ConfigError, match="there is no file"):
        load_yaml(tmp_path / "none.yaml")
