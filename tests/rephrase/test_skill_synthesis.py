"""Questions for a missing skill: seeds drawn by key, solutions counted by their final answer, kept where they agree."""

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.documents import check_documents
from corpus.errors import ConfigError, InputError
from rephrase.course import Source
from rephrase.courses import course_of
from rephrase.gates.instruments import Instruments
from rephrase.generator import Generation, Unanswered
from rephrase.skills.final_answers import agreeing, final_answer, normalised
from rephrase.skills.skill_pairs import SkillItem, pair_documents
from rephrase.style import load_style
from tests.rephrase.driving import a_bench, drive


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("So \\boxed{12}.", "12"),
        ("First \\boxed{3}, then \\boxed{\\frac{1}{2}}.", "1/2"),
        ("\\boxed{\\text{Monday}}", "monday"),
        ("It is $\\boxed{x^{2}+\\sqrt{3}}$", "x^{2}+\\sqrt{3}"),
        ("We find 4 apples.\nThe answer is 1,200.", "1200"),
        ("The final answer is: **$7.50**", "15/2"),
        ("The answer to the question is 3/4. Check: 0.75 times 4 is 3.", "3/4"),
        ("#### 42", "42"),
        ("Answer: (B)", "(b)"),
        ("The answer is \\frac{3}{6}.", "1/2"),
        ("The answer is 50\\%", "50%"),
        ("The answer is \u22125", "-5"),
        ("Adding up, 3 + 4 makes 7.", "7"),
        ("It costs 1,000,000 in all", "1000000"),
        ("No number here.", None),
        ("\\boxed{ }", None),
        ("", None),
        ("\\boxed{5", "5"),
    ],
)
def test_final_answers(solution, answer):
    assert final_answer(solution) == answer


@pytest.mark.parametrize(
    "alike",
    [
        ("0.5", "1/2", "\\frac{1}{2}", "\\dfrac{2}{4}", "0.500", " 1 / 2 "),
        ("1,200", "1200", "1200.0", "$1200", "+1200."),
        ("Monday", "monday.", "\\text{Monday}"),
    ],
)
def test_answers_that_are_alike_have_one_spelling(alike):
    assert len({normalised(answer) for answer in alike}) == 1


def test_answers_that_differ_stay_apart():
    answers = ["12", "1.2", "-12", "12%", "1/2", "x", "x^2", "(1,2)", "12 cm", "1/0"]
    assert len({normalised(answer) for answer in answers}) == len(answers)


@given(st.text(alphabet="0123456789.,/$\\{}boxedfracanswer is:%#-\n", max_size=200))
def test_a_normalised_answer_is_its_own_spelling(text):
    answer = final_answer(text)
    assert answer is None or normalised(answer) == answer


def test_the_largest_group_agrees_and_the_first_of_equal_ones():
    ends = ["The answer is 4", "so 5", None, "\\boxed{4}", "nothing"]
    assert agreeing(ends) == [0, 3]
    assert agreeing(["a 5", "a 4", "b 4", "b 5"]) == [0, 3]
    assert agreeing(["none", None]) == []


def items(n, skill="fractions", prefix="p"):
    return [SkillItem(id=f"{prefix}{i}", question=f"What is {prefix} {i} over two?", skill=skill) for i in range(n)]


