"""Each gate has an output that it alone rejects, and a near miss that passes all of them."""

import pytest

from rephrase.gates.judging import Limit, Limits, Task, judge, pairs
from rephrase.generator import Generation

SOURCE = (
    "The harbour at Porto opened in 1892 after nine years of work. Engineers built two long walls of granite "
    "against the Atlantic swell. Ships of up to 40 metres could moor there in winter storms. Fishing families moved "
    "from nearby villages, and a small market grew beside the northern wall. Today the place is a museum."
)
GOOD = (
    "After nine years of work, a harbour was opened at Porto in 1892. Two granite walls, both long, were built by "
    "engineers to hold back swell from the Atlantic. In winter storms, ships no longer than 40 metres found moorings "
    "inside. A small market grew near the northern wall once fishing families came from villages close by, and the "
    "place is now a museum."
)
LIMITS = Limits.model_validate({"tokens": {"low": 20}})


def words(text: str) -> int:
    return len(text.split())


def verdict(text, *, source=SOURCE, finish="stop", limits=LIMITS, instruction="", lead_in="", parser="text"):
    return judge(Generation(text, finish, 100, words(text)), Task(source, instruction, lead_in, parser, words), limits)


def failing(text, **options):
    """All gates whose limit a text breaks, not only the first."""
    limits, found = options.get("limits", LIMITS), verdict(text, **options)
    return [
        gate
        for gate, value in found.values.items()
        if getattr(limits, gate) and not getattr(limits, gate).accepts(value)
    ]


INSTRUCTION = "Rewrite the passage in plain words and keep every fact that it states"
CASES = {
    "finished": ({"text": GOOD, "finish": "length"}, {"text": GOOD}),
    "text": ({"text": GOOD + " \ufffd"}, {"text": GOOD + "\n\tIt is \u00e9t\u00e9.", "finish": "stop"}),
    "refusal": ({"text": "I'm sorry. " + GOOD}, {"text": GOOD + " Visitors are sorry when it closes."}),
    "lead_in": (
        {"text": "Sure! Here is the text: " + GOOD.replace("After", "Here is the rest: After")},
        {"text": "Here is the rewritten text:\n\n" + GOOD},
    ),
    "leak": (
        {"text": GOOD + " Rewrite the passage in plain words.", "instruction": INSTRUCTION},
        {"text": GOOD + " It is told in plain words.", "instruction": INSTRUCTION},
    ),
    "parse": (
        {"text": GOOD, "parser": "pairs"},
        {"text": f"Question: What opened at Porto in 1892?\nAnswer: {GOOD}", "parser": "pairs"},
    ),
    "residue": ({"text": "## Harbour\n" + GOOD}, {"text": "```\n" + GOOD + "\n```"}),
    "length": ({"text": GOOD + " " + " ".join(GOOD.split()[::-1])[:230]}, {"text": GOOD + " " + GOOD[::-1][:40]}),
    "tokens": (
        {"text": GOOD, "limits": Limits.model_validate({"tokens": {"low": 65}})},
        {"text": GOOD, "limits": Limits.model_validate({"tokens": {"low": 60}})},
    ),
    "loops": (
        {"text": GOOD.split(" In winter")[0] + " The walls were of granite." * 6 + " It held 40 ships."},
        {"text": GOOD.split(" In winter")[0] + " The walls were of granite." * 2 + " In winter 40 ships came to rest."},
    ),
    "copy_8": ({"text": SOURCE}, {"text": ". ".join(SOURCE.split(". ")[:2]) + ". " + GOOD.split(". ", 2)[2]}),
    "drift": (
        {
            "text": "Nobody expected rain that day while grandmother quietly baked her delicious apple cake, yet 1892 "
            "raindrops fell and 40 neighbours came running indoors laughing loudly together at Porto Atlantic"
        },
        {
            "text": "Nobody expected rain while granite walls and a harbour with engineers built ships, yet 1892 "
            "villages fell and 40 fishing families came running indoors to the market together at Porto Atlantic"
        },
    ),
    "facts": (
        {"text": GOOD.replace("nine years", "19 years").replace("museum", "museum of 77 rooms")},
        {"text": GOOD.replace("nine years", "nine full years")},
    ),
    "recall": (
        {"text": GOOD.replace(" at Porto in 1892", "").replace(" no longer than 40 metres", "")},
        {"text": GOOD.replace(" no longer than 40 metres", "")},
    ),
    "contacts": ({"text": GOOD + " See https://x.example/a."}, {"text": GOOD + " See x, or ask at 40."}),
}


def test_the_good_text_passes_and_every_gate_has_its_cases():
    assert failing(GOOD) == []
    assert list(CASES) == list(Limits.model_fields)


@pytest.mark.parametrize("gate", CASES)
def test_a_gate_rejects_its_own_fault_alone(gate):
    assert failing(**CASES[gate][0]) == [gate]
    assert verdict(**CASES[gate][0]).reason == gate


@pytest.mark.parametrize("gate", CASES)
def test_a_near_miss_passes(gate):
    assert failing(**CASES[gate][1]) == []


def test_the_first_failing_gate_is_the_reason():
    assert verdict("I'm sorry.", finish="length").reason == "finished"
    assert verdict("").reason == "text"


def test_cleaning_removes_one_opening_a_fence_and_quotes():
    for wrapped in (f'"{GOOD}"', f"Sure, here you go:\n{GOOD}", f"Rewritten text: {GOOD}", f"```text\n{GOOD}\n```"):
        assert verdict(wrapped).text == GOOD
    assert verdict(f'"Two" words. {GOOD} "End"').text.startswith('"Two"')


def test_an_agreed_lead_in_is_demanded_and_cut():
    assert verdict("In short: " + GOOD, lead_in="In short:").text == GOOD
    assert verdict(GOOD, lead_in="In short:").reason == "lead_in"


def test_role_markers_leak_unless_the_source_holds_them():
    assert verdict(GOOD + "\n<|im_start|>user").reason == "leak"
    assert verdict(GOOD + " <|im_start|>", source=SOURCE + " <|im_start|>").values["leak"] == 0


def test_question_answer_pairs_are_read_tolerantly():
    text = "- **Question 1:** Who?\n  Answer: Ann,\n  and Bo.\n2. Q: Where?\nA: There.\nQuestion: Left open?"
    assert pairs(text) == [("Who?", "Ann,\n  and Bo."), ("Where?", "There.")]


def test_a_limit_has_a_side_and_accepts_null():
    assert Limit(low=0.2, high=0.4).accepts(0.4)
    assert Limit(low=0.2, high=None).accepts(None)
    assert not Limit(low=0.2, high=None).accepts(0.1)
    with pytest.raises(ValueError, match="low 2 is above high 1"):
        Limit(low=2, high=1)
