"""`gradatim evaluate`, `compare` and `forgetting`: what a model knows, what changed, what was lost.

Nothing heavy is imported.
"""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli_options import DEFAULT, Workspace

Tokenizer = Annotated[
    Path | None, typer.Option(help="A tokenizer.json. Default: the one by the model.", show_default=False)
]
Context = Annotated[
    int | None, typer.Option(min=2, help="The longest sequence, in tokens. Default: what the model is told to serve.")
]
Neutral = Annotated[
    str | None,
    typer.Option(help="A context that says nothing, such as [b]Answer:[/b], to judge by mutual information too."),
]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first line that is no question.")]
BatchTokens = Annotated[int, typer.Option(min=1, help="Tokens of a batch, padding included.")]
Device = Annotated[str | None, typer.Option(help="[b]cpu[/b] or [b]cuda[/b]. Default: a GPU where there is one.")]
Precision = Annotated[str, typer.Option(help="Matrix products in [b]fp32[/b], [b]bf16[/b], or [b]auto[/b].")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


def evaluate(
    model: Annotated[
        Path, typer.Argument(help="An export, a run's folder, a checkpoint, or a local folder of transformers.")
    ],
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILES...", help="Files of questions, JSONL, also .gz.")
    ] = None,
    held_out: Annotated[
        str | None,
        typer.Option("--held-out", help="Measure the loss too, on an artifact of tokens: [b]heldout_tokens[/b]."),
    ] = None,
    weights: Annotated[
        str, typer.Option(help="Of a run: [b]raw[/b], the name of an average, or [b]all[/b] of them.")
    ] = "all",
    together: Annotated[
        list[Path] | None,
        typer.Option(
            "--together",
            help="Another model: evaluate both, and both as one by their mean log-probabilities. Repeatable.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A folder for answers (NAME.jsonl) and evaluation.json.")
    ] = None,
    chance: Annotated[
        str,
        typer.Option(help="What a guess gets: [b]items[/b] (1 / options), or a YAML file: version, chance by task."),
    ] = "items",
    neutral: Neutral = None,
    tokenizer: Tokenizer = None,
    context: Context = None,
    sequence_length: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens of a held-out window. Default: as the run was trained, else the context."),
    ] = None,
    batch_tokens: BatchTokens = 8192,
    precision: Precision = "fp32",
    device: Device = None,
    workspace: Workspace = DEFAULT,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Evaluate a model: held-out loss by source, and questions by the likelihood of their answers.

    Files hold one JSON object a line: query/choices/gold, sentence_good/sentence_bad, or requests as lm-eval and
    oe-eval write them. Raw weights and averages of a run are evaluated alike.

    Example:  gradatim evaluate demo/runs/climb arc_easy.jsonl blimp/*.jsonl --held-out heldout_tokens -w demo -o evals
    """
    from pipelines.commands.evaluate import Asked, evaluate_command

    asked = Asked(tokenizer, context, neutral, batch_tokens, precision, device, strict)
    evaluate_command(
        model, files or [], asked, workspace=workspace, held_out=held_out, weights=weights, output=output,
        chance=chance, sequence_length=sequence_length, as_json=as_json, others=together or [],
    )  # fmt: skip


def compare(
    old: Annotated[Path, typer.Argument(help="Answers that evaluate wrote (JSONL), or a model.")],
    new: Annotated[Path, typer.Argument(help="The same for the other side.")],
    items: Annotated[
        list[Path] | None, typer.Option("--items", help="A file of questions to ask two models. Repeatable.")
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(help="Of runs: [b]raw[/b] or the name of an average; given twice, for the old and the new."),
    ] = None,
    by: Annotated[
        str, typer.Option(help="How answers are chosen: [b]raw[/b], [b]per_token[/b], [b]per_byte[/b], [b]pmi[/b].")
    ] = "raw",
    tolerance: Annotated[float, typer.Option(min=0, help="A change of a weight up to this counts as none.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Seeds the bootstrap.")] = 0,
    neutral: Neutral = None,
    tokenizer: Tokenizer = None,
    context: Context = None,
    batch_tokens: BatchTokens = 8192,
    precision: Precision = "fp32",
    device: Device = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Compare two models question by question: which answers changed, with intervals, and how far weights moved.

    Intervals are of a bootstrap over source documents, where questions name theirs.

    Example:  gradatim compare runs/climb runs/climb --weights raw --weights ema --items arc_easy.jsonl
    """
    from pipelines.commands.compare import compare_command
    from pipelines.commands.evaluate import Asked

    asked = Asked(tokenizer, context, neutral, batch_tokens, precision, device, strict)
    compare_command(
        old, new, items or [], asked, weights=weights or [], rule=by, tolerance=tolerance, seed=seed, as_json=as_json
    )


def forgetting(
    given: Annotated[
        Path,
        typer.Argument(metavar="SCORES_OR_RUN", help="A CSV: stage,evaluation,score[,n][,seed]; or a run's folder."),
    ],
    sequence: Annotated[
        str | None,
        typer.Option(
            help="With scores: the tasks in the order of the stages, [b]law,medicine[/b]; others are outside."
        ),
    ] = None,
    old: Annotated[
        list[str] | None,
        typer.Option(help="With a run: a held-out set of what the model knew before. Repeatable."),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(help="With a run: the folder of the run that it continues, measured on the same sets."),
    ] = None,
    weights: Annotated[str, typer.Option(help="With a run: [b]raw[/b] or the name of an average.")] = "raw",
    as_json: Json = False,
) -> None:
    """Measure forgetting: from scores after each stage of a sequence of tasks, or from the losses of two runs.

    Stage 0 is the base model, without which nothing is computed. Of a run: how far its loss on old text rises over
    the end of the base run, for how long, and what stays.

    Example:  gradatim forgetting runs/continued --old web --base runs/base
    """
    from pipelines.commands.forgetting import gaps_command, sequence_command

    if given.is_dir():
        gaps_command(given, old or [], base, weights, as_json=as_json)
    else:
        sequence_command(given, sequence, as_json=as_json)
