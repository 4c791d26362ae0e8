"""Numbers as they are written in many ways: 1,000 is 1000, 1.5 million is 1,500,000, twelve is 12, March is month 3.

A written number may be read in more than one way (1.000 is a thousand in German, one in English), so it is a set of
readings, and two numbers agree when they share one. A reading is a plain decimal without needless zeros. Parts of
dates, times, and ranges are numbers of their own. The rules are the project's own.

How it is used:  written_numbers(Profile("1.5 million"))[0] & number_readings(Profile("1,500,000"))
"""

import re
from collections.abc import Iterator
from functools import lru_cache

from rephrase.fidelity import Profile, words

Readings = frozenset[str]

_SCALES = {
    "hundred": 2, "thousand": 3, "k": 3, "million": 6, "millions": 6, "mn": 6, "m": 6, "billion": 9, "bn": 9,
    "trillion": 12, "tausend": 3, "millionen": 6, "mio": 6, "milliarde": 9, "milliarden": 9, "mrd": 9, "mille": 3,
    "milliard": 9, "milliards": 9, "mil": 3, "millón": 6, "millones": 6, "milione": 6, "milioni": 6,
    "miliardi": 9, "milhão": 6, "milhões": 6, "тыс": 3, "млн": 6, "млрд": 9,
    "万": 4, "萬": 4, "亿": 8, "億": 8,
}  # fmt: skip
"""Words after a number, by the power of ten they stand for."""

_SMALL = {
    "en": "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty",
    "de": "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn "
    "siebzehn achtzehn neunzehn zwanzig",
    "fr": "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize",
    "es": "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince",
}
_ORDINALS = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth "
    "fifteenth sixteenth seventeenth eighteenth nineteenth twentieth"
)
_TENS = {"thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90, "hundred": 100,
         "dozen": 12, "half": 50, "quarter": 25, "dreißig": 30, "vierzig": 40, "fünfzig": 50, "hundert": 100,
         "trente": 30, "quarante": 40, "cinquante": 50, "cent": 100, "treinta": 30, "cien": 100}  # fmt: skip
_MONTHS = (
    "january jan januar janvier enero gennaio janeiro",
    "february feb februar février febrero febbraio fevereiro",
    "march mar märz mars marzo março",
    "april apr avril abril aprile",
    "may mai mayo maggio maio",
    "june jun juni juin junio giugno junho",
    "july jul juli juillet julio luglio julho",
    "august aug août agosto",
    "september sep sept septembre septiembre settembre setembro",
    "october oct oktober okt octobre octubre ottobre outubro",
    "november nov novembre noviembre novembro",
    "december dec dezember dez décembre diciembre dicembre dezembro",
)

MONTHS = {name: number for number, names in enumerate(_MONTHS, start=1) for name in names.split()}
"""Month names in lower case, with their numbers."""

_WORTH = {word: n for text in _SMALL.values() for n, word in enumerate(text.split())}
_WORTH |= {word: n for n, word in enumerate(_ORDINALS.split(), start=1)} | _TENS
_CARDINALS = {word: n for n, word in enumerate(_SMALL["en"].split())} | {
    word: n for word, n in _TENS.items() if 30 <= n <= 90 and word.isascii() and word.endswith("y")
}
_MARKS = "\u00a0\u202f'\u2019"
"""Marks besides points, commas and blanks that part groups of three digits."""
_NUMBER = re.compile(
    rf"\d+(?:[.,{_MARKS}]\d+|[ ]\d{{3}}(?!\d))*"
    rf"(?:[ \u00a0-]?((?i:{'|'.join(sorted(_SCALES, key=len, reverse=True))}))(?![^\W\d_]))?",
)
_DATE = re.compile(r"\d{1,4}([-/.])(\d{1,2})\1\d{1,4}(?!\d)")


@lru_cache(maxsize=128)
def written_numbers(text: Profile) -> list[Readings]:
    """The numbers written in digits, each by its readings, in order."""
    return [readings for written, scale in _written(text) for readings in _read(written, scale)]


def number_words(text: Profile) -> Iterator[tuple[list[str], Readings]]:
    """The same, each after the words that it is written in: (["1", "000"], {"1000", "1"})."""
    for written, scale in _written(text):
        for readings in _read(written, scale):
            yield words(written), readings


def spelled_numbers(text: Profile) -> list[Readings]:
    """Numbers above ten spelled in English words, such as `twenty-five` and `two million`, each by its readings."""
    found = []
    for run in _runs(text):
        total = _total(run)
        if total > 10:
            found.append(frozenset([str(total)]))
    return found


