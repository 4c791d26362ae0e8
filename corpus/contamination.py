"""How much of an evaluation item a text holds: the project's form of the TÜLU 3 procedure (arXiv 2411.15124).

A token of an item is covered by a text if some run of 8 tokens around it occurs in both; an item is hit if more than
half of its tokens are covered by ONE text. Items with fewer tokens are hit if the text has them whole, at the borders
of tokens. Tokens are what lies between blanks and `, . ? ! : ; ( ) " - \\`, after Unicode NFC and in lower case;
typographic quotes and dashes count as their plain forms, and scripts without blanks have one token a character.

Runs are found by their xxh3-64 in a sorted table, behind a compiled sieve that most text never passes. There is no cap
on hits and no randomness; a false run needs a collision of 64-bit hashes.

How it is used:  open_index([Path("mmlu.jsonl.gz")]).worst(text)
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from corpus.errors import ConfigError
from corpus.evaluation_items import PROMPTS, EvaluationItem, EvaluationItems
from corpus.fingerprints import fingerprint
from corpus.ngram_scan import Tokens, bitmap, candidates, run_hashes, tokenise
from corpus.unspaced_scripts import UNSPACED

VERSION = 1
"""Raised when the same items and settings cover other tokens of a text."""

Scope = Literal["prompt", "all", "per_field"]
"""`prompt`: what is asked; `all`: the fields of an item as one text, in their order; `per_field`: each for itself."""

_SEPARATORS = np.zeros(256, np.bool_)
_SEPARATORS[list(b' \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f,.?!:;()"-\\')] = True
_OTHER_SEPARATORS = re.compile(
    "[\u0085\u00a0\u1680\u2000-\u200b\u2028\u2029\u202f\u205f\u3000\ufeff"
    "\u00ab\u00bb\u2010-\u2015\u201c-\u201f\u2026\u2039\u203a\u3001\u3002\u300c-\u300f\uff01\uff08\uff09\uff0c\uff1a\uff1b\uff1f]"
)
_UNSPACED = re.compile(f"[{UNSPACED}]")


class Hit(NamedTuple):
    """How much of one item (or field of it) a text covers, in [0, 1]; without names where it covers nothing."""

    coverage: float
    evaluation: str
    item: str
    field: str


NOTHING = Hit(0.0, "", "", "")


def item_tokens(text: str) -> list[str]:
    """The tokens of a text, as items and documents are compared by."""
    return _tokens(text).joined.tobytes().decode("utf-8", "surrogatepass").split()


class ContaminationIndex:
    """Evaluation items, ready to be looked for in texts.

    Args:
        items: what to look for.
        n: tokens of a run, >= 1; 8, or 13 as in GPT-3.
        threshold: an item is hit when more than this share of its tokens is covered, in [0, 1).
        scope: which of an item's fields are looked for, and whether together. Under `per_field` the item is what its
            worst field is.
        shortest: what is asked in fewer than n tokens is looked for whole if it has this many, >= 1; fewer, as in
            `The sky is`, are in every corpus. Short options and answers are never looked for.

    Raises ConfigError for a parameter out of its range.
    """

    def __init__(
        self,
        items: EvaluationItems,
        n: int = 8,
        threshold: float = 0.5,
        scope: Scope = "per_field",
        shortest: int = 4,
    ) -> None:
        if n < 1 or not 0 <= threshold < 1 or shortest < 1:
            raise ConfigError(
                "evaluation items cannot be looked for like this", expected="n >= 1, 0 <= threshold < 1, shortest >= 1",
                found=f"n {n}, threshold {threshold:g}, shortest {shortest}",
            )  # fmt: skip
        self.threshold = threshold
        self.counts = items.counts
        self.identity = fingerprint(
            {"version": VERSION, "items": items.identity, "n": n, "threshold": threshold, "scope": scope,
             "shortest": shortest}
        )  # fmt: skip
        self._units: list[tuple[str, str, str]] = []
        self._sizes: list[int] = []
        runs: dict[int, _Runs] = {}
        for item in items.items:
            for field, text, is_asked in _texts(item, scope):
                tokens = _tokens(text)
                size = len(tokens.hashes)
                if size >= n or (is_asked and size >= shortest):
                    runs.setdefault(min(n, size), _Runs(min(n, size))).add(tokens, len(self._units))
                    self._units.append((item.evaluation, item.name, field))
                    self._sizes.append(size)
        self._tables = [_Table(runs[size]) for size in sorted(runs)]

    def coverage(self, text: str) -> float:
        """The largest share of one item's tokens that the text covers, in [0, 1]."""
        return max(
            (covered.bit_count() / self._sizes[unit] for unit, covered in self._covered(text).items()), default=0.0
        )

    def worst(self, text: str) -> Hit:
        """The item that the text covers most, of equal ones the first by name; `NOTHING` where it covers none."""
        return min(self._found(text), key=_by_coverage, default=NOTHING)

    def hits(self, text: str) -> list[Hit]:
        """The items that the text contaminates, those covered most first."""
        return sorted((hit for hit in self._found(text) if hit.coverage > self.threshold), key=_by_coverage)

    def _found(self, text: str) -> Iterator[Hit]:
        for unit, covered in self._covered(text).items():
            yield Hit(covered.bit_count() / self._sizes[unit], *self._units[unit])

    def _covered(self, text: str) -> dict[int, int]:
        """Units that share a run with the text, with their covered tokens as the bits of a number."""
        tokens = _tokens(text)
        found: dict[int, int] = {}
        for table in self._tables:
            run = (1 << table.n) - 1
            for first in candidates(tokens.hashes, table.n, table.bits):
                for unit, start in table.find(tokens.run(first, table.n)):
                    found[unit] = found.get(unit, 0) | (run << start)
        return found


