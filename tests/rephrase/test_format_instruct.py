"""Targets are recognised by simple rules; an instruction comes before its target and does not give it away."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rephrase.course import Source
from rephrase.courses import course_of
from rephrase.generator import Generation, Unanswered
from rephrase.style import load_style
from rephrase.targets import Target, target_of
from tests.rephrase.driving import a_bench, drive

TABLE = (
    "| ship | year | built at |\n|---|:---:|---|\n| Argo | 1901 | Leith |\n| Dee | 1912 | Hull |\n| Eel | 1920 | Cork |"
)
HTML = "<table class='a'><tr><th>ship<th>year</tr><tr><td>Argo<td>1901<br></tr></table>"
LATEX = "\\begin{table}\\begin{tabular}{ll}Argo & 1901 \\\\ Dee & 1912\\end{tabular}\\end{table}"
LIST = "Ships of the line\n- Argo, a barque\n- Dee, a brig\n* Eel, a ketch\n"


@pytest.mark.parametrize(
    ("text", "kind", "parses"),
    [
        (TABLE, "table", True),
        ("ship | year\nArgo | 1901\nDee | 1912", "table", True),
        (TABLE + "\n| Fay | 1930 |", "table", False),
        ("| a | b |\n|---|---|", "table", False),
        ("| a \\| x | b |\n| c | d |", "table", True),
        (HTML, "html", True),
        ("<ul><li>Argo<li>Dee</ul>", "html", True),
        ("<div><p>Argo<br/><img src='x'></p></div>", "html", True),
        (HTML.replace("</table>", ""), "html", False),
        ("<ul><li>Argo</ul></div>", "html", False),
        ("<div><table></div></table>", "html", False),
        (LATEX, "latex", True),
        (LATEX.replace("\\end{table}", ""), "latex", False),
        ("\\begin{a}\\begin{b}\\end{a}\\end{b}", "latex", False),
        ("\\end{a}", "latex", False),
        (LIST, "list", True),
        ("1. Take flour\n2. Add water\n3) Bake", "list", True),
        ("a) yes\nb) no\nc) perhaps", "list", True),
    ],
)
def test_kinds_and_whether_they_parse(text, kind, parses):
    assert target_of(text) == Target(kind, parses)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A page of prose about ships. It has a dash - and a bar | in it.",
        "One line | with a bar.\nThree lines of prose.\nAnd one more.\nAnd the last.",
        "- one\n- two",
        "Prose.\nProse.\nProse.\nProse.\n- one\n- two\n- three",
        "a < b and b > c, <b>bold</b>",
    ],
)
def test_prose_is_no_target(text):
    assert target_of(text) is None


@given(
    st.text(max_size=300)
    | st.lists(
        st.sampled_from(["<td>", "</td>", "<p ", "|", "- a\n", "\\begin{a}", "\\end{a}", "\n", "<![", "x"]), max_size=60
    ).map("".join)
)
def test_any_text_has_a_kind_or_none(text):
    found = target_of(text)
    assert found is None or found.kind in ("html", "latex", "table", "list")


GOOD = (
    "Write a Markdown table that lists vessels, one in each row, under three headings: a name, the year of launch and "
    "the port of origin. Put a rule below the headings and centre the middle column."
)


def run(text, rule, scripted, **options):
    style = load_style("format_instruct")
    generator = scripted(rule)
    return drive(course_of(style)(Source("d", text, "en"), style, a_bench(generator, **options)), generator)


def test_the_instruction_comes_before_its_target(scripted):
    made, rounds = run(f"{TABLE}\n", lambda _: GOOD, scripted)
    assert [len(asks) for asks in rounds] == [1]
    assert TABLE in rounds[0][0].request.messages[-1].content
    asked, final = made.attempts
    assert (asked.step, asked.verdict.reason, asked.verdict.text) == ("instruction", None, GOOD)
    assert (final.step, final.verdict.reason, final.verdict.text) == ("", None, f"{GOOD}\n\n{TABLE}")
    assert (final.chunk.start, final.chunk.end) == (0, len(TABLE) + 1)
    assert made.meta == {"target_kind": "table"}
    assert asked.verdict.values["revealed"] == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "A page of prose about ships and the sea, with more than enough of words in it to be sent.",
            "not_structured",
        ),
        (TABLE + "\n| Fay | 1930 |", "target_does_not_parse"),
        ("- a\n- b\n- c", "short_document"),
        (" \n ", "blank"),
        ("\n".join(f"- item number {i} of a long list" for i in range(400)), "long_document"),
    ],
)
def test_what_is_no_target_is_dropped_before_anything_is_asked(text, reason, scripted):
    made, rounds = run(text, lambda _: GOOD, scripted)
    assert rounds == []
    assert made.attempts == ()
    assert [(drop.start, drop.end, drop.reason) for drop in made.drops] == [(0, len(text), reason)]


NUMBERS = "\n".join(f"{i}. step {i} is to turn the wheel of the {name} by hand" for i, name in enumerate("abcdefghij"))


def test_an_instruction_that_gives_the_target_away_is_rejected(scripted):
    lines = NUMBERS.splitlines()

    def telling(n):
        told = "Write a numbered list of ten steps in plain words, each on its own line and no longer than that. "
        return lambda _: told + " ".join(lines[:n])

    def outcome(n):
        final = run(NUMBERS, telling(n), scripted)[0].attempts[-1]
        return final.verdict.values["revealed"], final.verdict.reason, bool(final.verdict.text)

    assert outcome(0) == (0, None, True)
    told, reason, has_text = outcome(2)
    assert 0 < told < 0.2
    assert (reason, has_text) == (None, True)
    told, reason, has_text = outcome(4)
    assert told >= 0.2
    assert (reason, has_text) == ("revealed", False)


def test_an_answer_that_was_cut_is_asked_for_again_with_more_room(scripted):
    answers = iter([Generation(GOOD[:40], "length", 5, 9), Generation(GOOD, "stop", 5, 40)])
    made, rounds = run(TABLE, lambda _: next(answers), scripted)
    short, long = (asks[0].request.max_tokens for asks in rounds)
    assert long == -(-short * 3 // 2)
    assert [attempt.verdict.reason for attempt in made.attempts] == ["finished", None, None]
    assert [attempt.number for attempt in made.attempts] == [0, 1, 0]
    assert {asks[0].rollout for asks in rounds} == {0, 1}


def test_without_an_answer_there_is_no_text(scripted):
    lost = Unanswered("timeout")
    made, _ = run(TABLE, lambda _: lost, scripted)
    assert [(attempt.answer, attempt.verdict.reason) for attempt in made.attempts] == [(lost, "timeout")] * 2


def test_another_rollout_is_another_question(scripted):
    rollouts = [run(TABLE, lambda _: GOOD, scripted, rollout=n)[1][0][0].rollout for n in range(3)]
    assert len(set(rollouts)) == 3
