"""Which licence a generated text has: the stricter of its source's and its generator's.

A licence is told by what its name says that it asks for: attribution, the same terms again (share-alike), no commerce,
no derivatives. This sorts names; it is no legal advice. A rephrasing is a derivative, so a source that forbids
derivatives is stricter than one that forbids commerce.

How it is used:  stricter("cc-by-nc-4.0", "apache-2.0")   gives   "cc-by-nc-4.0"
"""

import re
from collections.abc import Iterable

TERMS = ("free", "attribution", "share-alike", "non-commercial", "no derivatives", "unknown")
"""From the mildest to the strictest."""

_FREE = re.compile(r"\bcc-?0\b|public-?domain|\bpddl\b|\bunlicense\b")
_ATTRIBUTION = re.compile(
    r"apache|\bmit\b|\bbsd\b|\bisc\b|cc-by|licenses-by\b|odc-by|\bogl\b|open-government|attribution|\bmpl\b"
)
_SHARE_ALIKE = re.compile(r"-sa\b|share-?alike|\b[al]?gpl|\bodbl\b|\bgfdl\b")
_NON_COMMERCIAL = re.compile(r"-nc\b|non-?commercial|research-only")
_NO_DERIVATIVES = re.compile(r"-nd\b|no-?deriv")


def terms(licence: str | None) -> str:
    """The strictest of TERMS that a licence's name speaks of; `unknown` for an empty name or one that says nothing."""
    name = re.sub(r"[\s_/]+", "-", (licence or "").strip().lower())
    for term, pattern in (
        ("no derivatives", _NO_DERIVATIVES),
        ("non-commercial", _NON_COMMERCIAL),
        ("share-alike", _SHARE_ALIKE),
        ("attribution", _ATTRIBUTION),
        ("free", _FREE),
    ):
        if pattern.search(name):
            return term
    return "unknown"


def stricter(first: str | None, second: str | None) -> str:
    """The stricter of two licences by name; the first where both ask for the same. Unknown is stricter than all."""
    return max((first, second), key=lambda name: TERMS.index(terms(name))) or "unknown"


def strictest(licences: Iterable[str | None]) -> str:
    """The strictest of several licences by name: a set is as free as the least free text in it. `free` for none."""
    return max(
        (name or "unknown" for name in licences), key=lambda name: (TERMS.index(terms(name)), name), default="free"
    )