def test_a_pair_is_a_document_with_seeds_of_its_skill():
    pool = [*items(9), *items(4, "Proportions", "q")]
    failed = [
        SkillItem(id="f1", question="Why?", skill="Fractions "),
        SkillItem(id="f1", question="Why?", skill="proportions"),
        SkillItem(id="f2", question="How?", skill="knots"),
    ]
    batch = pair_documents(failed, pool, licence="CC-BY-4.0")
    check_documents(batch)
    rows = batch.to_pylist()
    metas = [{item["key"]: item["value"] for item in row["meta"]} for row in rows]
    assert [meta["skill"] for meta in metas] == ["Fractions", "proportions", "knots"]
    assert [meta["n_seeds"] for meta in metas] == ["3", "3", "0"]
    assert all(meta["license"] == "CC-BY-4.0" for meta in metas)
    for row, meta in zip(rows[:2], metas, strict=False):
        shown = [one for one in pool if one.id in meta["seed_ids"].split(",")]
        assert len(shown) == 3
        assert all(one.question in row["text"] and one.skill.lower() == meta["skill"].lower() for one in shown)
    assert "Why?" not in "".join(row["text"] for row in rows)  # what measures is never shown
    assert len({row["id"] for row in rows}) == 3


def test_seeds_follow_seed_and_pair_and_not_the_order_of_the_pool():
    pool, failed = items(40), [SkillItem(id=f"f{i}", question=f"Why {i}?", skill="fractions") for i in range(8)]
    first = pair_documents(failed, pool)
    assert pair_documents(failed, pool[::-1]) == first
    assert pair_documents(failed[::-1], pool).to_pylist() == first.to_pylist()[::-1]
    assert len(set(first.column("text").to_pylist())) == 8
    assert pair_documents(failed, pool, seed=1).column("text") != first.column("text")
    five = pair_documents(failed, pool, n_seeds=5).to_pylist()
    assert all(row["text"].count("Example") == 5 for row in five)


def test_the_failed_question_is_never_its_own_seed():
    pool = items(4)
    for failed in pool:
        (row,) = pair_documents([SkillItem(id="x", question=failed.question, skill="fractions")], pool).to_pylist()
        assert failed.question not in row["text"]
        assert {m["key"]: m["value"] for m in row["meta"]}["n_seeds"] == "3"


def test_a_cap_takes_pairs_by_key_and_a_larger_one_adds_to_them():
    pool, failed = items(9), [SkillItem(id=f"f{i}", question=f"Why {i}?", skill="fractions") for i in range(30)]
    taken = [set(pair_documents(failed, pool, max_pairs=n).column("id").to_pylist()) for n in (0, 5, 12, 99)]
    assert [len(ids) for ids in taken] == [0, 5, 12, 30]
    assert taken[1] < taken[2] < taken[3]


def test_broken_items_are_named():
    one = SkillItem(id="f", question="Why?", skill="fractions")
    with pytest.raises(InputError, match="twice"):
        pair_documents([one, SkillItem(id="f", question="Why so?", skill="Fractions")], items(3))
    for broken in ({"question": " "}, {"skill": ""}, {"id": ""}):
        with pytest.raises(ValueError, match=r"blank|at least 1"):
            SkillItem(**{"id": "f", "question": "Why?", "skill": "x", **broken})


def a_pair(n_seeds=3) -> Source:
    failed = [SkillItem(id="f1", question="Why is it so?", skill="adding fractions")]
    row = pair_documents(failed, items(n_seeds, "adding fractions")).to_pylist()[0]
    return Source(row["id"], row["text"], row["lang"], {item["key"]: item["value"] for item in row["meta"]})


class Scripts:
    """Answers by kind of question: `questions` one after the other, `solutions` by the question they solve."""

    def __init__(self, questions, solutions):
        self.questions, self.solutions = iter(questions), {name: iter(answers) for name, answers in solutions.items()}
        self.solved = defaultdict(int)

    def __call__(self, prompt):
        if "Solve the exercise" not in prompt:
            return next(self.questions)
        name = next(name for name in self.solutions if name in prompt)
        self.solved[name] += 1
        return next(self.solutions[name])


PIES = "Ann eats a third of a pie and Bob a quarter of it. How much of the pie is eaten?"
ROPE = "A rope is cut into a half and two fifths. Which share of the rope is left over?"


def worked(answer, how="step by step"):
    return f"We bring both parts to one denominator, {how}, and then we add what we have got. The answer is {answer}"


