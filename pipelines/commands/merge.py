"""`gradatim merge`: choose checkpoints, merge them, and print what the result is made of."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from rich.markup import escape
from rich.table import Table

from corpus.config import Config, Count, parsed, validated
from corpus.errors import ConfigError
from pipelines.commands.workshop import table_console
from trainer_hooks.average_kinds import AnyAverage, Averages, StepEma
from trainer_hooks.merge_choice import Chosen, checkpoints_of, chosen
from trainer_hooks.merging import merge


class _Asked(Config):
    average: Averages


def merge_command(
    checkpoints: Sequence[Path],
    to: Path,
    run: Path | None,
    average: str,
    tokens: str | None,
    options: dict[str, Any],
) -> None:
    """Merge named checkpoints, or those of a run, and print coefficients and the decay they imply.

    Args:
        average: settings as a plan has them, as YAML; tokens: counts with commas; options: of `merge`.
    """
    asked = _choose(checkpoints, run, _average(average), tokens)
    manifest = merge(asked, to, **options)
    _print(asked, manifest, to)


def _choose(checkpoints: Sequence[Path], run: Path | None, average: AnyAverage, tokens: str | None) -> Chosen:
    if bool(checkpoints) == (run is not None):
        raise ConfigError(
            "nothing says which checkpoints to merge" if run is None else "checkpoints are named twice",
            expected="either checkpoints, oldest first, or --run with a run's folder",
        )
    if run is not None:
        if tokens:
            raise ConfigError("--tokens goes with named checkpoints; those of a run record theirs")
        return checkpoints_of(run, average)
    if isinstance(average, StepEma):
        raise ConfigError("a mean of every optimizer step cannot be taken from checkpoints",
                          fix="merge with ema_debiased")  # fmt: skip
    return chosen(checkpoints, average, None if tokens is None else _counts(tokens))


def _average(text: str) -> AnyAverage:
    found = validated(_Asked, {"average": parsed(text, "--average")}, "--average").average
    if len(found) != 1:
        raise ConfigError("one average is merged at a time", found=", ".join(found) or "none", where="--average")
    return next(iter(found.values()))


def _counts(text: str) -> list[int]:
    try:
        return TypeAdapter(list[Count]).validate_python([part.strip() for part in text.split(",")])
    except ValidationError:
        raise ConfigError("--tokens are counts with commas", expected="10B,12B,14B", found=text) from None


def _print(asked: Chosen, manifest: dict[str, Any], to: Path) -> None:
    console = table_console()
    for warning in asked.warnings:
        console.print(f"warning: {escape(warning)}")
    table = Table("checkpoint", "tokens", "coefficient", "updates before it count", box=None)
    decay = ["1.0000", *(f"{value:.4f}" for value in manifest["implied_decay"])]
    for part, weight in zip(manifest["checkpoints"], decay, strict=True):
        seen = "" if part["tokens"] is None else f"{part['tokens']:,}"
        table.add_row(escape(part["name"]), seen, f"{part['coefficient']:.4f}", weight)
    console.print(table)
    console.print(f"{manifest['tensors']} tensors in {manifest['dtype']}: {escape(str(to))}, {to.stem}.json")
