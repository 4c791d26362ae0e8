"""`gradatim sql`: DuckDB over the artifacts of a workspace, each a view by its name."""

import json
import sys
from pathlib import Path

import duckdb
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from corpus.artifacts import artifacts_in
from corpus.errors import ArtifactError, ConfigError

MAX_TABLE_ROWS = 1_000


def sql_command(workspace: Path, query: str, output: str) -> None:
    """Run a query and print its result as a table, CSV, or one JSON object a line."""
    if output not in ("table", "csv", "json"):
        raise ConfigError(f"there is no format {output!r}", expected="table, csv or json")
    with duckdb.connect() as db:
        names = register(db, workspace)
        try:
            result = db.sql(query)
        except duckdb.Error as error:
            raise ConfigError(
                "DuckDB cannot run this query", found=str(error).splitlines()[0], fix=f"tables: {', '.join(names)}"
            ) from None
        if result is None:
            return
        if output == "json":
            for row in result.to_arrow_table().to_pylist():
                sys.stdout.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
        elif output == "csv":
            sys.stdout.write(result.df().to_csv(index=False))
        else:
            _print_table(result)


def register(db: duckdb.DuckDBPyConnection, workspace: Path) -> list[str]:
    """Make every artifact's Parquet files a view named after it; dropped documents are `<name>/dropped`."""
    names = []
    for artifact in artifacts_in(workspace):
        for suffix, folder in (("", "."), ("/dropped", "dropped"), ("/attempts", "attempts")):
            if files := artifact.files(folder=folder):
                names.append(artifact.name + suffix)
                db.from_parquet([str(path) for path in files], union_by_name=True).create_view(names[-1])
    if not names:
        raise ArtifactError(f"{workspace} holds no finished artifact", fix="gradatim run demo --workspace demo")
    return names


def _print_table(result: duckdb.DuckDBPyRelation) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in result.columns:
        table.add_column(escape(column))
    rows = result.limit(MAX_TABLE_ROWS + 1).fetchall()
    for row in rows[:MAX_TABLE_ROWS]:
        table.add_row(*(escape(str(value)) for value in row))
    console = Console()
    console.print(table)
    if len(rows) > MAX_TABLE_ROWS:
        console.print(f"[dim]first {MAX_TABLE_ROWS:,} rows; use --format csv for all[/]")
