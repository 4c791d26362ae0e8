"""What `gradatim mix` prints: the tables of an allocation, a bar of shares for each phase, and the presets."""

from collections.abc import Sequence
from fractions import Fraction

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mixtures.allocation import Allocation, amount
from mixtures.presets import PRESETS, Preset
from mixtures.shares import largest_remainder
from pipelines.commands.workshop import table_console
from pipelines.mix_measure import Measured

BAR = 60  # characters of a bar
SHORT_FROM = 10**9  # larger counts are printed as 12.50 B
COLOURS = ("blue", "dark_orange3", "green4", "medium_purple3", "gold3", "cyan", "deep_pink3", "grey62")
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def print_allocation(allocation: Allocation, found: Measured | None = None) -> None:
    """The tables of an allocation, a bar for each phase, the warnings, and what its order measures."""
    console = table_console()
    console.print(_run_table(allocation, found))
    if len(allocation.intervals) > 1:
        console.print(_phase_table(allocation))
    for line in phase_bars(allocation):
        console.print(line, soft_wrap=True)
    for warning in allocation.warnings:
        console.print(f"  [yellow]note[/] {escape(warning)}", highlight=False, soft_wrap=True)
    if found:
        console.print(f"  {escape(_measured(found))}", highlight=False, soft_wrap=True)


def phase_bars(allocation: Allocation) -> list[Text]:
    """A bar of shares for each phase, in the letters of the table; a ramp has one for where it begins, too."""
    bars: list[tuple[str, list[Fraction], str]] = []
    for interval in allocation.intervals:
        if interval.ramp_tokens:
            ramp = f"{count(interval.ramp_tokens)} of ramp"
            bars.append((f"{interval.name} from", [row.start_share for row in interval.rows], ramp))
        bars.append((interval.name, [row.share for row in interval.rows], count(interval.tokens)))
    wide = max(len(label) for label, _, _ in bars)
    lines = []
    for label, shares, tokens in bars:
        line = Text(f"  {label:<{wide}} ")
        for i, cells in enumerate(largest_remainder(shares, BAR)):
            line.append(LETTERS[i % len(LETTERS)] * cells, style=letter_style(i))
        lines.append(line.append(f" {tokens}"))
    return lines


def count(tokens: int) -> str:
    """Tokens to the last one while they fit a table."""
    return amount(tokens) if tokens >= SHORT_FROM else f"{tokens:,}"


def print_presets() -> None:
    """A row for each preset."""
    table = _table(("preset", "phases", "roles", "figures", "source"))
    for one in PRESETS.values():
        table.add_row(one.name, str(len(one.phases)), ", ".join(_roles(one)), one.mark, one.source)
    table_console().print(table)


def print_preset(one: Preset) -> None:
    """The phases of a preset, its notes, and how to use it."""
    console = table_console()
    console.print(f"[bold]{one.name}[/]  {escape(one.source)} (figures: {one.mark})", highlight=False)
    table = _table(("phase", "of the run", "shares", "learning rate"))
    for phase in one.phases:
        shown = f"not published: {', '.join(phase.roles)}"
        if phase.shares:
            shown = ", ".join(f"{role} {_percent(float(phase.shares[role]))}" for role in phase.roles)
        table.add_row(phase.name, _percent(float(phase.length)), shown, phase.lr)
    console.print(table)
    for note in one.notes:
        console.print(f"  {escape(note)}", highlight=False, soft_wrap=True)
    roles = " ".join(f"--role {role}=..." for role in _roles(one))
    console.print(f"gradatim mix plan --preset {one.name} {roles}", highlight=False, soft_wrap=True)


def _roles(one: Preset) -> list[str]:
    return list(dict.fromkeys(role for phase in one.phases for role in phase.roles))


def _measured(found: Measured) -> str:
    error = f"{100 * found.share_error:.2g} %" if found.share_error else "0"
    said = f"measured in the order: shares of phases are off by at most {error}"
    return (
        f"{said}; {found.drift_of} is never further than {found.drift:,.0f} tokens from its share"
        if found.drift
        else said
    )


def _run_table(allocation: Allocation, found: Measured | None) -> Table:
    given = "measured" if found else "given"
    table = _table(
        ("", "source", "asked", given, "tokens", "documents", "available", "visits", "worth", "cap", "bound by"),
        left=("", "source", "bound by"),
    )
    for i, one in enumerate(allocation.components):
        tokens = int(found.tokens[:, i].sum()) if found else one.tokens
        table.add_row(
            Text(LETTERS[i % len(LETTERS)], style=letter_style(i)), escape(one.name),
            _percent(one.asked_tokens / allocation.tokens), _percent(tokens / allocation.tokens), count(tokens),
            f"{one.documents:,}" if one.documents else "", count(one.available_tokens), f"{one.epochs:.2f}",
            f"{one.effective_epochs:.2f}", f"{one.max_visits:g}", escape(one.bound),
        )  # fmt: skip
    held = sum(one.available_tokens for one in allocation.components)
    documents = sum(one.documents for one in allocation.components)
    table.add_section()
    table.add_row(
        "", "total", "", "", count(allocation.tokens), f"{documents:,}" if documents else "", count(held),
        f"{allocation.tokens / held:.2f}" if held else "", "", "", "", style="bold",
    )  # fmt: skip
    return table


def _phase_table(allocation: Allocation) -> Table:
    headings = []
    for interval in allocation.intervals:
        ramp = f", ramp {count(interval.ramp_tokens)}" if interval.ramp_tokens else ""
        headings += [escape(f"{interval.name} {count(interval.tokens)}{ramp}"), "visits"]
    table = _table(("", "source", *headings), left=("", "source"))
    for i, one in enumerate(allocation.components):
        cells = []
        for interval in allocation.intervals:
            row = interval.rows[i]
            start = f"{_percent(float(row.start_share))} to " if row.start_share != row.share else ""
            visits = row.tokens / one.available_tokens if one.available_tokens else 0.0
            cells += [f"{start}{_percent(float(row.share))}", f"{visits:.2f}"]
        table.add_row(Text(LETTERS[i % len(LETTERS)], style=letter_style(i)), escape(one.name), *cells)
    return table


def _table(headings: Sequence[str], left: Sequence[str] | None = None) -> Table:
    """A plain table; columns that are not in `left` hold numbers."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        justify = "left" if left is None or heading in left else "right"
        table.add_column(heading, justify=justify, no_wrap=left is not None)  # type: ignore[arg-type]
    return table


def letter_style(i: int) -> str:
    """The colours of the n-th source's letter."""
    return f"black on {COLOURS[i % len(COLOURS)]}"


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"
