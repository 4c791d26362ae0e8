"""The work of selection on one shard: documents before the cut are kept, the others dropped with their reason.

Beside the documents it counts what the choice does (`shift/<shard>`): documents, tokens and score range by source,
language and length, of those kept and of all, from which the report is drawn without reading a text again.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from corpus.documents import DOCUMENT_SCHEMA
from corpus.shards import TableWriter, atomic_path, read_batches, read_table, write_table
from pipelines.selecting import CutFile, Numbers, ShardNumbers, ranked_chunk, ranking_of, read_cut
from pipelines.stages.base import dropped_rows
from pipelines.tally import DROPPED_SCHEMA, Tally
from raters.normalise import Names
from raters.select import Ints

BELOW = "select: below the cut"
NO_QUOTA = "select: no quota for its source"
SHIFT = "shift"
OCTAVE_BINS = 32
"""Bins of length between n and 2 n tokens: a quantile read off them is within 1.6 % of the length."""


@dataclass(frozen=True)
class SelectWork:
    """Apply a cut to one shard of documents."""

    documents: Path
    numbers: ShardNumbers
    cut: Path

    def run(self, folder: Path, tally: Tally) -> Iterable[Path]:
        """Write `<shard>`, `shift/<shard>` and, where rows were dropped, `dropped/<shard>` under `folder`."""
        file = read_cut(self.cut)
        by_source = file.settings.quotas.by_source
        numbers = self.numbers.read(self.documents, sources=by_source, check=True)
        reasons = self._reasons(numbers, file)
        name = self.documents.name
        kept_path, dropped_path, shift_path = folder / name, folder / "dropped" / name, folder / SHIFT / name
        with ExitStack() as files:
            kept = _open(files, kept_path, DOCUMENT_SCHEMA)
            gone = _open(files, dropped_path, DROPPED_SCHEMA)
            start = 0
            for batch in read_batches(self.documents):
                said = reasons[start : start + batch.num_rows]
                why = pa.array(said, pa.string(), mask=said == "")
                start += batch.num_rows
                chosen = batch.filter(pc.is_null(why)).select(DOCUMENT_SCHEMA.names).cast(DOCUMENT_SCHEMA)
                kept.write(chosen)
                tally.totals["bytes"] += sum(chosen.column("n_bytes").to_pylist())
                if why.null_count < len(why):
                    gone.write(dropped_rows(batch, why))
        self._count(numbers, reasons, tally)
        write_table(shift_path, self._shift(numbers, reasons == ""))
        written = [kept_path, shift_path]
        if gone.total_rows:
            return [*written, dropped_path]
        dropped_path.unlink()
        return written

    def _reasons(self, numbers: Numbers, file: CutFile) -> Names:
        """Why each document is left out, shape (n,); empty for those selected."""
        groups = file.groups if file.settings.quotas.by_source else None
        chunk = ranked_chunk(self.documents, self.numbers, numbers, ranking_of(file), groups)
        taken = np.zeros(len(chunk.keys), np.bool_)
        for i, group in enumerate(file.groups):
            mine = np.where(chunk.groups == i, chunk.keys, np.nan)
            taken |= group.cut.takes(mine, chunk.ids, file.settings.seed)
        reasons = self.numbers.reasons(numbers)
        free = reasons == ""
        reasons[free & ~taken] = BELOW
        reasons[free & (chunk.groups < 0)] = NO_QUOTA
        return reasons

    def _count(self, numbers: Numbers, reasons: Names, tally: Tally) -> None:
        selected = reasons == ""
        tally.records_in += len(reasons)
        tally.kept += int(selected.sum())
        tally.totals["tokens"] += int(numbers.tokens[selected].sum())
        for reason in reasons[~selected].tolist():
            tally.dropped[reason] += 1

    def _shift(self, numbers: Numbers, selected: npt.NDArray[np.bool_]) -> pa.Table:
        """One row for each source, language, length bin and fate: documents, tokens, lowest and highest score."""
        told = read_table(self.documents, ["source", "lang"])
        table = pa.table(
            {
                "source": told.column("source"), "lang": told.column("lang"), "bin": length_bin(numbers.tokens),
                "selected": selected, "tokens": np.maximum(numbers.tokens, 0),
                "score": pa.array(numbers.scores, mask=np.isnan(numbers.scores)),
            }
        )  # fmt: skip
        keys = ["source", "lang", "bin", "selected"]
        sums = table.group_by(keys, use_threads=False).aggregate(
            [([], "count_all"), ("tokens", "sum"), ("score", "min"), ("score", "max")]
        )
        renamed = sums.rename_columns({"count_all": "documents", "tokens_sum": "tokens"})
        return renamed.select([*keys, "documents", "tokens", "score_min", "score_max"]).sort_by(
            [(key, "ascending") for key in keys]
        )


def _open(files: ExitStack, path: Path, schema: pa.Schema) -> TableWriter:
    return files.enter_context(TableWriter(files.enter_context(atomic_path(path)), schema))


def length_bin(tokens: Ints) -> Ints:
    """The bin of each length, shape (n,): 32 equal parts of every doubling; -1 for a length that is not known.

    From the binary form of the number, so exact on every machine.
    """
    fraction, exponent = np.frexp(np.maximum(tokens, 1).astype(np.float64))  # tokens = fraction x 2^exponent
    part = np.floor((fraction - 0.5) * (2 * OCTAVE_BINS)).astype(np.int64)
    bins = exponent.astype(np.int64) * OCTAVE_BINS + part
    return np.where(tokens < 0, -1, np.where(tokens == 0, 0, bins))


def bin_middle(bins: Ints) -> npt.NDArray[np.float64]:
    """The length in the middle of each bin, shape (n,); 0 for bin 0."""
    octave, part = np.divmod(bins, OCTAVE_BINS)
    return np.where(bins <= 0, 0.0, np.ldexp(0.5 + (part + 0.5) / (2 * OCTAVE_BINS), octave.astype(np.int32)))
