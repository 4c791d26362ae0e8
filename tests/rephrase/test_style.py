"""Style files are closed: what they do not understand is an error that names the nearest thing they do."""

import pytest

from corpus.errors import ConfigError
from rephrase.style import bundled_styles, load_style, parse_style

GOOD = """---
name: plain
version: 1
about: a test
system: Rewrite the passage.
gates: {copy_8: {high: 0.5}, recall: null}
---
Text: {document}
"""


def test_every_bundled_style_loads_and_is_named_after_its_file():
    assert {"easy", "hard", "medium", "qa"} <= set(bundled_styles())
    for name in bundled_styles():
        assert load_style(name).name == name


def test_a_style_puts_the_text_at_its_marker():
    style = parse_style(GOOD, where="test")
    assert [m.content for m in style.messages("a {document} b")] == [
        "Rewrite the passage.",
        "Text: <passage>\na {document} b\n</passage>",
    ]
    assert style.gates.copy_8.high == 0.5
    assert style.gates.recall is None
    assert style.gates.loops.high == 0.2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Text: {document}", "Text: {documnet}", "unknown marker {documnet}.*did you mean 'document'"),
        ("Text: {document}", "Text:", "has 0 document markers"),
        ("Text: {document}", "{document} {document}", "has 2 document markers"),
        (
            "system: Rewrite the passage.",
            "system: 'Rewrite the passage {document}'",
            "system text .* has 1 document markers",
        ),
        ("Rewrite the passage.", "Rewrite the text.", "does not say what the text it sends is"),
        ("version: 1", "version: 1\nparser: sections", "parser 'sections' and section ''"),
        ("version: 1", "version: 1\nsection: rewrite", "parser 'text' and section 'rewrite'"),
        ("version: 1", "version: 1\nchoose_pairs: true", "chooses pairs but its parser is 'text'"),
        ("version: 1", "version: 1\nparser: pair", "parser"),
        ("version: 1", "version: 1\nlimits: {max_in: 100}", "max_in"),
        ("version: 1", "version: 1\ntemplate: a", "body of the file"),
        ("copy_8", "copy8", "did you mean 'copy_8'"),
        ("about:", "abuot:", "did you mean 'about'"),
        ("{high: 0.5}", "{}", "needs low, high, or both"),
        ("---\nname", "name", "no front matter"),
        ("version: 1", "version: [", "not valid YAML"),
    ],
)
def test_a_wrong_style_file_is_an_error_that_says_where(old, new, message):
    with pytest.raises(ConfigError, match=message) as error:
        parse_style(GOOD.replace(old, new), where="styles/plain.md")
    assert error.value.where == "styles/plain.md"


def test_an_unknown_style_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'medium'"):
        load_style("mediun")
    with pytest.raises(ConfigError, match="no style file"):
        load_style("nowhere/x.md")


def test_a_style_of_ones_own_is_one_file(tmp_path):
    path = tmp_path / "plain.md"
    path.write_text(GOOD, encoding="utf-8")
    assert load_style(str(path)) == parse_style(GOOD, where=str(path))
    path.write_text(GOOD.replace("{document}", ""), encoding="utf-8")
    with pytest.raises(ConfigError, match="has 0 document markers") as error:
        load_style(str(path))
    assert error.value.where == str(path)


def test_an_output_is_as_long_as_its_source_allows_and_no_longer():
    style = parse_style(GOOD.replace("version: 1", "version: 1\nlimits: {max_out: 100, max_ratio: 1.5}"), where="")
    assert [style.request("a", n).max_tokens for n in (21, 60, 67, 500)] == [32, 90, 100, 100]


def test_the_request_hash_follows_wording_and_decoding_but_not_thresholds():
    base = parse_style(GOOD, where="").request_hash()
    assert parse_style(GOOD.replace("high: 0.5", "high: 0.4"), where="").request_hash() == base
    for old, new in (
        ("Rewrite the passage.", "Rewrite the passage!"),
        ("Text:", "Text"),
        ("version: 1", "version: 1\ndecoding: {temperature: 0.1}"),
    ):
        assert parse_style(GOOD.replace(old, new), where="").request_hash() != base
