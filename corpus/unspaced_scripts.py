"""Scripts that put no blanks between words, where a character is the smallest unit that can be counted as one.

How it is used:  re.compile(rf"[{UNSPACED}]")
"""

UNSPACED = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
)
"""Thai, Lao, Tibetan, Burmese, Khmer, kana, and Chinese characters, as ranges of a regular expression's class."""
