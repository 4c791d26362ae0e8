"""The last two gates, which look at the outputs of a whole call: meaning, by batches of embeddings, and duplicates.

A near-duplicate adds nothing to a corpus, whether of another output or of its own source. Similarity is the exact
Jaccard index of 5-grams, found through an index of the grams of what was kept so far: a call has thousands of outputs,
not millions, and a whole corpus is deduplicated by a stage of its own.

How it is used:  verdicts = judge_across([(source_text, verdict), ...], style, instruments)
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rephrase.fidelity import Gram, Profile, jaccard
from rephrase.gates.instruments import Instruments
from rephrase.gates.judging import Verdict, failing, source_profile

if TYPE_CHECKING:
    from rephrase.style import Style


def judge_across(
    attempts: Sequence[tuple[str, Verdict]],
    style: "Style",
    instruments: Instruments,
    *,
    scores: Sequence[float] | None = None,
) -> list[Verdict]:
    """Measure `meaning` and `duplicate` of n outputs that no gate has failed yet, each with the text of its source.

    Of outputs that are duplicates of each other the one with the highest of n `scores` stays, without scores the first.
    Verdicts with a reason come back as they are. Returns n verdicts in the same order.
    """
    judged = judge_meaning(attempts, style, instruments)
    return judge_duplicates([(source, one) for (source, _), one in zip(attempts, judged, strict=True)], style, scores)


def judge_meaning(attempts: Sequence[tuple[str, Verdict]], style: "Style", instruments: Instruments) -> list[Verdict]:
    """Measure `meaning` alone: it depends on an output and its source, and not on what else is in the call."""
    judged = [verdict for _, verdict in attempts]
    places = [i for i, verdict in enumerate(judged) if verdict.reason is None]
    if instruments.similarity is None or not places:
        return judged
    cosines = instruments.similarity([(judged[i].text, attempts[i][0]) for i in places])
    for i, cosine in zip(places, cosines, strict=True):
        judged[i] = _with(judged[i], "meaning", float(cosine), style)
    return judged


def judge_duplicates(
    attempts: Sequence[tuple[str, Verdict]], style: "Style", scores: Sequence[float] | None = None
) -> list[Verdict]:
    """Measure `duplicate` alone: the similarity with the nearest output that was kept, or with the source if higher."""
    judged = [verdict for _, verdict in attempts]
    kept = _Kept()
    for i in sorted(range(len(judged)), key=lambda i: -scores[i] if scores else 0):
        if judged[i].reason is not None:
            continue
        text = Profile(judged[i].text)
        nearest = max(kept.nearest(text), jaccard(text, source_profile(attempts[i][0], None)))
        judged[i] = _with(judged[i], "duplicate", nearest, style)
        if judged[i].reason is None:
            kept.add(text)
    return judged


def _with(verdict: Verdict, gate: str, value: float, style: "Style") -> Verdict:
    values = {**verdict.values, gate: value}
    return replace(verdict, values=values, reason=failing({gate: value}, style.gates))


class _Kept:
    """The outputs kept so far, found by their 5-grams."""

    def __init__(self) -> None:
        self._sizes: list[int] = []
        self._holders: dict[Gram, list[int]] = {}
        self._exact: set[tuple[str, ...]] = set()

    def nearest(self, text: Profile) -> float:
        """The highest Jaccard index of the text with one that is kept, in [0, 1]; 1 only for the same 5-grams."""
        if tuple(text.words) in self._exact:
            return 1.0
        shared: Counter[int] = Counter()
        for gram in text.shingles:
            shared.update(self._holders.get(gram, ()))
        size = len(text.shingles)
        return max((n / (size + self._sizes[i] - n) for i, n in shared.items()), default=0.0)

    def add(self, text: Profile) -> None:
        """Keep a text; one whose words are kept already adds nothing."""
        if tuple(text.words) in self._exact:
            return
        self._exact.add(tuple(text.words))
        for gram in text.shingles:
            self._holders.setdefault(gram, []).append(len(self._sizes))
        self._sizes.append(len(text.shingles))
