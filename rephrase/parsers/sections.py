"""Tagged sections, of which one is kept: a model may think on paper, and only its result becomes text.

A section is `<name> ... </name>`, or stands below a heading, a bold line or a label `Name:` of its name. The last one
of a name counts, and an end tag may be missing at the end of the text.

How it is used:  rewritten = read_section(text, "rewrite")
"""

import re


def read_section(text: str, name: str) -> str:
    """The section called `name`; empty when it is missing, empty, or runs on into another tag."""
    tagged = list(re.finditer(rf"<{re.escape(name)}>", text, re.IGNORECASE))
    if tagged:
        body = text[tagged[-1].end() :]
        end = re.search(rf"</{re.escape(name)}>", body, re.IGNORECASE)
        body = body[: end.start()] if end else body
    else:
        label = (
            rf"^[ \t]*+(?:#{{1,6}}[ \t]*|\*\*|__)?{re.escape(name)}[ \t]*(?::(?:\*\*|__)?|(?:\*\*|__):?|(?=\n))[ \t]*"
        )
        found = list(re.finditer(label, text, re.IGNORECASE | re.MULTILINE))
        body = text[found[-1].end() :] if found else ""
    body = body.strip()
    return "" if _TAG.search(body) else body


_TAG = re.compile(r"^[ \t]*</?[a-z_]{3,20}>[ \t]*$", re.IGNORECASE | re.MULTILINE)
