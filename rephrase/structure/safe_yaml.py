"""Read YAML that a model wrote, as text, lists and mappings only, and never more of it than a mind map needs.

The answer of a model is a stranger's file. Anchors, aliases and tags are refused, and size, depth and number of nodes
are checked while the text is scanned, before anything is built from it: aliases that multiply, a thousand brackets and
megabytes end at the first event too many. Numbers stay text, so that no scalar is turned into a date or a huge integer.
"""

import re
from typing import Any

import yaml

from rephrase.structure.faults import MapFault

MAX_CHARACTERS = 20_000
MAX_DEPTH = 24
MAX_NODES = 2_000
_FENCED = re.compile(r"```[^\n`]*\n(.*?)(?:\n```|\Z)", re.DOTALL)


def read_yaml(answer: str) -> Any:
    """The first code fence of an answer, or all of it where there is none, as str, list and dict.

    Raises MapFault("yaml") for what is no YAML or not of this tame kind.
    """
    fence = _FENCED.search(answer[: MAX_CHARACTERS + 1])
    text = (fence[1] if fence else answer).strip()
    if len(text) > MAX_CHARACTERS:
        raise MapFault("yaml", f"more than {MAX_CHARACTERS:,} characters")
    try:
        _check_events(text)
        return yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 (it builds str, list and dict, nothing else)
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the scanner lets bad escapes and versions through
        raise MapFault("yaml", " ".join(str(error).split())) from None


def _check_events(text: str) -> None:
    depth = nodes = 0
    for event in yaml.parse(text, Loader=yaml.BaseLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) or getattr(event, "tag", None):
            raise MapFault("yaml", "an anchor, an alias or a tag")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        nodes += isinstance(event, yaml.NodeEvent)
        if depth > MAX_DEPTH or nodes > MAX_NODES:
            raise MapFault("yaml", "nested too deeply" if depth > MAX_DEPTH else f"more than {MAX_NODES:,} nodes")
