"""`gradatim mix diff`: two mixtures side by side, and from which token on their orders differ."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from corpus.artifacts import MANIFEST, Artifact
from corpus.errors import ArtifactError
from curriculum.common_prefix import common_tokens
from curriculum.order import Order
from mixtures.allocation import Allocation, Component
from pipelines.commands.inspect import open_by_name
from pipelines.commands.mix_tables import count
from pipelines.commands.workshop import RuntimeOptions, open_workshop, table_console
from pipelines.mix_settings import load_mix
from pipelines.mixing import Mixing, Mixture


@dataclass(frozen=True)
class Side:
    """One of two mixtures: its name, what it comes to, its settings, and its order where it was built."""

    name: str
    allocation: Allocation
    settings: Mapping[str, Any]
    order: Artifact | None
    tokens: Mapping[str, str]


def diff_command(first: str, second: str, workspace: Path, runtime: RuntimeOptions) -> None:
    """Compare two mixtures, each a file that is planned now or a name that was built."""
    a, b = _side(first, workspace, runtime), _side(second, workspace, runtime)
    console = table_console()
    console.print(_components(a, b))
    for line in _phases(a, b):
        console.print(f"  {line}", highlight=False, soft_wrap=True)
    changed = list(changes(a.settings, b.settings))
    for line in changed:
        console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)
    if not changed:
        console.print("  their settings are the same", highlight=False)
    console.print(escape(_prefix(a, b)), highlight=False, soft_wrap=True)


def changes(a: Any, b: Any, path: str = "") -> Iterator[str]:
    """Settings that differ, one line each: the dotted path, and both values."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in dict.fromkeys((*a, *b)):
            yield from changes(a.get(key), b.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(a, list | tuple) and isinstance(b, list | tuple):
        for i in range(max(len(a), len(b))):
            name = next((side[i]["name"] for side in (a, b) if i < len(side) and _named(side[i])), str(i))
            yield from changes(a[i] if i < len(a) else None, b[i] if i < len(b) else None, f"{path}.{name}")
    elif a != b:
        yield f"{path}: {_value(a)} -> {_value(b)}"


def _side(given: str, workspace: Path, runtime: RuntimeOptions) -> Side:
    path = Path(given)
    if path.is_file():
        settings, base = load_mix(path)
        with open_workshop(workspace, runtime) as shop:
            mixing = Mixing(shop, settings, base)
            allocation = mixing.plan()
        return Side(given, allocation, settings.told(), None, {})
    name = given.removeprefix("mixture/")
    if not (workspace / "mixture" / name / MANIFEST).exists():
        raise ArtifactError(
            f"there is neither a file nor a built mixture {given!r}", where=str(workspace),
            fix="gradatim mix build FILE builds one; gradatim ls lists what there is",
        )  # fmt: skip
    mixture = Mixture.open(open_by_name(workspace, f"mixture/{name}"))
    folder = workspace / "orders" / name
    order = Artifact(folder) if (folder / MANIFEST).exists() else None
    data = {key: value for key, value in mixture.settings.items() if key != "inputs"}
    refs = {ref.name: ref.fingerprint for ref in (order or mixture.artifact).manifest.inputs}
    return Side(name, mixture.allocation, data, order, refs)


def _components(a: Side, b: Side) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("source", f"share in {a.name}", f"in {b.name}", "points", "tokens", "", "visits", ""):
        table.add_column(escape(heading), justify="left" if heading == "source" else "right")
    ours, theirs = ({one.name: one for one in side.allocation.components} for side in (a, b))
    for name in dict.fromkeys((*ours, *theirs)):
        x, y = ours.get(name), theirs.get(name)
        shares = [one.tokens / side.allocation.tokens if one else 0.0 for one, side in ((x, a), (y, b))]
        table.add_row(
            escape(name), *(f"{100 * share:.4g} %" for share in shares), f"{100 * (shares[1] - shares[0]):+.2f}",
            _tokens(x), _tokens(y), _visits(x), _visits(y),
        )  # fmt: skip
    table.add_section()
    totals = [count(side.allocation.tokens) for side in (a, b)]
    table.add_row("total", "", "", "", *totals, "", "", style="bold")
    return table


def _phases(a: Side, b: Side) -> Iterator[str]:
    """Phases of either, where they are not the same in both."""
    ours, theirs = ({one.name: one for one in side.allocation.intervals} for side in (a, b))
    if set(ours) | set(theirs) == {""}:
        return
    for name in dict.fromkeys((*ours, *theirs)):
        x, y = ours.get(name), theirs.get(name)
        shown = [f"{one.tokens:,} tokens, ramp {one.ramp_tokens:,}" if one else "not there" for one in (x, y)]
        yield f"phase {escape(name) or 'without a name'}: " + (shown[0] if shown[0] == shown[1] else " -> ".join(shown))


def _prefix(a: Side, b: Side) -> str:
    if a.order is None or b.order is None:
        missing = next(side.name for side in (a, b) if side.order is None)
        return f"{missing} has no order yet, so there are none to compare: gradatim mix build"
    other = sorted(name for name in set(a.tokens) & set(b.tokens) if name != "" and a.tokens[name] != b.tokens[name])
    if any(not name.startswith("mixture/") for name in other):
        return f"their tokens are not the same: {', '.join(other)} changed between the two builds"
    same = common_tokens(Order(a.order), Order(b.order))
    tokens = [side.allocation.tokens for side in (a, b)]
    if same == tokens[0] == tokens[1]:
        return f"their orders are the same, all {same:,} tokens"
    if same == min(tokens):
        return f"the shorter order, {same:,} tokens, is how the longer one begins"
    return f"their orders are the same up to token {same:,}{_during(a.allocation, same)} and differ from there on"


def _during(allocation: Allocation, place: int) -> str:
    begin = 0
    for interval in allocation.intervals:
        if place < begin + interval.tokens:
            return f", {place - begin:,} into {interval.name}" if interval.name else ""
        begin += interval.tokens
    return ""


def _tokens(one: Component | None) -> str:
    return "" if one is None else count(one.tokens)


def _visits(one: Component | None) -> str:
    return "" if one is None else f"{one.epochs:.2f}"


def _named(item: Any) -> bool:
    return isinstance(item, Mapping) and isinstance(item.get("name"), str)


def _value(value: Any) -> str:
    return "not set" if value is None else str(value)
