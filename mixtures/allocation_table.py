"""An allocation as rows of text: what each component asked for and got, how often it is read, and what bound it.

How it is used: `allocation_table(allocation)` for the run as a whole, `phase_table(allocation)` for each phase.
"""

from mixtures.allocation import Allocation

Rows = list[dict[str, str]]


def allocation_table(allocation: Allocation) -> Rows:
    """A row for each component over the whole run; the last row is the total."""
    rows = [
        {
            "source": one.name,
            "asked": _percent(one.asked_tokens / allocation.tokens),
            "asked tokens": f"{one.asked_tokens:,}",
            "given tokens": f"{one.tokens:,}",
            "given": _percent(one.tokens / allocation.tokens),
            "documents": f"{one.documents:,}",
            "available tokens": f"{one.available_tokens:,}",
            "visits": f"{one.epochs:.2f}",
            "worth": f"{one.effective_epochs:.2f}",
            "cap": f"{one.max_visits:g}",
            "bound by": one.bound,
        }
        for one in allocation.components
    ]
    held = sum(one.available_tokens for one in allocation.components)
    total = {
        "source": "total",
        "asked": "100%",
        "asked tokens": f"{sum(one.asked_tokens for one in allocation.components):,}",
        "given tokens": f"{allocation.tokens:,}",
        "given": "100%",
        "documents": f"{sum(one.documents for one in allocation.components):,}",
        "available tokens": f"{held:,}",
        "visits": f"{allocation.tokens / held:.2f}",
        "worth": "",
        "cap": "",
        "bound by": "",
    }
    return [*rows, total]


def phase_table(allocation: Allocation) -> Rows:
    """A row for each phase and component; a ramp shows the share it begins at and the one it ends at."""
    return [
        {
            "phase": interval.name,
            "source": row.component,
            "asked": _percent(float(row.asked_share)),
            "share": _percent(float(row.share))
            if row.start_share == row.share
            else f"{_percent(float(row.start_share))} to {_percent(float(row.share))}",
            "given tokens": f"{row.tokens:,}",
            "given": _percent(row.tokens / interval.tokens),
            "visits": f"{row.epochs:.2f}",
            "bound by": row.bound,
        }
        for interval in allocation.intervals
        for row in interval.rows
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.4g}%"
