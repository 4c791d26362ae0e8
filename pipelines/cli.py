"""The `gradatim` command: what each subcommand takes, in words that teach, and nothing heavy.

Imports of engines and models stay inside the commands, so that `gradatim --help` answers at once.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from corpus.errors import GradatimError
from corpus.version import VERSION
from pipelines.cli_audit import audit
from pipelines.cli_cache import cache
from pipelines.cli_decontaminate import decontaminate
from pipelines.cli_evaluate import compare, evaluate, forgetting
from pipelines.cli_experiment import experiment
from pipelines.cli_merge import merge
from pipelines.cli_mix import mix
from pipelines.cli_options import DEFAULT, Master, Runtime, Workers, Workspace
from pipelines.cli_orders import export, order, pack, reorder
from pipelines.cli_plan import plan
from pipelines.cli_rephrase import rephrase
from pipelines.cli_serve import serve
from pipelines.cli_skills import skill_pairs
from pipelines.cli_train import train

app = typer.Typer(
    name="gradatim",
    help="From web pages to a trained model: what it sees, how often, in which order, at which learning rate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(cache)
app.add_typer(experiment)
app.add_typer(mix)
app.add_typer(plan)


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"gradatim {VERSION}")
        raise typer.Exit


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe file, or [b]demo[/b] for the bundled one.")],
    workspace: Workspace = DEFAULT,
    runtime: Annotated[
        str | None, typer.Option(help="[b]spark[/b] or [b]local[/b]; default: what the recipe names.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes. Default: one a core.")] = None,
    master: Annotated[
        str | None, typer.Option(help="A Spark master, such as spark://host:7077. Default: this machine.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: [b]--set train.model.layers=6[/b]. Repeatable.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first malformed input instead of counting it.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print every setting of the recipe with its meaning, and stop.")
    ] = False,
) -> None:
    """Run a recipe: make what is missing, skip what is done, write the report.

    Interrupt it at any time; the same command goes on where it stopped, to the same bytes.

    Example:  gradatim run demo --workspace demo --runtime local
    """
    from pipelines.commands.run import explain_recipe, run_command

    if explain:
        explain_recipe(recipe, tuple(overrides or ()))
    else:
        run_command(
            recipe,
            workspace,
            runtime=runtime,
            workers=workers,
            master=master,
            overrides=tuple(overrides or ()),
            strict=strict,
        )


@app.command()
def rate(
    given: Annotated[
        list[str],
        typer.Argument(
            metavar="DOCUMENTS...",
            help="An artifact of the workspace, such as [b]clean[/b], or files: "
            "[b]pages.jsonl.gz[/b], [b]web=crawl/*.warc.gz[/b].",
        ),
    ],
    rater: Annotated[
        list[str] | None,
        typer.Option(
            "--rater",
            "-r",
            help="A kind of rater ([b]signals[/b]), or a name with settings: "
            "[b]edu={kind: encoder, model: models/edu, head: regression}[/b]. Repeatable.",
        ),
    ] = None,
    raters: Annotated[
        Path | None, typer.Option(help="A YAML file of raters by name; its relative paths start from its folder.")
    ] = None,
    workspace: Workspace = DEFAULT,
    runtime: Runtime = "local",
    workers: Workers = None,
    master: Master = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first malformed input.")] = False,
) -> None:
    """Score documents: one sidecar a rater, row for row beside the documents, which are never rewritten.

    Example:  gradatim rate pages.jsonl.gz -r signals -r measures -w rated
    """
    from pipelines.commands.rate import rate_command
    from pipelines.commands.workshop import RuntimeOptions

    rate_command(given, workspace, raters, rater or [], RuntimeOptions(runtime, workers, master, strict))


@app.command()
def weigh(
    documents: Annotated[str, typer.Argument(help="An artifact of rated documents, such as [b]documents[/b].")],
    settings: Annotated[
        Path | None, typer.Option("--settings", "-s", help="A YAML file of settings; without it, the defaults.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: [b]--set design.runs=32[/b]. Repeatable.")
    ] = None,
    workspace: Workspace = DEFAULT,
    runtime: Runtime = "local",
    workers: Workers = None,
    master: Master = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print every setting with its meaning and what it costs, and stop.")
    ] = False,
) -> None:
    """Learn how to weigh scores: train small proxies on differently selected documents, and regress their losses.

    Writes weights.json with its evidence and weigh/report.html, which says so when the learned weights are no better
    than equal ones. Interrupt it at any time; the same command goes on where it stopped.

    Example:  gradatim weigh documents -w rated --set design.runs=32
    """
    from pipelines.commands.weigh import weigh_command
    from pipelines.commands.workshop import RuntimeOptions

    weigh_command(
        documents,
        workspace,
        settings,
        tuple(overrides or ()),
        RuntimeOptions(runtime, workers, master),
        explain=explain,
    )


@app.command()
def select(
    documents: Annotated[str, typer.Argument(help="An artifact of documents with scores, such as [b]clean[/b].")],
    budget: Annotated[str, typer.Option("--budget", "-b", help="Tokens to select: [b]10M[/b], [b]30B[/b].")],
    by: Annotated[
        str | None,
        typer.Option(help="The score that ranks documents; [b]signals/n_words[/b] where two are called alike."),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Rank by the scores weighed by this file instead, or [b]equal[/b]ly.")
    ] = None,
    rule: Annotated[
        str,
        typer.Option(
            help="[b]prefix[/b]: stop at the first document that does not fit; [b]crossing[/b]: take it too; "
            "[b]fill[/b]: skip it and go on."
        ),
    ] = "prefix",
    temperature: Annotated[
        float, typer.Option(min=0, help="0: the best. Above: drawn, in proportion to exp(z / temperature).")
    ] = 0.0,
    quota: Annotated[
        list[str] | None,
        typer.Option(help="A source's share of the budget: [b]web=60%[/b]. Repeatable. Or [b]proportional[/b]."),
    ] = None,
    cap: Annotated[
        list[str] | None, typer.Option(help="The most a source may have of the budget: [b]web=50%[/b]. Repeatable.")
    ] = None,
    min_tokens: Annotated[str | None, typer.Option(help="Leave out shorter documents.")] = None,
    max_tokens: Annotated[str | None, typer.Option(help="Leave out longer documents.")] = None,
    bytes_per_token: Annotated[
        float | None,
        typer.Option(help="Estimate tokens from bytes, where they were not counted (about 4 for English)."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Breaks ties, and keys the draw.")] = 0,
    name: Annotated[str, typer.Option(help="The name of the artifact that is written.")] = "selected",
    workspace: Workspace = DEFAULT,
    runtime: Runtime = "local",
    workers: Workers = None,
    master: Master = None,
) -> None:
    """Take the best documents up to an exact budget of tokens, with a reason for each one left out.

    Writes the documents, and a page that shows how the choice shifts length, sources and languages.

    Example:  gradatim select clean --budget 10M --by composite -w demo
    """
    from pipelines.commands.select import Ranked, select_command
    from pipelines.commands.workshop import RuntimeOptions

    options = {
        "budget": budget, "rule": rule, "temperature": temperature, "quota": quota or [], "cap": cap or [],
        "min_tokens": min_tokens, "max_tokens": max_tokens, "bytes_per_token": bytes_per_token, "seed": seed,
    }  # fmt: skip
    engine = RuntimeOptions(runtime, workers, master)
    select_command(documents, workspace, Ranked(by, weights), options, engine, name=name)


for command in (
    rephrase,
    audit,
    order,
    pack,
    export,
    reorder,
    train,
    merge,
    evaluate,
    compare,
    forgetting,
    serve,
    skill_pairs,
    decontaminate,
):
    app.command()(command)


@app.command("ls")
def list_artifacts(workspace: Workspace = DEFAULT) -> None:
    """List the finished artifacts of a workspace: kind, rows, size, fingerprint."""
    from pipelines.commands.inspect import list_command

    list_command(workspace)


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(help="An artifact's name as `gradatim ls` prints it, such as [b]filtered[/b].")
    ],
    workspace: Workspace = DEFAULT,
    rows: Annotated[int, typer.Option(min=0, help="Rows to print.")] = 5,
    dropped: Annotated[
        bool, typer.Option("--dropped", help="Print dropped documents with their reasons instead.")
    ] = False,
) -> None:
    """Show one artifact: what it was made from, its totals, and its first rows."""
    from pipelines.commands.inspect import show_command

    show_command(workspace, name, rows, dropped)


@app.command()
def report(workspace: Workspace = DEFAULT) -> None:
    """Write report.html from the artifacts of a workspace: one page, no network needed."""
    from pipelines.commands.run import report_command

    report_command(workspace)


@app.command()
def sql(
    query: Annotated[
        str, typer.Argument(help="""DuckDB SQL. Artifacts are tables: [b]documents[/b], [b]"scores/composite"[/b].""")
    ],
    workspace: Workspace = DEFAULT,
    output: Annotated[
        str, typer.Option("--format", help="[b]table[/b], [b]csv[/b] or [b]json[/b] (one object a line).")
    ] = "table",
) -> None:
    """Query the artifacts of a workspace by name.

    Example:  gradatim sql 'SELECT source, count(*), sum(n_bytes) FROM clean GROUP BY source' -w demo
    """
    from pipelines.commands.query import sql_command

    sql_command(workspace, query, output)


@app.command()
def doctor(
    warm: Annotated[
        bool,
        typer.Option("--warm", help="Also build Spark's start-up cache: a minute and 211 MB once, then faster starts."),
    ] = False,
) -> None:
    """Check this machine: versions, Java, GPU, disk, and packages that shadow ours. Exit 1 if something is wrong."""
    from pipelines.commands.doctor import doctor_command

    raise typer.Exit(doctor_command(warm=warm))


@app.command()
def trace(
    arm: Annotated[str, typer.Argument(help="A run of the workspace, such as [b]ascending[/b].")],
    step: Annotated[int, typer.Argument(min=0, help="An optimizer step, counted from 0.")],
    workspace: Workspace = DEFAULT,
) -> None:
    """Name the documents behind one training step: visit by visit, with score and reason."""
    from pipelines.commands.trace import trace_command

    trace_command(workspace, arm, step)


@app.command()
def verify(
    first: Annotated[Path, typer.Argument(help="A workspace or an artifact's folder.")],
    second: Annotated[Path | None, typer.Argument(help="Another one, to compare with byte by byte.")] = None,
) -> None:
    """Check files against their manifests, or two workspaces byte by byte. Exit 1 and a list where they differ."""
    from pipelines.commands.verify import verify_command

    raise typer.Exit(verify_command(first, second))


def main() -> None:
    """Run the command line; errors of the user's making print as a short block and exit 2."""
    try:
        app()
    except GradatimError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command goes on from here\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
