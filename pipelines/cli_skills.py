"""`gradatim skill-pairs`: what it takes. Nothing heavy is imported."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli_options import DEFAULT, Workspace


def skill_pairs(
    failed: Annotated[
        Path,
        typer.Argument(
            help="JSON lines with id, question and skill: validation questions a model failed, each with a "
            "skill it lacked."
        ),
    ],
    pool: Annotated[
        Path,
        typer.Argument(help="JSON lines with id, question, skill and perhaps solution: where seeds are drawn from."),
    ],
    seeds: Annotated[int, typer.Option(min=1, help="Questions with the skill that a model is shown, a pair.")] = 3,
    max_pairs: Annotated[int | None, typer.Option(min=1, help="The most pairs, drawn by key. Default: all.")] = None,
    seed: Annotated[int, typer.Option(help="Of all draws.")] = 0,
    lang: Annotated[str, typer.Option(help="The language of the questions.")] = "en",
    licence: Annotated[str | None, typer.Option(help="Of the pool; what is made from it inherits it.")] = None,
    name: Annotated[str, typer.Option(help="The name of the artifact that is written.")] = "skill_pairs",
    workspace: Workspace = DEFAULT,
) -> None:
    """Turn failed questions into documents for the style [b]skill_synthesis[/b], one a missing skill.

    The failed questions decide which skills are trained and are never shown to a model; seeds come from the pool.

    Example:  gradatim skill-pairs failed.jsonl pool.jsonl -w demo
    """
    from pipelines.commands.skill_pairs import skill_pairs_command

    options = {"n_seeds": seeds, "max_pairs": max_pairs, "seed": seed, "lang": lang, "licence": licence}
    skill_pairs_command(failed, pool, workspace, options, name=name)
