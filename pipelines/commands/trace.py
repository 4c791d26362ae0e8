"""`gradatim trace`: from a training step back to its documents."""

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from corpus.config import validated
from pipelines.commands.inspect import open_by_name


def trace_command(workspace: Path, arm: str, step: int) -> None:
    """Print the document visits of one optimizer step of a run, in the order the model read them."""
