"""What belongs to the prompt or the chat and never to a text: role markers, placeholders, fences, the instruction.

Marks that the source holds as well are its own and no leak; the fence never may come out, whatever the source holds.

How it is used:  n = leaks(Profile(output), Profile(source), style.system + style.template)
"""

import re
from functools import lru_cache

from rephrase.fence import fence_marks
from rephrase.fidelity import Gram, Profile

RUN_WORDS = 6
"""Words of the instruction in a row that nobody writes by chance."""

_MARK = re.compile(
    r"<\|[^|<>\s]{2,40}\|>|</?s>|</?think(?:ing)?>|</?(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>"
    r"|^\W{0,3}(?:system|user|assistant|human)\W{0,2}:|^###\s*(?:instruction|response|input|system|user|assistant)"
    r"|\{\{?\s*[a-z_]{2,30}\s*\}\}?|\[(?:your|insert|add|enter|company|document|passage|text|name|date)\b[^\]\n]{0,40}\]"
    r"|<(?:insert|your|document|input|instructions?|system|user|assistant)\b[^>\n]{0,40}>",
    re.IGNORECASE | re.MULTILINE,
)
_MARK_CHARACTERS = re.compile(r"[<\[{#]")
_ROLES = ("system", "user", "assistant", "human")


def leaks(output: Profile, source: Profile, instruction: str) -> int:
    """Marks and fences in an output, and six-word runs of the instruction that the source does not hold; >= 0."""
    marks = 0
    if _MARK_CHARACTERS.search(output.text) or not output.vocabulary.isdisjoint(_ROLES):
        held = source.text.lower()
        marks = sum(mark.strip().lower() not in held for mark in _MARK.findall(output.text))
    runs = _runs_of(instruction).intersection(output.grams(RUN_WORDS))
    if runs:
        runs = runs.difference(source.grams(RUN_WORDS))
    return fence_marks(output.text) + marks + len(runs)


@lru_cache(maxsize=32)
def _runs_of(instruction: str) -> frozenset[Gram]:
    return frozenset(Profile(instruction).grams(RUN_WORDS))
