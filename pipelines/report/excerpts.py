"""Text from the web on a page of ours: short, on one line, without control characters, and never as markup.

Escaping itself is the template engine's (autoescape is on for every template). What is done here is what
escaping does not do: characters that hide or reorder text go, lengths are bounded, and only http and https
addresses become links.
"""

import re
import unicodedata
from urllib.parse import urlsplit

from markupsafe import Markup

_HIDDEN = {"Cc", "Cf", "Co", "Cs", "Cn"}
_JOINERS = {"\u200c", "\u200d"}  # needed by Persian, Indic scripts and emoji
_URL_CHARACTERS = 90


def excerpt(text: str | None, characters: int) -> str:
    """The first characters of a text on one line, cut at a word; an ellipsis marks the cut."""
    flat = _visible((text or "")[: 4 * characters])
    flat = re.sub(r"\s+", " ", flat).strip()
    if len(flat) <= characters:
        return flat
    head = flat[:characters]
    return (head.rsplit(" ", 1)[0] if " " in head[characters // 2 :] else head) + " …"


def passage(text: str | None, characters: int) -> str:
    """As `excerpt`, with line breaks kept."""
    flat = _visible((text or "")[: 2 * characters])
    flat = re.sub(r"\n{3,}", "\n\n", re.sub(r"[^\S\n]+", " ", flat)).strip()
    return flat if len(flat) <= characters else flat[:characters].rstrip() + " …"


def web_link(url: str | None) -> Markup:
    """An address as a link where it is http or https, otherwise as plain text; long ones are shortened to look at."""
    if not url:
        return Markup("")
    clean = "".join(character for character in url if unicodedata.category(character) not in _HIDDEN)
    shown = re.sub(r"^https?://", "", clean)
    shown = shown if len(shown) <= _URL_CHARACTERS else shown[:_URL_CHARACTERS] + "…"
    if not _is_web(clean) or len(clean) > 2000:
        return Markup('<bdi class="url">{}</bdi>').format(shown)
    return Markup('<a class="url" rel="noopener noreferrer nofollow" href="{}"><bdi>{}</bdi></a>').format(clean, shown)


def _is_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


def _visible(text: str) -> str:
    kept = (c for c in text if c in "\n\t" or c in _JOINERS or unicodedata.category(c) not in _HIDDEN)
    return "".join(kept)
