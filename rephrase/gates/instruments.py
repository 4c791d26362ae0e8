"""What gates need beyond an output and its source: models and indexes, lent by whoever runs the gates.

A gate whose instrument is missing measures nothing (null), which every limit accepts. Instruments are functions, so
that this package needs no model of its own; `identity` says which ones they were, for caches and manifests.

How it is used:  Instruments(language=identify, identity={"language": "lid.176@1f2e"})
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Instruments:
    """Instruments by what they measure.

    Args:
        language: a text to its ISO 639 code and the probability of it, in [0, 1].
        similarity: n pairs (output, source) to n cosines of their embeddings, in [-1, 1]; asked in batches.
        contamination: a text to the largest share of any one evaluation item that it holds, in [0, 1].
        identity: what the instruments are, by name, for caches and manifests.
    """

    language: Callable[[str], tuple[str, float]] | None = None
    similarity: Callable[[Sequence[tuple[str, str]]], Sequence[float]] | None = None
    contamination: Callable[[str], float] | None = None
    identity: Mapping[str, str] = field(default_factory=dict)


NO_INSTRUMENTS = Instruments()
"""Only what needs nothing but the two texts is measured."""
