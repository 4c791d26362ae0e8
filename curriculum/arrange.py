"""Arrange visits by a policy: check that it can be had, then let an engine sort.

How it is used: `arrange(visits, policy)` for a table; `stream(visits, policies, phases, engine)` for any number.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pyarrow as pa

from corpus.config import nearest
from corpus.scores import Better
from curriculum.arrangement import Engine, Keep, Visits, text
from curriculum.duckdb_engine import DuckDBEngine
from curriculum.order import ORDER_SCHEMA, OrderError, as_order
from curriculum.policies.base import MergedPolicy, OrderPolicy, named
from curriculum.visits import VISIT_SCHEMA

_ALL = "all sources"


def arrange(visits: pa.Table, policy: OrderPolicy) -> pa.Table:
    """The order of a table of visits (VISIT_SCHEMA and what the policy reads), as ORDER_SCHEMA. Raises as `stream`."""
    batches = list(stream(visits, policy, engine=DuckDBEngine()))
    if not batches:
        return ORDER_SCHEMA.empty_table()
    return as_order(pa.Table.from_batches(batches))


def stream(
    visits: Visits, policy: OrderPolicy | Mapping[str, OrderPolicy], *, phases: Sequence[str] = (), engine: Engine
) -> Iterator[pa.RecordBatch]:
    """Batches of visits in reading order.

    Args:
        visits: a table, or Parquet files, with the columns of VISIT_SCHEMA and those the policies read, in any order.
        policy: one for everything, or one for each phase.
        phases: names of the phases in the order they are read; none where the visits have one phase.

    Returns: batches with the columns of `curriculum.arrangement.OUTPUT`.

    Raises: OrderError for columns that are not there, visits without a score where the policy refuses them, scores
    that are all null, rephrasings rated by themselves in one line with originals, or phases without a policy.
    """
    columns = engine.columns(visits)
    found = engine.query("SELECT phase, count(*) AS n FROM visits GROUP BY phase ORDER BY phase", visits)["phase"]
    in_order = _phases(found.cast(pa.string()).to_pylist(), phases)
    plans: list[tuple[str, OrderPolicy]] = []
    for phase in in_order:
        one = policy if isinstance(policy, OrderPolicy) else policy.get(phase)
        if one is None:
            assert isinstance(policy, Mapping)
            raise OrderError(f"the phase {phase!r} has no order{nearest(phase, policy)}")
        check(visits, one, columns, engine, phase=phase if len(in_order) > 1 else None)
        plans.append((phase, one))
    return _streamed(visits, plans, engine)


def check(
    visits: Visits, policy: OrderPolicy, columns: Mapping[str, pa.DataType], engine: Engine, *, phase: str | None = None
) -> None:
    """Raise OrderError where the visits (of a phase) cannot be arranged by a policy; the reasons as in `stream`."""
    for field in VISIT_SCHEMA:
        if field.name not in columns:
            raise OrderError(
                "this table does not hold visits",
                expected=f"a column {field.name} of {field.type}",
                found=", ".join(columns),
                fix="draw them from candidates with mixtures.draw.draw",
            )
    for name in policy.needs:
        _check_column(name, policy, columns)
    if isinstance(policy, MergedPolicy):
        _check_lines(visits, policy, columns, engine, phase)
    for part in policy.parts:
        check(visits, part, columns, engine, phase=phase)


def ends_with(policy: OrderPolicy, better: Better) -> str:
    """What the last tokens of an order are, given which end of the score is the good one."""
    if policy.end == "mixed":
        return "documents of every score"
    if better == "middle":
        return f"the {'highest' if policy.end == 'high' else 'lowest'} scores (this score is best in the middle)"
    return "the best" if policy.end == better else "the worst"


def _streamed(visits: Visits, plans: Sequence[tuple[str, OrderPolicy]], engine: Engine) -> Iterator[pa.RecordBatch]:
    for phase, policy in plans:
        for stretch in policy.arrangements(lambda sql: engine.query(sql, visits)):
            steps = (Keep(f"phase = {text(phase)}"), *stretch.steps) if len(plans) > 1 else stretch.steps
            for batch in engine.sort(visits, replace(stretch, steps=steps)):
                yield _reasoned(batch, stretch.reasons)


def _reasoned(batch: pa.RecordBatch, reasons: tuple[str, ...]) -> pa.RecordBatch:
    """A batch with the reasons in place of their numbers."""
    codes = batch["rule"].cast(pa.int32())
    texts = pa.DictionaryArray.from_arrays(codes, pa.array(reasons, pa.string()))
    return batch.set_column(batch.schema.names.index("rule"), "rule", texts)


def _phases(found: Sequence[str], named: Sequence[str]) -> list[str]:
    if not named and len(found) > 1:
        raise OrderError(
            "the visits are of several phases, and nothing says which is read first", found=", ".join(found)
        )
    if named and (unnamed := sorted(set(found) - set(named))):
        raise OrderError("visits belong to phases that are not named", found=", ".join(unnamed))
    return [phase for phase in named if phase in found] if named else list(found)


def _check_column(name: str, policy: OrderPolicy, columns: Mapping[str, pa.DataType]) -> None:
    """Refuse a column that is not there, or does not hold what the policy reads from it."""
    if name not in columns:
        known = [other for other in columns if other not in VISIT_SCHEMA.names] + ["length", "source"]
        raise OrderError(
            f"the visits have no column {name!r} to be ordered by{nearest(name, known)}",
            where=f"order, kind {policy.kind}",
            fix="gradatim rate gives documents scores; name one of them",
        )
    held = columns[name].value_type if pa.types.is_dictionary(columns[name]) else columns[name]
    whole = pa.types.is_integer(held) or pa.types.is_boolean(held)
    if name in policy.names:
        texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
        fits, expected = whole or any(holds(held) for holds in texts), "names or whole numbers"
    else:
        fits, expected = whole or pa.types.is_floating(held), "numbers"
    if not fits:
        raise OrderError(
            f"{policy.kind} cannot read the column {name!r}",
            expected=expected,
            found=str(held),
            where=f"order, kind {policy.kind}",
            fix="name a column of that kind, or give the documents one as a score or a label",
        )


def _check_lines(
    visits: Visits, policy: MergedPolicy, columns: Mapping[str, pa.DataType], engine: Engine, phase: str | None
) -> None:
    """Refuse lines that mix what cannot be compared, miss values, or are too short for the policy."""
    line = f"{text(f'{policy.within} ')} || {named(policy.within)}" if policy.within else text(_ALL)
    own = f"rephrased AND NOT inherited AND NOT ({policy.unscored()})"
    rows = engine.query(
        f"SELECT {line} AS line, count(*) AS visits, sum(CASE WHEN {policy.unscored()} THEN 1 ELSE 0 END) AS missing, "
        f"sum(CASE WHEN {own} THEN 1 ELSE 0 END) AS own, sum(CASE WHEN rephrased THEN 0 ELSE 1 END) AS originals "
        f"FROM visits {f'WHERE phase = {text(phase)} ' if phase is not None else ''}GROUP BY {line} ORDER BY line",
        visits,
    ).to_pylist()
    if any(pa.types.is_floating(columns[name]) for name in policy.ordered_by):
        _refuse_unlike(rows)
    _refuse_missing(rows, policy)
    for row in rows:
        policy.check_line(int(row["visits"]), row["line"])


def _refuse_missing(rows: Sequence[Mapping[str, int]], policy: MergedPolicy) -> None:
    n, missing = sum(row["visits"] for row in rows), sum(row["missing"] for row in rows)
    shown = ", ".join(policy.ordered_by)
    if n and missing == n:
        raise OrderError(
            f"no visit has a score {shown!r} to be ordered by", fix="rate the documents, or order by another score"
        )
    holes = [row for row in rows if row["missing"] and (row["missing"] < row["visits"] or not policy.within)]
    if policy.missing == "error" and holes:
        raise OrderError(
            f"{sum(row['missing'] for row in holes):,} of {n:,} visits have no score {shown!r} to be ordered by",
            expected="a score for every document of a line",
            found=", ".join(f"{int(row['missing']):,} in {row['line']}" for row in holes),
            fix="rate them, or set order.missing: first (or last) to place them at that end",
        )


def _refuse_unlike(rows: Sequence[Mapping[str, int]]) -> None:
    """Raters mis-rank rewritten text, so a rephrasing's own score is not comparable with an original's."""
    for row in rows:
        if row["own"] and row["originals"]:
            raise OrderError(
                f"one sort over {row['line']} would rank rephrasings against originals",
                expected="rephrasings that inherit their parent's score, or that stand in a source of their own",
                found=f"{int(row['own']):,} visits of rephrasings with a score of their own, "
                f"{int(row['originals']):,} of originals",
                fix="set order.kind: interleaved, with a source of their own for rephrasings; or rate originals only",
            )
