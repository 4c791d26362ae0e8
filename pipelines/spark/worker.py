"""What runs inside a Spark worker: take a group of tasks, run each, report each.

This module travels by value, not by name: a cluster's workers cannot import it before the shipped code is on
their path, and putting it there is its first act. It therefore imports nothing of ours at the top.
"""

import pickle
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pyspark import SparkFiles
from pyspark.accumulators import AccumulatorParam

if TYPE_CHECKING:
    from pyspark.accumulators import Accumulator

    from pipelines.tasks import Completion

    Arrivals = Accumulator[list["Completion"]]


class Arriving(AccumulatorParam[list["Completion"]]):
    """A list that workers append to and the driver reads: Spark delivers each task's part once."""

    def zero(self, value: list["Completion"]) -> list["Completion"]:
        return []

    def addInPlace(self, value1: list["Completion"], value2: list["Completion"]) -> list["Completion"]:
        value1.extend(value2)
        return value1


def run_groups(groups: Iterable[list[bytes]], code: str | None, arrivals: "Arrivals") -> None:
    """Run groups of pickled tasks and add a completion for each; `code` names the shipped archive, if any."""
    if code and (path := SparkFiles.get(code)) not in sys.path:
        sys.path.insert(0, path)
    from pipelines.tasks import run_task

    for group in groups:
        for payload in group:
            arrivals.add([run_task(pickle.loads(payload))])
