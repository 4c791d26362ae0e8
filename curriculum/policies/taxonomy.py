"""Documents along a taxonomy, as a textbook would have them: depth first, siblings in the order they came in.

A path such as `science/physics/optics` names the leaf a document belongs to. A node's own documents come before those
of its children, and the children in the order of their first document in the shards; the documents of a leaf stay
together, in document order. With `within` a column of top-level fields, these advance together, chapter by chapter.
"""

from typing import Literal

import pyarrow as pa
from pydantic import Field

from curriculum.arrangement import Lookup, Step
from curriculum.policies.base import Ask, MergedPolicy, named

_DOCUMENT = "CAST(shard AS BIGINT) * 2147483648 + doc"


class TaxonomyDfs(MergedPolicy):
    """Depth first through the paths; documents of a leaf in document order."""

    kind: Literal["taxonomy_dfs"] = "taxonomy_dfs"
    path: str = Field(default="taxonomy_path", description="the column with each document's path")
    separator: str = Field(default="/", min_length=1, description="what stands between the names of a path")

    @property
    def ordered_by(self) -> tuple[str, ...]:
        """The path."""
        return (self.path,)

    @property
    def names(self) -> tuple[str, ...]:
        """What parts the groups, and the path."""
        return (*super().names, self.path)

    def steps(self, groups: tuple[str, ...], ask: Ask) -> tuple[Step, ...]:
        """The place of each path in the walk."""
        paths = ask(
            f"SELECT {named(self.path)} AS name, min({_DOCUMENT}) AS first FROM visits GROUP BY {named(self.path)}"
        )
        walk = depth_first(
            dict(zip(paths["name"].to_pylist(), paths["first"].to_pylist(), strict=True)), self.separator
        )
        return (Lookup(named(self.path), pa.table({"_name": pa.array(walk, pa.string()), "_node": range(len(walk))})),)

    def keys(self) -> tuple[str, ...]:
        """The leaf, the document, the visit, the piece."""
        return (self.set_apart(), "_node", _DOCUMENT, "visit", "start")


def depth_first(first: dict[str, int], separator: str = "/") -> list[str]:
    """Paths in the order of a depth-first walk, siblings by the lowest number of anything below them.

    Args:
        first: for each path the number of its first document; no two paths have the same.
    """
    lowest: dict[tuple[str, ...], int] = {}
    for path, number in first.items():
        names = tuple(path.split(separator))
        for depth in range(1, len(names) + 1):
            node = names[:depth]
            lowest[node] = min(number, lowest.get(node, number))

    def place(path: str) -> list[int]:
        names = tuple(path.split(separator))
        return [lowest[names[:depth]] for depth in range(1, len(names) + 1)]

    return sorted(first, key=place)
