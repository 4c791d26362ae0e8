"""Parsers read what models really write, add nothing, and read their own writing back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rephrase.parsers.bullets import read_bullets, write_bullets
from rephrase.parsers.forms import Form, read_form
from rephrase.parsers.pairs import choose_pairs, finished_text, pairs_cap, read_pairs, write_pairs
from rephrase.parsers.sections import read_section
from rephrase.parsers.steps import read_steps, write_steps
from rephrase.parsers.table import read_table, write_table
from rephrase.style import Style

WHO = [("Who built it?", "Ann did."), ("Where is it?", "In Porto.")]


def style(parser, **fields) -> Style:
    base = {"name": "test", "version": 1, "about": "a test", "system": "", "template": "The passage: {document}"}
    return Style.model_validate(base | {"parser": parser} | fields)


@pytest.mark.parametrize(
    "text",
    [
        "Question: Who built it?\nAnswer: Ann did.\n\nQuestion: Where is it?\nAnswer: In Porto.",
        "Q: Who built it?\nA: Ann did.\nQ: Where is it?\nA: In Porto.",
        "**Question 1:** Who built it?\n**Answer:** Ann did.\n\n**Question 2:** Where is it?\n**Answer:** In Porto.",
        "- Question: Who built it? Answer: Ann did.\n- Question: Where is it? Answer: In Porto.",
        "1. **Q1:** Who built it?\n   A1: Ann did.\n2. **Q2:** Where is it?\n   A2: In Porto.",
        "* **Q.** Who built it?\n  **A.** Ann did.\n* **Q.** Where is it?\n  **A.** In Porto.",
        "# Frequently asked questions\n\n## Who built it?\n\nAnn did.\n\n## Where is it?\n\nIn Porto.",
        "FAQ\n\n**Who built it?**\nAnn did.\n\n**Where is it?**\nIn Porto.",
        "1. Who built it?\nAnn did.\n2. Where is it?\nIn Porto.",
        "Who built it?\nAnn did.\n\nWhere is it?\nA: In Porto.",
        "Frage: Who built it?\nAntwort: Ann did.\nFrage: Where is it?\nAntwort: In Porto.",
        "### Question 1\nWho built it?\n### Answer\nAnn did.\n".replace("Question 1\n", "Question 1: ").replace(
            "Answer\n", "Answer: "
        )
        + "### Question 2: Where is it?\n### Answer: In Porto.",
        "问题：Who built it?\n答案：Ann did.\n问题：Where is it?\n答案：In Porto.",
    ],
)
def test_pairs_are_read_in_every_dress(text):
    assert read_pairs(text) == WHO


def test_a_question_without_an_answer_is_no_pair():
    assert read_pairs("Q: Who?\nQ: Where is it?\nA: In Porto.\nQ: Why?") == [("Where is it?", "In Porto.")]
    assert read_pairs("Q:\nA: In Porto.\nQ: Why?\nA:") == []


@pytest.mark.parametrize(
    "text", ["", "It opened in 1892.\nQuestion: Who?\nAnswer: Ann.", "Answer: Ann.\nQuestion: Who?"]
)
def test_what_does_not_open_with_a_question_holds_no_pairs(text):
    assert read_pairs(text) == []


def test_answers_keep_their_lines_and_questions_inside_them():
    text = "## Who built it?\nAnn did:\n- the walls\n\n- the pier\nWhy not Bo?\n## Where?\nIn Porto."
    assert read_pairs(text)[0] == ("Who built it?", "Ann did:\n- the walls\n- the pier\nWhy not Bo?")


line = (
    st.text(st.sampled_from("abc 12,.\u4e2d"), min_size=1, max_size=20).map(lambda s: " ".join(s.split())).filter(bool)
)


@given(st.lists(st.tuples(line.map(lambda s: s + "?"), line), max_size=6))
def test_written_pairs_are_read_back(pairs):
    read = read_pairs(write_pairs(pairs))
    assert read_pairs(write_pairs(read)) == read
    if all(part.strip("12,. ") == part and part[0] not in "12" for pair in pairs for part in pair):
        assert len(read) == len(pairs)


def test_the_cap_on_pairs_is_that_of_nemotron():
    assert [pairs_cap(n) for n in (0, 14, 15, 29, 30, 150, 1000)] == [1, 1, 1, 1, 2, 10, 66]


def test_pairs_are_chosen_by_key_and_by_nothing_else():
    pairs = [(f"{n}?", f"{n}.") for n in range(40)]
    chosen = choose_pairs(pairs, 1000, "document/0")
    assert chosen == choose_pairs(list(pairs), 1000, "document/0")
    assert set(chosen) <= set(pairs)
    assert len(set(chosen)) == len(chosen)
    assert choose_pairs([], 1000, "document/0") == []
    golden = [pair[1] for pair in choose_pairs(pairs[:6], 90, "document/4")]
    assert golden == ["2.", "5.", "3.", "0.", "1."]


@pytest.mark.parametrize("n_tokens", [15, 150, 1000])
def test_the_number_kept_is_uniform_up_to_the_cap(n_tokens):
    pairs = [(f"{n}?", f"{n}.") for n in range(80)]
    cap, draws = pairs_cap(n_tokens), 4000
    kept = [len(choose_pairs(pairs, n_tokens, f"document-{n}")) for n in range(draws)]
    assert set(kept) == set(range(1, cap + 1))
    assert abs(sum(kept) / draws - (1 + cap) / 2) < 4 * (cap**2 / 12 / draws) ** 0.5 + 1e-9
    firsts = [choose_pairs(pairs[:4], n_tokens, f"document-{n}")[0] for n in range(draws)]
    assert all(abs(firsts.count(pair) / draws - 0.25) < 0.03 for pair in pairs[:4])


def test_finished_text_chooses_pairs_only_where_the_style_says_so():
    text = write_pairs([(f"{n}?", f"{n}.") for n in range(40)])
    assert finished_text(style("pairs"), text, 30, "d/0") == text
    assert len(read_pairs(finished_text(style("pairs", choose_pairs=True), text, 30, "d/0"))) <= 2
    assert finished_text(style("text"), "As it is.", 30, "d/0") == "As it is."


@pytest.mark.parametrize(
    "text",
    [
        "- It opened in 1892.\n- Two walls\n  guard it.",
        "Key facts:\n\n* **It opened** in 1892.\n\n* Two walls guard it.\n\nThat is all.",
        "1. It opened in 1892.\n2) Two walls guard it.",
        "\u2022 It opened in 1892.\n  \u2022 Two walls guard it.",
    ],
)
def test_bullets_are_read_in_every_dress(text):
    points = ["It opened in 1892.", "Two walls guard it."]
    assert read_bullets(text) == points
    assert read_bullets(write_bullets(points)) == points


def test_prose_holds_no_bullets():
    assert read_bullets("It opened - finally - in 1892.\n-5 degrees.") == []


TABLE = "The walls of the harbour.\n\n| wall | metres |\n| --- | --- |\n| north | 120 |\n| a\\|b | 80 |"


@pytest.mark.parametrize(
    "text",
    [
        TABLE,
        "The walls of the harbour.\n\nwall|metres\n:--|--:\nnorth|120\na\\|b|80",
        "The walls of the harbour.\n| **wall** | metres |\n|---|---|\n| north | 120 |\n| a\\|b | 80 |\n",
        "The walls of the harbour.\nwall\tmetres\nnorth\t120\na|b\t80",
    ],
)
def test_tables_are_read_in_every_dress(text):
    table = read_table(text)
    assert (table.header, table.rows) == (("wall", "metres"), (("north", "120"), ("a|b", "80")))
    assert write_table(table) == TABLE
    assert read_table(write_table(table)) == table


@pytest.mark.parametrize(
    "text",
    [
        "No table.",
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "| a | b |\n|---|---|\n| 1 | 2 |\n| 1 | 2 | 3 |",
        "| a |\n|---|\n| 1 |\n| 2 |",
    ],
    ids=["prose", "one row", "unequal rows", "one column"],
)
def test_what_is_no_table_is_none(text):
    assert read_table(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "How to moor\n\n1. Slow down.\n2. Throw the rope.\n   1. Aim.\n   2. Throw.",
        "# How to moor\n\nStep 1: Slow down.\n\nStep 2: Throw the rope.\n   1. Aim.\n   2. Throw.",
        "**How to moor**\n\n**Step 1:** Slow down.\n**Step 2:** Throw the rope.\n   1. Aim.\n   2. Throw.",
    ],
)
def test_steps_are_read_in_every_dress(text):
    title, steps = read_steps(text)
    assert title == "How to moor"
    assert steps == ["Slow down.", "Throw the rope.\n   1. Aim.\n   2. Throw."]
    assert read_steps(write_steps(title, steps)) == (title, steps)


def test_numbers_that_do_not_count_from_one_are_no_steps():
    assert read_steps("In 1892.\n1892. A year.\n3. Third.") == ("In 1892.\n1892. A year.\n3. Third.", [])


@pytest.mark.parametrize(
    "text",
    [
        "<diagnosis>\nPoor.\n</diagnosis>\n<rewrite>\nGood text.\n</rewrite>",
        "<diagnosis>Poor.</diagnosis><rewrite>Good text.</rewrite> Done!",
        "<rewrite>draft</rewrite>\n<REWRITE>\nGood text.",
        "## Diagnosis\nPoor.\n\n## Rewrite\n\nGood text.",
        "**Diagnosis:** Poor.\n\n**Rewrite:** Good text.",
        "Diagnosis: Poor.\nRewrite: Good text.",
    ],
)
def test_the_section_asked_for_is_kept(text):
    assert read_section(text, "rewrite") == "Good text."


@pytest.mark.parametrize("text", ["", "Good text.", "<rewrite>\n</rewrite>", "<rewrite>\n<plan>\nA plan.\n</plan>"])
def test_a_missing_section_is_empty(text):
    assert read_section(text, "rewrite") == ""


@pytest.mark.parametrize(
    ("parser", "text", "form"),
    [
        ("text", "Text.", Form(1, "Text.")),
        ("text", "", Form(0, "")),
        ("pairs", "Q: a?\nA: b", Form(1, "Question: a?\nAnswer: b")),
        ("pairs", "Text.", Form(0, "")),
        ("bullets", "* a\n* b", Form(2, "- a\n- b")),
        ("table", "a|b\nc|d\ne|f", Form(2, "| a | b |\n| --- | --- |\n| c | d |\n| e | f |")),
        ("table", "Text.", Form(0, "")),
        ("steps", "Step 1: a\nStep 2: b", Form(2, "1. a\n2. b")),
        ("steps", "Text.", Form(0, "")),
        ("sections", "<r>\nSure! Here is the rewritten text:\n**Text.**\n</r>", Form(1, "Text.")),
        ("sections", "Text.", Form(0, "")),
    ],
)
def test_each_parser_has_its_form(parser, text, form):
    assert read_form(style(parser, section="r" if parser == "sections" else ""), text) == form


@given(st.text(st.sampled_from("Q:A?1.2-*|<r>/# \nab\t"), max_size=60), st.sampled_from(["bullets", "table", "steps"]))
def test_a_form_read_again_is_the_same_form(text, parser):
    form = read_form(style(parser), text)
    if form.n_parts:
        assert read_form(style(parser), form.text).n_parts == form.n_parts
