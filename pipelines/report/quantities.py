"""How the report writes numbers: thousands separators, units, and nothing more digits than the data hold."""

from collections.abc import Sequence


def count(number: int | float, unit: str = "") -> str:
    """A whole number with separators, and its unit in the singular for one: `1,204 documents`, `1 document`."""
    text = f"{number:,.0f}"
    if not unit:
        return text
    return f"{text} {unit.removesuffix('s') if number == 1 else unit}"


def percent(share: float, digits: int = 1) -> str:
    """A share in per cent; shares that would round to 0 or 100 without being it say so."""
    text = f"{100 * share:.{digits}f}"
    if share > 0 and float(text) == 0:
        return f"under {10**-digits:g} %"
    if share < 1 and float(text) == 100:
        return f"over {100 - 10**-digits:g} %"
    return f"{text} %"


def size(n_bytes: int | float) -> str:
    """Bytes in decimal units: `812 B`, `1.6 MB`."""
    value = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.3g} {unit}" if value < 100 else f"{value:,.0f} {unit}"


def tokens(number: int | float) -> str:
    """Tokens as people say them: `1.23 M tokens`, `41,200 tokens`."""
    for unit, scale in (("B", 1e9), ("M", 1e6)):
        if number >= scale:
            return f"{number / scale:.3g} {unit} tokens"
    return count(number, "tokens")


def signed(number: float, digits: int = 2) -> str:
    """A number with its sign, and a true minus."""
    return f"{number:+.{digits}f}".replace("-", "\u2212")


def seconds(number: float) -> str:
    """A time span: `4.2 s`, `3 min 05 s`."""
    if number < 60:
        return f"{number:.1f} s"
    whole = round(number)
    return f"{whole // 60} min {whole % 60:02d} s"


def listed(items: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else "".join(items)