def run(scripts, scripted, *, source=None, steps=None, **options):
    style = load_style("skill_synthesis")
    style = style.model_copy(update={"steps": {**style.steps, **(steps or {})}})
    generator = scripted(scripts)
    return drive(course_of(style)(source or a_pair(), style, a_bench(generator, **options)), generator)


def final(made):
    (last,) = [attempt for attempt in made.attempts if not attempt.step]
    return last


def test_questions_are_kept_whose_solutions_agree_and_only_those_solutions(scripted):
    scripts = Scripts(
        [f"Question: {PIES}", f"{ROPE}\n\nSolution: a tenth"],
        {
            "Ann eats": [worked("7/12"), worked("2/7", "in haste"), worked("\\frac{7}{12}", "with care")],
            "A rope": [worked("1/10"), worked("9/10", "the other way"), worked("1", "by a guess")],
        },
    )
    made, rounds = run(scripts, scripted)
    assert [len(asks) for asks in rounds] == [2, 6]
    assert all(len(set(asks)) == len(asks) for asks in rounds)
    assert [ask.rollout for ask in rounds[1]] == [0, 1, 2, 0, 1, 2]
    made_text = final(made).verdict.text
    assert made_text == (
        f"Question: {PIES}\n\nSolution: {worked('7/12')}\n\n"
        f"Another solution: {worked(chr(92) + 'frac{7}{12}', 'with care')}"
    )
    assert final(made).verdict.reason is None
    assert final(made).verdict.values["agreed"] == 2
    assert made.meta == {"skill": "adding fractions", "agreed": "2/3"}
    assert [attempt.step for attempt in made.attempts] == ["question"] * 2 + ["solution"] * 6 + [""]
    assert [attempt.verdict.text for attempt in made.attempts[:2]] == [PIES, ROPE]
    assert [attempt.index for attempt in made.attempts if attempt.step == "solution"] == list(range(6))


def test_both_questions_may_be_kept_and_equal_solutions_are_written_once(scripted):
    scripts = Scripts(
        [PIES, ROPE], {"Ann eats": [worked("7/12")] * 3, "A rope": [worked("1/10"), "none", worked("0.1")]}
    )
    made, _ = run(scripts, scripted)
    assert made.meta["agreed"] == "3/3,2/3"
    assert final(made).verdict.text.count("Question:") == 2
    assert final(made).verdict.text.count(worked("7/12")) == 1


@pytest.mark.parametrize(("agree", "kept"), [(1, True), (2, True), (3, False)])
def test_as_many_must_agree_as_the_style_says(agree, kept, scripted):
    solutions = [worked("7/12"), worked("7/12", "again"), worked("3")]
    made, _ = run(Scripts([PIES], {"Ann eats": solutions}), scripted, steps={"agree": agree, "n_new": 1})
    assert (final(made).verdict.reason, bool(final(made).verdict.text)) == (
        (None, True) if kept else ("agreement", False)
    )
    assert final(made).verdict.values["agreed"] == 2


def test_a_solution_that_fails_a_gate_does_not_vote(scripted):
    bad = [
        worked("7/12"),
        "I'm sorry, I cannot solve this exercise. The answer is 7/12",
        worked("7/12") + " ask me at a@b.org",
    ]
    made, _ = run(Scripts([PIES], {"Ann eats": bad}), scripted, steps={"n_new": 1})
    assert [attempt.verdict.reason for attempt in made.attempts[1:4]] == [None, "refusal", "contacts"]
    assert final(made).verdict.reason == "agreement"
    cut = [worked("7/12"), Generation(worked("7/12", "b"), "length", 9, 9), worked("7/12", "c")]
    made, _ = run(Scripts([PIES], {"Ann eats": cut}), scripted, steps={"n_new": 1})
    assert made.meta["agreed"] == "2/3"


