"""E-mail addresses, links and phone numbers: what a model must never add, because they may belong to somebody.

How it is used:  n = new_contacts(output_text, source_text)
"""

import re

_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_LINK = re.compile(
    r"(?:https?://|www\.)[^\s<>\"')\]]*[^\s<>\"')\].,;:!?]"
    r"|(?<![\w@.-])(?:[a-z0-9-]+\.)+(?:com|org|net|edu|gov|io|co|info|biz|de|uk|fr|eu|us|ca|au)(?:/[^\s<>\"')\]]*"
    r"[^\s<>\"')\].,;:!?])?(?![\w@-])",
    re.IGNORECASE,
)
_PHONE = re.compile(
    r"(?<![\w.,/-])(?:\+|00|\()?\d{1,5}\)?(?:[ .\u00a0/-]{1,2}\(?\d{2,8}\)?){1,5}(?![\w/-]|,\d)|\+\d{8,15}\b"
)
_DATE = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}")
_GROUPED = re.compile(r"\d{1,3}(?:[ .\u00a0]\d{3})+")
_PHONE_DIGITS = range(7, 16)


def new_contacts(text: str, source: str) -> int:
    """Contacts of a text that its source does not hold in any way of writing them; each counted once, >= 0."""
    return len(_unknown_addresses(text, source)) + len(_unknown_phones(text, source))


def _unknown_addresses(text: str, source: str) -> set[str]:
    if "@" not in text and "." not in text:
        return set()
    rest, found = text, set()
    if "@" in text:
        found = {match.lower() for match in _EMAIL.findall(text)}
        rest = _EMAIL.sub(" ", text)
    found |= {_bare(match) for match in _LINK.findall(rest)} if _LINK_HINT.search(rest) else set()
    held = source.lower() if found else ""
    return {address for address in found if address not in held}


def _bare(link: str) -> str:
    """A link as it may stand anywhere: without scheme, `www.` and closing slash."""
    return link.lower().removeprefix("https://").removeprefix("http://").removeprefix("www.").rstrip("/")


def _unknown_phones(text: str, source: str) -> set[str]:
    found = (
        {_NO_DIGIT.sub("", match) for match in _PHONE.findall(text) if _is_phone(match)}
        if "+" in text or _LONG.search(text)
        else ()
    )
    held = _NO_DIGIT.sub("", source) if found else ""
    return {number for number in found if number not in held}


def _is_phone(written: str) -> bool:
    """Whether digits in groups can be a phone number rather than a date, a range of years, or a large number."""
    digits = _NO_DIGIT.sub("", written)
    if len(digits) not in _PHONE_DIGITS or _DATE.fullmatch(written):
        return False
    if written[0] in "+(" or written.startswith("00"):
        return True
    lengths = [len(group) for group in _DIGITS.findall(written)]
    years = set(lengths) == {4} and written[0] != "0"
    return (
        not _GROUPED.fullmatch(written) and not years and (len(lengths) > 2 or lengths == [3, 4] or written[0] == "0")
    )


_LINK_HINT = re.compile(r"\.[a-zA-Z]{2}")
_LONG = re.compile(r"\d[ ).\u00a0/-]{1,2}\(?\d")
_NO_DIGIT = re.compile(r"\D")
_DIGITS = re.compile(r"\d+")
