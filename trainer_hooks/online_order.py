"""An order whose shares of sources are decided while a run reads it, and which is an ordinary order afterwards.

Each source's visits are a line, in the order in which another order reads them. `extend` merges the lines by the
shares that hold so far (`trainer_hooks.online_turns`), up to a token of the stream and not beyond: what lies further on
is not decided yet, and reading it is refused. Every position follows from the log of shares alone, so a resumed run
lays the same visits again (`follow`), and a finished one writes them as an order artifact (`write`) which a run with no
online mixture reads token for token.

    online = OnlineOrder(base, ["web", "code"], tokens=plan_tokens + 1)
    online.extend((0.7, 0.3), until=100_001)                 # shares after so many trained tokens hold from the next on
    OrderedLoader(online, arrays, sequence_length=256, batch_sequences=16)

The table of the base order is held in memory, about 40 bytes a visit, and as much again for what is laid.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from corpus.artifacts import Artifact, InputRef
from corpus.config import nearest
from corpus.errors import ArtifactError, ConfigError
from corpus.fingerprints import fingerprint
from curriculum.order import Order, OrderError, codes_and_names, write_order
from mixtures.online_shares import OnlineLog
from mixtures.shares import MixtureError
from trainer_hooks.online_turns import END, ENOUGH, FULL, LENGTH, NOTHING_LEFT, ROW, Turns

Exhausted = Literal["refuse", "leave_out"]
_FIRST_ROOM, _BATCH_VISITS = 1024, 65_536


class OnlineOrder:
    """The merged stream of a base order's sources: what the loader reads (`trainer_hooks.loader.TokenOrder`)."""

    def __init__(
        self,
        base: Order,
        names: Sequence[str],
        tokens: int,
        *,
        piece_tokens: int | None = None,
        passes: int = 1,
        exhausted: Exhausted = "refuse",
    ) -> None:
        """Prepare the lines of visits; nothing is laid yet.

        Args:
            base: whose visits are read, each source's in their own order.
            names: its sources, all of them, in the order of the shares.
            tokens: of the whole stream; the last visit is cut there.
            piece_tokens: tokens of a turn, cut out of visits as they come; None: turns are whole visits.
            passes: how often a source's visits may be read in all; later passes count on in the column `visit`.
            exhausted: what happens when a source has no pass left: `refuse` raises, `leave_out` goes on without it.

        Raises ConfigError for other sources than those of the base.
        """
        self.base, self.names, self._tokens = base, tuple(names), tokens
        self.piece_tokens, self.passes, self.exhausted = piece_tokens, passes, exhausted
        self._table = base.table().combine_chunks()
        codes = self._codes()
        self._lines = np.argsort(codes, kind="stable").astype(np.int64)  # rows of the base, source by source
        borders = np.searchsorted(codes[self._lines], np.arange(len(names) + 1)).astype(np.int64)
        self._source, self._lengths = codes[self._lines], self._column("length")[self._lines]
        self._shard, self._start = self._column("shard")[self._lines], self._column("start")[self._lines]
        self._turns = Turns(self._lengths, borders, piece_tokens or 0, passes, exhausted == "leave_out")
        self._laid, self._n = np.empty((5, _FIRST_ROOM), np.int64), 0

    @property
    def n_tokens(self) -> int:
        """Tokens of the whole stream, decided or not."""
        return self._tokens

    @property
    def decided_tokens(self) -> int:
        """Tokens from the start of the stream that can be read."""
        return int(self._laid[END, self._n - 1]) if self._n else 0

    @property
    def fingerprint(self) -> str:
        """The identity of all that decides the visits beside the log: base, sources and how turns are taken.

        A longer stream, or more passes where a run would have ended, go on from the same visits.
        """
        passes = self.passes if self.exhausted == "leave_out" else None
        return fingerprint({"base": self.base.fingerprint, "names": list(self.names),
                            "piece_tokens": self.piece_tokens, "left_out_after": passes})  # fmt: skip

    @property
    def first_shares(self) -> tuple[float, ...]:
        """The sources' shares of the base's tokens, in the order of the names."""
        given = np.bincount(self._source, weights=self._lengths, minlength=len(self.names))
        shares: tuple[float, ...] = tuple((given / given.sum()).tolist())
        return shares

    # ---- deciding

    def extend(self, shares: Sequence[float], until: int) -> None:
        """Lay visits by these shares, as long as they begin before token `until` of the stream.

        What one call lays, several calls with the same shares lay as well. Raises MixtureError where a source has
        nothing left.
        """
        until, why = min(until, self._tokens), FULL
        while why == FULL:
            self._n, why = self._turns.lay(tuple(shares), until, self._laid, self._n)
            if why == FULL:
                self._laid = np.concatenate([self._laid, np.empty_like(self._laid)], axis=1)
        if why != ENOUGH:
            raise self._nothing_left(why)
        if self.decided_tokens > self._tokens:  # the last turn reaches over the end of the stream
            self._n = int(np.searchsorted(self._laid[END, : self._n], self._tokens)) + 1
            self._laid[[LENGTH, END], self._n - 1] -= self.decided_tokens - self._tokens

    def follow(self, log: OnlineLog, until: int) -> None:
        """Lay, from the start, what a log of shares says up to token `until` of the stream; for a resumed run.

        An update after n tokens of a run holds for visits that begin after token n of the stream, which that run has
        read as its last target. Raises ConfigError for a log of other sources, MixtureError as `extend`.
        """
        if log.names != self.names:
            raise ConfigError("this log of shares is of other sources", expected=", ".join(self.names),
                              found=", ".join(log.names))  # fmt: skip
        borders = self._turns.borders
        self._turns = Turns(self._lengths, borders, self.piece_tokens or 0, self.passes, self.exhausted == "leave_out")
        self._n = 0
        shares = log.first
        for row in log.rows:
            self.extend(shares, min(row.tokens + 1, until))
            shares = row.shares
        self.extend(shares, until)

    # ---- reading

    def visits_between(self, token_a: int, token_b: int) -> tuple[int, int]:
        """The visits that tokens [token_a, token_b) touch, as a half-open range of rows.

        Raises OrderError for tokens outside the stream, or that are not decided yet.
        """
        if not 0 <= token_a < token_b <= self.decided_tokens:
            raise OrderError(
                f"tokens {token_a:,} to {token_b:,} of an online mixture cannot be read",
                expected=f"a range that is not empty within the {self.decided_tokens:,} tokens decided so far",
                fix="read them when the run has come there: the shares of later tokens follow from its losses",
            )
        ends = self._laid[END, : self._n]
        return (
            int(np.searchsorted(ends, token_a, side="right")),
            int(np.searchsorted(ends, token_b, side="left")) + 1,
        )

    def visit_numbers(self, token_a: int, token_b: int) -> npt.NDArray[np.int64]:
        """The visit of each token in [token_a, token_b), shape (token_b - token_a,). Raises as `visits_between`."""
        first, stop = self.visits_between(token_a, token_b)
        ends = np.minimum(self._laid[END, first:stop], token_b)
        return np.repeat(np.arange(first, stop), np.diff(ends, prepend=token_a))

    def sources_of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The source of each of these visits, as an index of `names`; any shape."""
        sources: npt.NDArray[np.int64] = self._source[self._laid[ROW, rows]]
        return sources

    def read(self, token_a: int, token_b: int, token_arrays: Sequence[Any]) -> npt.NDArray[Any]:
        """Tokens [token_a, token_b) of the stream, shape (token_b - token_a,), out of the base order's token shards.

        Raises OrderError as `visits_between`, ArtifactError for shards that the base was not made from.
        """
        first, stop = self.visits_between(token_a, token_b)
        row, skipped, length, _, ends = self._laid[:, first:stop]
        low = self._start[row] + skipped
        high = low + length
        low[0] += token_a - int(ends[0] - length[0])
        high[-1] -= int(ends[-1]) - token_b
        shards = self._shard[row].tolist()
        pieces = [token_arrays[s][a:b] for s, a, b in zip(shards, low.tolist(), high.tolist(), strict=True)]
        stream: npt.NDArray[Any] = np.concatenate(pieces)
        if len(stream) != token_b - token_a:
            raise ArtifactError(
                f"the token shards given do not fit {self.base.artifact.name}",
                expected=f"{token_b - token_a:,} tokens at the places it names",
                found=f"{len(stream):,}",
                fix="give the shards the order was made from, in the order of its `shards`",
            )
        return stream

    def visits(self, first: int, stop: int) -> pa.Table:
        """Visits [first, stop), with the columns of an order; `visit` counts on with each pass."""
        row, skipped, length, passed, _ = self._laid[:, first : min(stop, self._n)]
        table = self._table.take(pa.array(self._lines[row]))
        visit = table["visit"].to_numpy() + passed * (self._readings[row] if passed.any() else 0)
        made = {"start": table["start"].to_numpy() + skipped, "length": length, "visit": visit}
        for name, values in made.items():
            at = table.schema.get_field_index(name)
            field = table.schema.field(at)
            table = table.set_column(at, field, pa.array(values).cast(field.type))
        return table

    def write(self, folder: Path, *, name: str, log: OnlineLog) -> Artifact:
        """Write what is laid as an order artifact, made from the base's tokens under the shares of a log."""
        config = {**self._settings(), "policy": log.policy.model_dump(mode="json"), "first_shares": list(log.first),
                  "updates": len(log.rows), "log": fingerprint(log)}  # fmt: skip
        own = InputRef(name=self.base.artifact.name, fingerprint=self.base.fingerprint)
        return write_order(
            folder,
            self._batches(),
            name=name,
            fingerprint=fingerprint(config),
            config=config,
            inputs=[*self.base.artifact.manifest.inputs, own],
            shards=self.base.shards,
        )

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for first in range(0, self._n, _BATCH_VISITS):
            yield from self.visits(first, min(first + _BATCH_VISITS, self._n)).combine_chunks().to_batches()

    # ---- the base

    @cached_property
    def _readings(self) -> npt.NDArray[np.int64]:
        """How often the base reads the document of each visit of the lines: what a pass adds to its number."""
        document = (self._shard << 32 | self._column("doc")[self._lines]).astype(np.int64)
        _, which = np.unique(document, return_inverse=True)
        most = np.zeros(int(which.max()) + 1, np.int64)
        np.maximum.at(most, which, self._column("visit")[self._lines] + 1)
        readings: npt.NDArray[np.int64] = most[which]
        return readings

    def _column(self, name: str) -> npt.NDArray[np.int64]:
        values: npt.NDArray[np.int64] = self._table[name].to_numpy().astype(np.int64)
        return values

    def _codes(self) -> npt.NDArray[np.int64]:
        """The source of each visit of the base, as an index of the names."""
        codes, known = codes_and_names(self._table["source"])
        strange = [name for name in self.names if name not in known] or [n for n in known if n not in self.names]
        if strange or len(set(self.names)) < len(self.names):
            raise ConfigError(
                f"an online mixture and its order have other sources: {strange[0] if strange else 'one is named twice'}"
                f"{nearest(strange[0], known) if strange and strange[0] not in known else ''}",
                expected=f"shares of {', '.join(known)}",
                found=", ".join(self.names),
                where=self.base.artifact.name,
            )
        places: npt.NDArray[np.int64] = np.array([self.names.index(name) for name in known], np.int64)
        return places[codes]

    def _settings(self) -> dict[str, Any]:
        return {"base": self.base.fingerprint, "names": list(self.names), "tokens": self._tokens,
                "piece_tokens": self.piece_tokens, "passes": self.passes, "exhausted": self.exhausted}  # fmt: skip

    def _nothing_left(self, source: int) -> MixtureError:
        which = "every source" if source == NOTHING_LEFT else f"source {self.names[source]!r}"
        held = self._lengths[self._source == source].sum() if source >= 0 else self._lengths.sum()
        return MixtureError(
            f"{which} of an online mixture has no visits left at token {self.decided_tokens:,}",
            found=f"{int(held):,} tokens in {self.base.artifact.name}, read {self.passes} times",
            expected=f"enough for a stream of {self._tokens:,} tokens",
            fix="raise passes, order more of its documents, or begin with exhausted: leave_out",
        )
