"""`gradatim mix`: plan, check, build, show and compare mixtures, each with its table and its picture."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from corpus.artifacts import Artifact
from corpus.errors import ConfigError
from curriculum.order import Order
from mixtures.presets import preset
from pipelines.commands.inspect import open_by_name
from pipelines.commands.mix_tables import print_allocation, print_preset, print_presets
from pipelines.commands.run import settings_lines
from pipelines.commands.workshop import RuntimeOptions, open_workshop, table_console
from pipelines.mix_check import checked
from pipelines.mix_measure import measured
from pipelines.mix_settings import MixSettings, load_mix
from pipelines.mixing import SETTINGS, Mixing, Mixture
from pipelines.recipe import BUNDLED
from pipelines.report.mixture import MixturePage, write_mixture_page


@dataclass(frozen=True)
class MixOptions:
    """What the command line says of a mixture: its file, overrides, and settings of a preset."""

    file: Path | None
    workspace: Path
    overrides: tuple[str, ...] = ()
    preset: str | None = None
    roles: Sequence[str] = ()
    shares: Sequence[str] = ()
    score: str | None = None
    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)

    def load(self) -> tuple[MixSettings, Path]:
        """The settings, and the folder of their paths. Raises ConfigError and MixtureError."""
        if self.file is None and self.preset is None and not self.overrides:
            raise ConfigError(
                "no mixture is named", expected="a file such as mix.yaml, or --preset", fix="gradatim mix presets"
            )
        bundled = self.file == Path("demo") and not self.file.is_file()
        return load_mix(BUNDLED / SETTINGS if bundled else self.file, self.overrides, chosen=self._chosen())

    def name(self, given: str | None) -> str:
        """The name of the mixture: as given, else that of its file, else that of its preset."""
        name = given or (self.file.name.split(".")[0] if self.file else self.preset) or "mix"
        if not name or any(mark in name for mark in "/\\") or name.startswith((".", "_")):
            raise ConfigError(f"a mixture cannot be called {name!r}", expected="a plain name", fix="--name diet")
        return name

    def _chosen(self) -> dict[str, Any]:
        chosen: dict[str, Any] = {"name": self.preset} if self.preset else {}
        roles = dict(_pair(text, "--role", "web=crawl/*") for text in self.roles)
        shares: dict[str, dict[str, str]] = {}
        for text in self.shares:
            place, share = _pair(text, "--share", "decay.web=60%")
            phase, _, role = place.partition(".")
            shares.setdefault(phase, {})[role] = share
        return chosen | {
            key: value for key, value in (("roles", roles), ("shares", shares), ("score", self.score)) if value
        }


def explain_command(options: MixOptions) -> None:
    """Print every setting as resolved, with its meaning; without a file, those of one source and one phase."""
    if options.file is None and options.preset is None:
        phase = {"name": "all", "tokens": "100%", "sources": {"web": "100%"}}
        settings = MixSettings.model_validate({"sources": {"web": "100%"}, "phases": [phase]})
    else:
        settings, _ = options.load()
    for line in settings_lines(settings):
        Console().print(line, highlight=False)


def plan_command(options: MixOptions, *, name: str | None = None) -> None:
    """Print what the mixture comes to, and write its page. Raises MixtureError where it cannot be had."""
    settings, base = options.load()
    with open_workshop(options.workspace, options.runtime) as shop:
        allocation = Mixing(shop, settings, base).plan()
    print_allocation(allocation)
    _print_page(options.workspace, MixturePage(options.name(name), allocation))


def check_command(options: MixOptions, *, name: str | None = None) -> int:
    """Print the plan and everything that stands in its way; returns 1 where something does, else 0."""
    settings, base = options.load()
    with open_workshop(options.workspace, options.runtime) as shop:
        mixing = Mixing(shop, settings, base)
        found = checked(mixing.available, settings)
        if not found.problems:
            found = replace(found, problems=mixing.order_problems())
    console = table_console()
    if found.allocation is not None:
        print_allocation(found.allocation)
        _print_page(options.workspace, MixturePage(options.name(name), found.allocation, problems=found.problems))
    for problem in found.problems:
        console.print(f"[bold red]cannot be had[/]  {escape(problem)}", highlight=False, soft_wrap=True)
    for way in found.ways_out:
        console.print(f"  [bold]to fix[/]  {escape(way)}", highlight=False, soft_wrap=True)
    if not found.problems:
        console.print("[green]ok[/] the mixture can be had as it is written", highlight=False)
    return 1 if found.problems else 0


def build_command(options: MixOptions, *, name: str | None = None) -> None:
    """Write the mixture and its order, and print what they really give."""
    settings, base = options.load()
    name = options.name(name)
    with open_workshop(options.workspace, options.runtime) as shop:
        mixing = Mixing(shop, settings, base)
        mixture, order = mixing.build(name)
        for line in mixing.misdeclared():
            shop.progress.say(f"  note: {line}")
    _show(options.workspace, name, mixture, order)


def show_command(workspace: Path, name: str) -> None:
    """Print a built mixture again, with its order where there is one."""
    mixture = Mixture.open(open_by_name(workspace, f"mixture/{name.removeprefix('mixture/')}"))
    name = mixture.artifact.name.removeprefix("mixture/")
    folder = workspace / "orders" / name
    _show(workspace, name, mixture, Artifact(folder) if (folder / "manifest.json").exists() else None)


def presets_command(name: str | None) -> None:
    """List the presets, or print one: phases, roles, shares, and where its figures come from."""
    if name is None:
        print_presets()
    else:
        print_preset(preset(name))


def _show(workspace: Path, name: str, mixture: Mixture, order: Artifact | None) -> None:
    found = measured(mixture.allocation, Order(order)) if order else None
    print_allocation(mixture.allocation, found)
    console = table_console()
    artifacts = [mixture.artifact, *([order] if order else [])]
    for artifact in artifacts:
        totals = artifact.manifest.totals
        held = f"{totals['visits']:,} visits, {totals['tokens']:,} tokens"
        console.print(
            f"  {artifact.folder}: {held}, fingerprint {artifact.manifest.fingerprint}", highlight=False, soft_wrap=True
        )
    _print_page(workspace, MixturePage(name, mixture.allocation, artifacts, found))


def _print_page(workspace: Path, shown: MixturePage) -> None:
    html, image = write_mixture_page(workspace, shown)
    table_console().print(f"Open {html}; the picture alone is {image.name} beside it", highlight=False, soft_wrap=True)


def _pair(text: str, option: str, example: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise ConfigError(f"cannot read {option} {text}", expected=f"{option} {example}")
    return name, value