def number_readings(text: Profile) -> set[str]:
    """Everything that a text can be said to hold as a number: digits, words, ordinals, months, parts of both."""
    known: set[str] = set().union(*written_numbers(text))
    for written, scale in _written(text):
        if scale:  # "5 million" backs "5" as well
            known.update(*_plain(written))
    for word in text.vocabulary & _WORTH.keys():
        known.add(str(_WORTH[word]))
    for run in _runs(text):
        known.add(str(_total(run)))
    for month in text.vocabulary & MONTHS.keys():
        known |= {str(MONTHS[month]), month_reading(month)}
    if known:
        for date in _DATE.finditer(text.text):
            known |= {f"month {int(part)}" for part in date[0].split(date[1]) if 1 <= int(part) <= 12}
    return known


def month_reading(name: str) -> str:
    """What stands for a month, whatever language or form it is written in; `name` is one of MONTHS."""
    return f"month {MONTHS[name]}"


@lru_cache(maxsize=128)
def _written(text: Profile) -> list[tuple[str, int]]:
    """Digits with the marks between them, and the power of ten that a word after them stands for.

    Digits after a letter (`MP3`, `A4`) belong to a name.
    """
    plain = _western(text.text)
    found: list[tuple[str, int]] = []
    for match in _NUMBER.finditer(plain):
        if match.start() and plain[match.start() - 1].isalpha():
            continue
        scale = _SCALES[match[1].lower()] if match[1] else 0
        *others, last = _apart(match[0][: match.start(1) - match.start()].rstrip(" \u00a0-") if match[1] else match[0])
        found += [(other, 0) for other in others]
        found.append((last, scale))
    return found


def _apart(written: str) -> list[str]:
    """Numbers with blanks between groups of three digits as one, other neighbours as several."""
    groups = written.split(" ")
    return [written] if len(groups) == 1 or (len(groups[0]) <= 3 and groups[0].isdecimal()) else groups


def _read(written: str, scale: int) -> list[Readings]:
    plain = _plain(written)
    return [frozenset(_scaled(reading, scale) for reading in readings) for readings in plain] if scale else plain


def _plain(written: str) -> list[Readings]:
    """The readings of digits with points, commas and blanks between them; a date or version has several numbers."""
    if written.isdecimal():
        return [frozenset([_canonical(written, "")])]
    written = _BLANKS.sub("", written)
    points, commas = written.count("."), written.count(",")
    if not points and not commas:
        return [frozenset([_canonical(written, "")])]
    if points and commas:
        mark = max(".,", key=written.rfind)
        if written.count(mark) > 1:
            return [frozenset([_canonical(part, "")]) for part in re.split("[.,]", written)]
        whole, fraction = written.split(mark)
        return [frozenset([_canonical(whole.replace("." if mark == "," else ",", ""), fraction)])]
    first, *rest = re.split("[.,]", written)
    grouped = len(first) <= 3 and all(len(part) == 3 for part in rest) and first.strip("0") != ""
    if len(rest) > 1:
        if grouped:
            return [frozenset([_canonical("".join([first, *rest]), "")])]
        return [frozenset([_canonical(part, "")]) for part in (first, *rest)]
    decimal = _canonical(first, rest[0])
    return [frozenset([decimal, _canonical(first + rest[0], "")] if grouped else [decimal])]


def _canonical(whole: str, fraction: str) -> str:
    whole, fraction = whole.lstrip("0") or "0", fraction.rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole


def _scaled(reading: str, power: int) -> str:
    whole, _, fraction = reading.partition(".")
    fraction = fraction.ljust(power, "0")
    return _canonical(whole + fraction[:power], fraction[power:])


def _western(text: str) -> str:
    """The text with the digits of every script as 0 to 9."""
    return text if text.isascii() else _OTHER_DIGIT.sub(lambda match: str(int(match[0])), text)


def _runs(text: Profile) -> Iterator[list[str]]:
    """Runs of English number words, such as [twenty, five], with scales such as million inside or at the end.

    None for a text whose number words are all up to ten: each of them is its own number.
    """
    if text.vocabulary.isdisjoint(_LARGE):
        return
    run: list[str] = []
    for (before, _), word in zip(text.tokens, text.words, strict=True):
        if run and before not in (" ", "-"):
            yield run
            run = []
        if word in _CARDINALS or (run and word in _SPELLED_SCALES):
            run.append(word)
        elif run:
            yield run
            run = []
    if run:
        yield run


def _total(run: list[str]) -> int:
    total, part = 0, 0
    for word in run:
        if word in _CARDINALS:
            part += _CARDINALS[word]
        elif word == "hundred":
            part *= 100
        else:
            total, part = total + part * 10 ** _SCALES[word], 0
    return total + part


_SPELLED_SCALES = ("hundred", "thousand", "million", "billion", "trillion")
_LARGE = frozenset(word for word, n in _CARDINALS.items() if n > 10) | frozenset(_SPELLED_SCALES)
_OTHER_DIGIT = re.compile(r"[^\D0-9]")
_BLANKS = re.compile(rf"[ {_MARKS}]")
