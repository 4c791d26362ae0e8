"""The two names a served model has: a short one for people, and one that carries its identity to clients.

`NAME@<weights>.<chat_template>.<dtype>` is listed by `/v1/models` beside `NAME`. From it and the server's version a
client makes the identity that the offline engine has, so that both find each other's answers in one cache.
"""

import re
from collections.abc import Mapping

_FULL = re.compile(r"(?P<model>.+)@(?P<weights>[0-9a-f]+)\.(?P<chat_template>[0-9a-f]+)\.(?P<dtype>[a-z0-9_-]+)")


def full_name(identity: Mapping[str, str]) -> str:
    """The name that carries an identity: its model, weights hash, chat template hash and dtype."""
    return "{model}@{weights}.{chat_template}.{dtype}".format_map(identity)


def told_identity(name: str) -> dict[str, str] | None:
    """What a full name tells: model, weights, chat_template, dtype; null for any other name."""
    match = _FULL.fullmatch(name)
    return match.groupdict() if match else None