LONG = "A rope of forty metres is cut into a half and two fifths. Which share of the rope is left over after that?"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("Solve now: why is this so, my dear?", None),
        (LONG, "parse"),
        (f"Question: {LONG.upper()}", "parse"),
        ("Is it so?", "tokens"),
    ],
)
def test_a_new_question_is_a_question_and_not_one_of_the_seeds(answer, reason, scripted):
    failed = [SkillItem(id="f1", question="Why?", skill="shares")]
    row = pair_documents(failed, [SkillItem(id="p", question=LONG, skill="shares")]).to_pylist()[0]
    source = Source(row["id"], row["text"], "en", {item["key"]: item["value"] for item in row["meta"]})
    scripts = Scripts([answer] * 2, {"Solve now": [worked("1")]})
    style = load_style("skill_synthesis")
    gates = style.gates.model_copy(update={"copy_8": None})  # so that the exact comparison is what decides
    style = style.model_copy(
        update={"steps": {**style.steps, "n_new": 1, "n_solutions": 1, "agree": 1}, "gates": gates}
    )
    made, rounds = drive(course_of(style)(source, style, a_bench(generator := scripted(scripts))), generator)
    tries = [attempt for attempt in made.attempts if attempt.step == "question"]
    assert [attempt.verdict.reason for attempt in tries] == [reason] * (2 if reason == "parse" else 1)
    assert len({(asks[0].request, asks[0].rollout) for asks in rounds}) == len(rounds)
    assert final(made).verdict.reason == reason


def test_one_question_drawn_twice_is_solved_once(scripted):
    made, rounds = run(Scripts([PIES, f"Question: {PIES}"], {"Ann eats": [worked("7/12")] * 3}), scripted)
    assert [len(asks) for asks in rounds] == [2, 3]
    assert made.meta["agreed"] == "3/3"


def test_a_pair_without_seeds_is_dropped_before_anything_is_asked(scripted):
    made, rounds = run(Scripts([], {}), scripted, source=a_pair(0))
    assert (rounds, made.attempts) == ([], ())
    assert [drop.reason for drop in made.drops] == ["no_seed_question"]


@pytest.mark.parametrize("step", ["question", "solution"])
def test_without_an_answer_the_pair_waits_for_the_next_run(step, scripted):
    lost = Unanswered("server_error")
    questions = [PIES, lost if step == "question" else ROPE]
    solutions = {"Ann eats": [worked("7/12")] * 3, "A rope": [worked("1/10"), lost, worked("1/10")]}
    made, _ = run(Scripts(questions, solutions), scripted)
    assert (final(made).answer, final(made).verdict.reason, final(made).verdict.text) == (lost, "server_error", "")


def test_poison_is_a_failed_draw(scripted):
    poison = Unanswered("poison")
    solutions = {"Ann eats": [worked("7/12"), poison, worked("7/12", "b")]}
    made, _ = run(Scripts([PIES, poison], solutions), scripted)
    assert (final(made).verdict.reason, made.meta["agreed"]) == (None, "2/3")
    made, _ = run(Scripts([poison, poison], {}), scripted)
    assert final(made).verdict.reason == "poison"


def test_the_whole_is_measured_against_evaluation_items(scripted):
    known = Instruments(contamination=lambda text: 0.8 if "Question:" in text and "Solution:" in text else 0.0)
    made, _ = run(
        Scripts([PIES, ROPE], {"Ann": [worked("7/12")] * 3, "A rope": [worked("1")] * 3}), scripted, instruments=known
    )
    assert final(made).verdict.reason == "contamination"


def test_settings_that_cannot_hold_are_errors():
    style = load_style("skill_synthesis")
    for steps, message in (
        ({"agree": 4}, "no question could be kept"),
        ({"n_seeds": 1}, "n_seeds"),
        ({"n_new": 0}, "n_new"),
    ):
        with pytest.raises(ConfigError, match=message):
            course_of(style.model_copy(update={"steps": {**style.steps, **steps}}))
