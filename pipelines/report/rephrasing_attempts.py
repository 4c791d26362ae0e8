"""The attempts of a rephrased artifact as the audit reads them: small columns in memory, texts only for a few rows.

A hundred thousand attempts are some hundreds of megabytes of text. Counts need none of it; samples and diversity need
the texts of rows that a keyed draw named before, which are fetched in one pass over the files.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from corpus.artifacts import Artifact
from corpus.keyed_random import keyed_hashes
from corpus.shards import read_batches
from pipelines.report.workspace import table_of
from rephrase.gates.limits import Limits

TEXTS = ("source_text", "output_text")
SMALL = (
    "parent_id", "style", "chunk_index", "attempt", "superseded", "step", "n_in", "n_out", "finish_reason", "gates",
    "reason",
)  # fmt: skip
GATES = tuple(Limits.model_fields)
UNANSWERED = ("server_error", "timeout", "bad_answer", "poison")
Floats = npt.NDArray[np.float64]
Marks = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Attempts:
    """All attempts of an artifact, shape (n,) a column, in the order of its files.

    Args:
        artifact: where they are from.
        parents, styles: of each.
        sent, superseded, final: whether it was sent, a later try counts, its output is the document's (no step of it).
        reasons: empty when the output was kept.
        n_in, n_out, numbers: tokens of prompt and output, and the try's number; 0 where there is none.
        gates: value by gate, NaN where there was nothing to measure; a gate that measured nothing anywhere is left out.
    """

    artifact: Artifact
    parents: npt.NDArray[np.object_]
    styles: npt.NDArray[np.object_]
    sent: Marks
    superseded: Marks
    final: Marks
    reasons: npt.NDArray[np.object_]
    n_in: Rows
    n_out: Rows
    numbers: Rows
    gates: dict[str, Floats]

    def __len__(self) -> int:
        return len(self.parents)

    @cached_property
    def counted(self) -> Marks:
        """The attempts that count: sent, the last try of their chunk, and meant to become text."""
        return self.sent & ~self.superseded & self.final

    @cached_property
    def kept(self) -> Marks:
        """Those that passed every gate."""
        return np.asarray(self.counted & (self.reasons == ""), dtype=bool)

    @cached_property
    def unanswered(self) -> Marks:
        """Those that nobody answered."""
        return self.counted & np.isin(self.reasons.astype(str), UNANSWERED)

    @cached_property
    def draws(self) -> npt.NDArray[np.uint64]:
        """A hash of each attempt by its document, style and number there, so that no draw depends on other rows."""
        seen: Counter[str] = Counter()
        keys = []
        for name in (f"{parent}/{style}" for parent, style in zip(self.parents, self.styles, strict=True)):
            seen[name] += 1
            keys.append(f"{name}/{seen[name]}")
        return keyed_hashes(0, keys)

    def style_names(self) -> list[str]:
        """Styles with at least one attempt that was sent, by name."""
        return sorted(set(self.styles[self.counted]))

    def drawn(self, rows: Marks, most: int) -> Rows:
        """At most `most` of the marked rows by their draw, in the order of it."""
        found = np.flatnonzero(rows)
        return found[np.argsort(self.draws[found], kind="stable")][:most]

    def texts(self, rows: Iterable[int]) -> dict[int, tuple[str, str]]:
        """Source and output of some rows, by row."""
        wanted = np.array(sorted(set(rows)), dtype=np.int64)
        found: dict[int, tuple[str, str]] = {}
        start = 0
        for path in self.artifact.files(folder="attempts"):
            for batch in read_batches(path, list(TEXTS)):
                low, high = np.searchsorted(wanted, (start, start + batch.num_rows))
                mine = wanted[low:high]
                for row, texts in zip(mine, batch.take(pa.array(mine - start)).to_pylist(), strict=True):
                    found[int(row)] = (texts["source_text"], texts["output_text"] or "")
                start += batch.num_rows
        return found


def read_attempts(artifact: Artifact) -> Attempts | None:
    """The attempts of an artifact; None where it holds none that was sent."""
    table = table_of(artifact, list(SMALL), "attempts")
    if table is None or not pc.any(pc.is_valid(table.column("chunk_index"))).as_py():
        return None
    return Attempts(
        artifact=artifact,
        parents=_strings(table, "parent_id"),
        styles=_strings(table, "style"),
        sent=table.column("chunk_index").is_valid().to_numpy(),
        superseded=table.column("superseded").to_numpy(),
        final=_strings(table, "step") == "",
        reasons=_strings(table, "reason"),
        n_in=_whole(table, "n_in"),
        n_out=_whole(table, "n_out"),
        numbers=_whole(table, "attempt"),
        gates=_gates(table.column("gates")),
    )


def quantile(values: Floats, share: float) -> float:
    """A quantile of the values that are known; NaN where none is."""
    known = values[np.isfinite(values)]
    return float(np.quantile(known, share)) if len(known) else float("nan")


def in_order(names: Iterable[str]) -> list[str]:
    """Reasons in the order of the gates; those that are no gate come after them, by name."""
    places = {gate: i for i, gate in enumerate(GATES)}
    return sorted(names, key=lambda name: (places.get(name, len(places)), name))


def _strings(table: pa.Table, name: str) -> npt.NDArray[np.object_]:
    return np.array(table.column(name).fill_null("").to_pylist(), dtype=object)


def _whole(table: pa.Table, name: str) -> Rows:
    return np.asarray(table.column(name).fill_null(0).to_numpy(), dtype=np.int64)


def _gates(column: pa.ChunkedArray) -> dict[str, Floats]:
    """Lists of {gate, value} as one column a gate, chunk by chunk."""
    found = {gate: np.full(len(column), np.nan) for gate in GATES}
    start = 0
    for chunk in column.chunks:
        rows = pc.list_parent_indices(chunk).to_numpy() + start
        flat = pc.list_flatten(chunk)
        names, values = flat.field("key"), flat.field("value").cast(pa.float64())
        for gate in GATES:
            mine = pc.equal(names, gate).to_numpy(zero_copy_only=False)
            found[gate][rows[mine]] = values.to_numpy(zero_copy_only=False)[mine]
        start += len(chunk)
    return {gate: values for gate, values in found.items() if np.isfinite(values).any()}


def by_style(attempts: Attempts) -> Sequence[tuple[str, Marks]]:
    """Every style with the attempts of it that count."""
    return [(style, attempts.counted & (attempts.styles == style)) for style in attempts.style_names()]
