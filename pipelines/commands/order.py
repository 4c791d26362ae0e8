"""`gradatim order`: put the documents of token shards, or the visits of a mixture, in order by any policy."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from corpus.artifacts import Artifact
from corpus.config import Config, apply_overrides, validated
from corpus.errors import ConfigError
from corpus.scores import Better
from curriculum.arrange import ends_with
from curriculum.describe import describe
from curriculum.kinds import Policy
from curriculum.order import Order
from curriculum.policies.base import OrderPolicy
from pipelines.build import Workshop
from pipelines.candidates import direction_of
from pipelines.commands.inspect import open_by_name
from pipelines.commands.run import settings_lines
from pipelines.commands.workshop import RuntimeOptions, open_workshop, table_console
from pipelines.mixing import Mixture, phase_policies
from pipelines.ordering import order_of_tokens, order_of_visits
from pipelines.phase_orders import phase_orders
from pipelines.token_source import TokenSource


class OrderChoice(Config):
    """One policy, as `order:` holds it in a recipe."""

    order: Policy = Field(description="the policy")


def order_command(
    given: str,
    workspace: Path,
    options: dict[str, Any],
    overrides: Sequence[str],
    runtime: RuntimeOptions,
    *,
    phases: Sequence[str] = (),
    name: str | None = None,
    explain: bool = False,
) -> None:
    """Write `orders/<name>` and print what it looks like. `options` are settings of the policy, None: not set."""
    policy = policy_of(options, overrides)
    if explain:
        for line in settings_lines(policy):
            Console().print(line, highlight=False)
        return
    held = open_by_name(workspace, given)
    name = f"orders/{(name or policy.model_dump()['kind']).removeprefix('orders/')}"
    with open_workshop(workspace, runtime) as shop:
        order = ordered(shop, name, held, policy, phases)
    print_order(order, policy, _better(workspace, held, policy))


def policy_of(options: dict[str, Any], overrides: Sequence[str]) -> OrderPolicy:
    """The policy of settings and `--set key=value` ones. Raises ConfigError naming each that cannot be used."""
    data = {key: value for key, value in options.items() if value is not None}
    data = apply_overrides(data, overrides)
    if isinstance(data.get("by"), str) and "," in data["by"]:
        data["by"] = [name.strip() for name in data["by"].split(",")]
    return validated(OrderChoice, {"order": data}, "gradatim order").order


def ordered(
    shop: Workshop,
    name: str,
    held: Artifact,
    policy: OrderPolicy | Mapping[str, OrderPolicy],
    phases: Sequence[str] = (),
) -> Artifact:
    """Write the order of an artifact of tokens, each document once, or of a mixture's visits.

    Args:
        policy: for all of it, or for phases of a mixture by name; phases: the only ones a single policy is for.

    Raises ConfigError for an artifact that cannot be put in order, or phases where there are none.
    """
    if held.manifest.kind == "tokens":
        if phases or not isinstance(policy, OrderPolicy):
            raise ConfigError("tokens have no phases, so they take one policy", found=held.name)
        return order_of_tokens(shop, name, held, policy)
    if held.manifest.kind != "mixture":
        raise ConfigError(
            f"{held.name} cannot be put in order", expected="an artifact of tokens, or a mixture",
            found=f"kind {held.manifest.kind}", fix="gradatim ls prints the kind of each artifact",
        )  # fmt: skip
    mixture = Mixture.open(held)
    tokens = [open_by_name(shop.root, ref.name) for ref in held.manifest.inputs if _is_tokens(shop.root, ref.name)]
    under = held.manifest.config.get("under", {})
    sources = [TokenSource.of(item, under=under.get(item.name)) for item in tokens]
    if isinstance(policy, OrderPolicy):
        policies = phase_policies(mixture, policy, phases)
    else:
        policies = phase_orders(policy, mixture.mixed_orders())
    return order_of_visits(shop, name, held, policies, mixture.allocation.phases, sources)


def _is_tokens(root: Path, name: str) -> bool:
    return (root / name).is_dir() and open_by_name(root, name).manifest.kind == "tokens"


def _better(root: Path, held: Artifact, policy: OrderPolicy) -> Better | None:
    """Which end of the score that a policy orders by is the good one, where its rater says so."""
    column = next((need.removeprefix("-") for need in policy.needs), None)
    if column is None:
        return None
    names = [held.name] if held.manifest.kind == "tokens" else [ref.name for ref in held.manifest.inputs]
    sources = [TokenSource.of(open_by_name(root, name)) for name in names if _is_tokens(root, name)]
    return direction_of(sources, column)


def print_order(order: Artifact, policy: OrderPolicy, better: Better | None) -> None:
    """Print what an order measures: how sorted it is, how far visits moved, and what the last tokens are."""
    found, console = describe(Order(order).table()), table_console()
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    rows = [
        ("visits", f"{found['visits']:,}"), ("tokens", f"{found['tokens']:,}"),
        ("scored visits", f"{found['scored_visits']:,}"),
        ("rank correlation of position and score", _shown(found["spearman"], "+.4f")),
        ("displacement, mean", _shown(found["displacement_mean"], ".2%")),
        ("displacement, 95 %", _shown(found["displacement_p95"], ".2%")),
        ("mean score", _shown(found["score_mean"], ".4g")),
        ("mean score of the last 1 %", _shown(found["score_last_1_percent"], ".4g")),
    ]  # fmt: skip
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if better is not None:
        console.print(f"  ends with {ends_with(policy, better)}", highlight=False)
    shares = found["source_share_by_position"]
    for source, by_position in shares.items():
        low, high = min(by_position), max(by_position)
        console.print(f"  {escape(source)}: {low:.1%} to {high:.1%} of the tokens along the order", highlight=False)
    console.print(f"The order is in {order.folder}", highlight=False, soft_wrap=True)


def _shown(value: float | None, form: str) -> str:
    return "none" if value is None else format(value, form)
