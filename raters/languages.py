"""What a document's `lang` says to raters: whether its language puts blanks between words, and whether it is English.

Words cut at blanks mean nothing in Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan and Dzongkha: a sentence
would be a word there. Tags are read by their first part in any case, two letters or three: zh, ZH-Hant and zho_Hans
are one language. A null says nothing, and is neither English nor without blanks.

Run it:  without_blanks(batch.column("lang"))
"""

import re
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

NO_BLANKS = "no blanks between words"
"""The key under which raters count the documents whose words they could not tell apart."""

_WITHOUT_BLANKS = frozenset(
    """
    zh zho chi cmn yue wuu nan hak gan hsn lzh ja jpn th tha lo lao km khm my mya bur bo bod tib dz dzo
    """.split()  # noqa: SIM905 - a list of words reads best as text
)
_ENGLISH = frozenset({"en", "eng"})


def without_blanks(langs: pa.Array) -> np.ndarray:
    """For n language tags (strings or null), n booleans: True where the language has no blanks between words."""
    return _marked(langs, lambda language: language in _WITHOUT_BLANKS)


def english(langs: pa.Array) -> np.ndarray:
    """For n language tags (strings or null), n booleans: True where the language is English."""
    return _marked(langs, lambda language: language in _ENGLISH)


def _marked(langs: pa.Array, test: Callable[[str], bool]) -> np.ndarray:
    langs = langs.cast(pa.string())
    tags = [tag for tag in pc.unique(langs).to_pylist() if tag is not None]
    marked = [tag for tag in tags if test(re.split("[-_]", tag.strip().lower())[0])]
    return np.asarray(pc.is_in(langs, pa.array(marked, pa.string())).to_numpy(zero_copy_only=False), np.bool_)