def open_index(
    paths: Iterable[Path], n: int = 8, threshold: float = 0.5, scope: Scope = "per_field", shortest: int = 4
) -> ContaminationIndex:
    """The index over files of items, made once a process as long as the files stay as they are.

    Raises InputError as `EvaluationItems.read`, ConfigError as `ContaminationIndex`.
    """
    stamps = [(path, path.stat() if path.is_file() else None) for path in paths]
    key = tuple((path, stat.st_size if stat else 0, stat.st_mtime_ns if stat else 0) for path, stat in stamps)
    return _opened(key, n, threshold, scope, shortest)


@lru_cache(maxsize=2)
def _opened(
    files: tuple[tuple[Path, int, int], ...], n: int, threshold: float, scope: Scope, shortest: int
) -> ContaminationIndex:
    items = EvaluationItems.read(path for path, _, _ in files)
    return ContaminationIndex(items, n, threshold, scope, shortest)


class _Runs:
    """Runs of n tokens while an index is made."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.keys: list[int] = []
        self.units: list[int] = []
        self.starts: list[int] = []
        self.hashes: list[npt.NDArray[np.uint64]] = []

    def add(self, tokens: Tokens, unit: int) -> None:
        count = len(tokens.hashes) - self.n + 1
        self.keys += [_key(tokens.run(start, self.n)) for start in range(count)]
        self.units += [unit] * count
        self.starts += range(count)
        self.hashes.append(run_hashes(tokens.hashes, self.n))


class _Table:
    """Runs of n tokens by their keys, ascending; every occurrence in every item is a row."""

    def __init__(self, runs: _Runs) -> None:
        keys = np.array(runs.keys, np.int64)
        order = np.argsort(keys, kind="stable")
        self.n = runs.n
        self.keys = keys[order]
        self.units = np.array(runs.units, np.int64)[order]
        self.starts = np.array(runs.starts, np.int64)[order]
        self.bits = bitmap(np.concatenate(runs.hashes))

    def find(self, run: bytes) -> Iterator[tuple[int, int]]:
        """Where items have this run: unit, and number of its first token there."""
        key = _key(run)
        first, last = np.searchsorted(self.keys, key, "left"), np.searchsorted(self.keys, key, "right")
        return zip(self.units[first:last].tolist(), self.starts[first:last].tolist(), strict=True)


def _texts(item: EvaluationItem, scope: Scope) -> Iterator[tuple[str, str, bool]]:
    """The texts of an item to look for: what they are called, and whether they say what is asked."""
    if scope == "all":
        yield "all", "\n".join(item.fields.values()), True
        return
    for field, text in item.fields.items():
        if scope == "per_field" or field in PROMPTS:
            yield field, text, field in PROMPTS


def _tokens(text: str) -> Tokens:
    if not text.isascii():
        if not unicodedata.is_normalized("NFC", text):
            text = unicodedata.normalize("NFC", text)
        text = _OTHER_SEPARATORS.sub(" ", text).replace("\u2019", "'").replace("\u2018", "'")
        if _UNSPACED.search(text):
            text = _UNSPACED.sub(r" \g<0> ", text)
    return tokenise(text.lower().encode("utf-8", "surrogatepass"), _SEPARATORS)


def _key(run: bytes) -> int:
    """xxh3-64 as a signed number, as Parquet and Spark hold it."""
    value = xxhash.xxh3_64_intdigest(run)
    return value - (1 << 64) if value >> 63 else value


def _by_coverage(hit: Hit) -> tuple[float, str, str, str]:
    return (-hit.coverage, hit.evaluation, hit.item, hit.field)
