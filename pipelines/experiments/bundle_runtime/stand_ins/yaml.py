"""Plain data as text, in the part of YAML that is JSON: what a bundle needs of PyYAML.

What is written here, PyYAML reads; of YAML files only those that are JSON can be read here.
"""

import json
from typing import Any


class YAMLError(ValueError):
    """Text that is not JSON."""


class SafeLoader:
    """The only way of reading there is; constructors are not asked."""

    @classmethod
    def add_constructor(cls, tag: str, constructor: Any) -> None:
        """Nothing: JSON has no tags."""


class MappingNode:
    """A name that annotations use."""


class resolver:
    """Where PyYAML keeps the tag of a mapping."""

    class BaseResolver:
        """See above."""

        DEFAULT_MAPPING_TAG = "tag:yaml.org,2002:map"


def safe_dump(data: Any, sort_keys: bool = True, **_: Any) -> str:
    """Plain data as JSON, which is YAML."""
    return json.dumps(data, indent=1, sort_keys=sort_keys) + "\n"


def load(text: str, Loader: Any = SafeLoader) -> Any:
    """Read JSON. Raises YAMLError for other text."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise YAMLError(str(error)) from None


safe_load = load
