"""Make the ahead-of-time cache of Spark's classes: a short session, recorded, and written as it leaves.

The session does what a run does (tasks in Python workers, Parquet, joins, windows, Arrow), so that the cache
holds the classes of a run. The file is written under another name and renamed when complete: a kill leaves
nothing that would be used, and of two makers at once the last one wins with an equal file.

Run it:  gradatim doctor --warm
"""

import tempfile
from pathlib import Path

from corpus.errors import EnvironmentProblem
from pipelines.spark.aot_cache import cache_file, record
from pipelines.spark.jvm import find_java
from pipelines.spark.session import Session, open_session

_QUERY = """
SELECT a.k, count(*) AS n, row_number() OVER (ORDER BY a.k) AS place, sum(CAST(b.id AS DOUBLE)) AS total
FROM warm AS a JOIN warm AS b ON a.id = b.id WHERE a.name LIKE '%1%' GROUP BY a.k ORDER BY a.k
"""


def warm(timeout_s: float = 900.0) -> Path | None:
    """Make the cache for the Java in use, and say where it lies; None where this Java takes no cache.

    Takes about a minute of one core, and holds no session afterwards.

    Raises:
        EnvironmentProblem: Java wrote no cache; the reason is in the log that `where` names.
    """
    file = cache_file(find_java())
    if file is None:
        return None
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="making-", dir=file.parent) as folder:
        made, log_file = Path(folder) / file.name, file.with_suffix(".log")
        session = open_session("local[2,3]", scratch=Path(folder), log_file=log_file, java_options=record(made))
        try:
            _exercise(session, Path(folder) / "table")
        finally:
            session.close(timeout_s)
        if not made.is_file():
            raise EnvironmentProblem("Java wrote no start-up cache", where=str(log_file), fix="go on without it")
        made.replace(file)
        log_file.unlink()
    return file


def _exercise(session: Session, table: Path) -> None:
    spark = session.spark
    frame = spark.range(1000).selectExpr("id", "id % 7 AS k", "CAST(id AS STRING) AS name")
    frame.write.parquet(table.as_uri())
    spark.read.parquet(table.as_uri()).createOrReplaceTempView("warm")
    spark.sql(_QUERY).toArrow()
    counts = spark.sparkContext.accumulator(0)
    spark.sparkContext.parallelize(range(4), 4).foreach(counts.add)
