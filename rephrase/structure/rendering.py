"""Put a leaf after its mind map: the text that a model is trained on, so that it meets each piece in its place.

The map stands first in one of several wordings, drawn by key, and takes at most a share of the leaf's tokens: where the
whole map is too long, only the way to the leaf with its neighbours is shown, then the way alone, then the leaf's name,
then nothing. The wordings are English; a text in another language gets the map without words around it.
"""

from collections.abc import Callable, Iterator

from corpus.keyed_random import keyed_hashes
from rephrase.structure.mindmap import Aspect, Leaf, MindMap

MAP_WORDINGS = (
    "An outline of {scope}:\n\n{map}\n\nThis is the part on {leaf}.",
    "{scope}, part by part:\n\n{map}\n\nThe text of {leaf}:",
    "The subject is {scope}. It divides as follows.\n\n{map}\n\nWhat comes next belongs under {leaf}.",
    "Contents of {scope}\n\n{map}\n\nNow reading: {leaf}",
    "How {scope} hangs together:\n\n{map}\n\nOf these, {leaf} reads:",
    "A map of {scope} has these branches:\n\n{map}\n\nThe branch {leaf} in full:",
    "Before the details, the structure of {scope}:\n\n{map}\n\nThe details of {leaf}:",
    "Someone who studies {scope} will meet these topics:\n\n{map}\n\nOn {leaf} there is this to say.",
    "Topics under {scope}:\n\n{map}\n\nTopic at hand: {leaf}",
    "{map}\n\nThe list above arranges {scope}; the lines below are about {leaf}.",
)
PATH_WORDINGS = (
    "{path}",
    "In this part: {path}",
    "Place in the whole: {path}",
    "Under {path}:",
    "Topic: {path}",
    "From {scope}, on {leaf}:",
)
_BARE_MAP, _BARE_PATH = "{map}\n\n{path}", "{path}"
_STEP = " > "


def outline(mindmap: MindMap, max_lines: int | None = None) -> str:
    """The map as an indented list: the scope on a line of its own, then the aspects, two blanks more a level.

    Of a map with more lines than `max_lines` the first ones, and a last one that says how many are missing.
    """
    lines = [mindmap.scope, *_lines(mindmap.aspects, None, 0)]
    if max_lines is not None and len(lines) > max_lines:
        lines[max_lines - 1 :] = [f"... ({len(lines) - max_lines + 1:,} more)"]
    return "\n".join(lines)


def path_name(path: tuple[str, ...]) -> str:
    """A path as the order `taxonomy_dfs` reads it: names parted by `/`; one inside a name becomes `-`."""
    return "/".join(name.replace("/", "-") for name in path)


def rendered(
    body: str, leaf: Leaf, mindmap: MindMap, *, key: str, seed: int, english: bool, share: float,
    count_tokens: Callable[[str], int],
) -> str:  # fmt: skip
    """The leaf's text after as much of its map as `share` of the tokens of both allows; the text is never changed.

    Args:
        body: the text of the leaf.
        key, seed: decide the wording, and nothing else does.
        share: the most that the prefix may have of the tokens of the whole, in [0, 1).
    """
    if len(leaf.path) == 1 and " ".join(body.split()).startswith(leaf.path[0]):
        return body  # its own first words, where nothing better is known, tell nothing about it
    draw = int(keyed_hashes(seed, [f"{key}/wording"])[0])
    for prefix in _prefixes(leaf, mindmap, draw, english):
        whole = f"{prefix}\n\n{body}"
        if count_tokens(prefix) <= share * count_tokens(whole):
            return whole
    return body


def _prefixes(leaf: Leaf, mindmap: MindMap, draw: int, english: bool) -> Iterator[str]:
    """From the fullest to the shortest."""
    over_map = MAP_WORDINGS[draw % len(MAP_WORDINGS)] if english else _BARE_MAP
    over_path = PATH_WORDINGS[draw // len(MAP_WORDINGS) % len(PATH_WORDINGS)] if english else _BARE_PATH
    names = {"scope": mindmap.scope, "leaf": leaf.path[-1], "path": _STEP.join(leaf.path)}
    for lines in (_lines(mindmap.aspects, None, 0), _lines(mindmap.aspects, leaf.path[1:], 0)):
        yield over_map.format(**names, map="\n".join(lines))
    yield over_path.format(**names)
    yield names["path"]
    yield names["leaf"]


def _lines(aspects: tuple[Aspect, ...], way: tuple[str, ...] | None, depth: int) -> Iterator[str]:
    """Lines of the list; with a `way`, only the aspects along it open."""
    for aspect in aspects:
        yield f"{'  ' * depth}- {aspect.name}"
        if way is None:
            yield from _lines(aspect.parts, None, depth + 1)
        elif way[:1] == (aspect.name,):
            yield from _lines(aspect.parts, way[1:], depth + 1)
