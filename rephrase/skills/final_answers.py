"""The final answer of a worked solution, in one spelling, so that solutions can be counted by what they come to.

Looked for in this order: the last `\\boxed{...}`; the last phrase such as "the answer is 12", "Answer: 12", "#### 12";
the last number. Numbers are compared by value (`1,200.0` is `1200`, `\\frac{1}{2}` is `0.5`), all else by its letters.
"""

import re
from collections.abc import Sequence
from fractions import Fraction

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_SAID = re.compile(
    r"(?:\banswer\b[^\n.:=]{0,40}?(?:\bis\b|:|=)|####)[ \t:*=$]*([^\n]{1,120})",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"[-\u2212]?\d[\d,]*(?:\.\d+)?(?:\s*/\s*\d+)?%?")
_VALUE = re.compile(r"[-+]?\d{1,40}(?:\.\d{1,40})?(?:/\d{1,40})?")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]+)\}\s*\{([^{}]+)\}")
_WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}")
_NOISE = re.compile(r"\\(?:left|right|,|;|!|quad|displaystyle)|\\?[$]|\\[()\[\]]|[*`]")


def final_answer(solution: str) -> str | None:
    """The final answer of a solution, normalised; null when it has none."""
    found = _boxed(solution) or _said(solution) or _last_number(solution)
    return normalised(found) or None if found else None


def agreeing(solutions: Sequence[str | None]) -> list[int]:
    """Places of the solutions in the largest group with one final answer; of equal groups the one that began first.

    A solution that is null, or has no final answer, agrees with none.
    """
    groups: dict[str, list[int]] = {}
    for place, solution in enumerate(solutions):
        answer = final_answer(solution) if solution is not None else None
        if answer is not None:
            groups.setdefault(answer, []).append(place)
    return max(groups.values(), key=len, default=[])


def normalised(answer: str) -> str:
    """An answer in one spelling: without mathematical wrapping and units of money, numbers by value, letters small."""
    text = answer.replace("\u2212", "-").replace("\\%", "%")
    for _ in range(4):  # commands nest a little
        text = _WRAPPED.sub(r"\1", _FRACTION.sub(r"\1/\2", text))
    text = " ".join(_NOISE.sub("", text).split()).strip(" .,;:!?\"'").lower()
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    plain = text.replace(" ", "").removesuffix("%")
    if not _VALUE.fullmatch(plain) or re.search(r"/0+$", plain):
        return text
    top, _, bottom = plain.partition("/")
    value = str(Fraction(top) / Fraction(bottom or "1"))
    return value + "%" * text.endswith("%")


def _boxed(solution: str) -> str | None:
    """What the last box holds, braces inside it matched; null where there is none or it does not end."""
    starts = [match.end() for match in _BOX.finditer(solution)]
    if not starts:
        return None
    depth = 1
    for place in range(starts[-1], len(solution)):
        depth += {"{": 1, "}": -1}.get(solution[place], 0)
        if not depth:
            return solution[starts[-1] : place].strip() or None
    return None


def _said(solution: str) -> str | None:
    """What the last phrase about the answer says: its number where it has one, else all up to a full stop."""
    said = _SAID.findall(solution)
    if not said:
        return None
    number = _NUMBER.search(said[-1])
    return number[0] if number and "\\" not in said[-1] else re.split(r"\.(?:\s|$)", said[-1])[0].strip() or None


def _last_number(solution: str) -> str | None:
    found = _NUMBER.findall(solution)
    return found[-1] if found else None
