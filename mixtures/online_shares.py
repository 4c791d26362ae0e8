"""Shares that change while a run trains: their state, their log, and the phases that a log becomes.

`OnlineShares` follows one policy of `mixtures.online_policies`. Every update is a row of the log: where the run was,
what was measured, and the shares from then on. The log alone gives the shares of any token back, bit by bit, because
it holds them as they were; `replayed` shows that they also follow from the signals. `phases` turns a log into shares
by start token, in whole millionths, so the order that is drawn from them is an artifact like any other.

How it is used: `shares = online.update(tokens, losses)` at each evaluation; `online.state_dict()` in a checkpoint;
`write_log(path, online.log)` and `phases(log, total)` for the order.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from corpus.config import Config
from corpus.errors import ConfigError, InputError
from corpus.fingerprints import fingerprint
from corpus.shards import write_text
from mixtures.online_policies import Memory, OnlinePolicy
from mixtures.shares import largest_remainder

MILLION = 1_000_000


class LogRow(Config):
    """One update: tokens of the run before it, what was measured, and the shares from then on."""

    tokens: int = Field(ge=0)
    signal: tuple[float, ...] | tuple[tuple[float, ...], ...]
    shares: tuple[float, ...]


class OnlineLog(Config):
    """A run's shares: the policy, the sources, the shares it began with, and every update since."""

    policy: OnlinePolicy
    names: tuple[str, ...]
    first: tuple[float, ...]
    rows: tuple[LogRow, ...] = ()

    def at(self, tokens: int) -> dict[str, float]:
        """The shares that hold at a token of the run, 0 or more: those of the last update at or before it."""
        held = self.first
        for row in self.rows:
            if row.tokens > tokens:
                break
            held = row.shares
        return dict(zip(self.names, held, strict=True))


class OnlineShares:
    """The shares of a run that follows an online policy."""

    def __init__(self, names: Sequence[str], policy: OnlinePolicy, shares: Sequence[float]) -> None:
        """Begin with shares, in the order of the names. Raises ConfigError for others than a mixture of them."""
        first = np.array(shares, np.float64)
        if len(names) < 2 or len(set(names)) != len(names) or first.shape != (len(names),):
            raise ConfigError("an online mixture needs two or more different sources, and a share for each",
                              found=f"{len(names)} names, {len(first)} shares")  # fmt: skip
        if not np.isfinite(first).all() or first.min() < 0 or abs(first.sum() - 1) > 1e-6:
            raise ConfigError("an online mixture begins with shares of 0 or more that sum to one",
                              found=f"smallest {first.min():g}, sum {first.sum():g}")  # fmt: skip
        exact = abs(first.sum() - 1) < 1e-12  # divided once and not again: a log begins with the very shares it holds
        self.names, self.policy, self.first = (
            tuple(names),
            policy,
            tuple((first if exact else first / first.sum()).tolist()),
        )
        self._rows: list[LogRow] = []
        self._memory: Memory = policy.begin(np.array(self.first))

    @property
    def shares(self) -> dict[str, float]:
        """The shares now."""
        return dict(zip(self.names, self._now(), strict=True))

    @property
    def log(self) -> OnlineLog:
        """All that happened so far."""
        return OnlineLog(policy=self.policy, names=self.names, first=self.first, rows=tuple(self._rows))

    def update(self, tokens: int, signal: npt.ArrayLike) -> dict[str, float]:
        """Move the shares by what was measured after `tokens` tokens of the run, and return them.

        The signal is what the policy's description says, in the order of the names.

        Raises InputError for tokens that go backwards, or a signal of another shape or with numbers that are not
        finite; the shares then stay as they were.
        """
        given = np.array(signal, np.float64)
        if (self._rows and tokens <= self._rows[-1].tokens) or tokens < 0:
            raise InputError("updates of shares come in the order of the run", found=f"{tokens:,} tokens",
                             expected=f"more than {self._rows[-1].tokens if self._rows else -1:,}")  # fmt: skip
        if not np.isfinite(given).all() or given.ndim not in (1, 2) or not given.size:
            raise InputError("the signal of an online mixture must be finite numbers", found=str(given.tolist())[:80],
                             fix="leave the update out when a loss is not finite")  # fmt: skip
        if self.policy.kind not in ("skill_it", "aioli") and given.shape != (len(self.names),):
            raise InputError("the signal does not fit the sources", expected=f"{len(self.names)} numbers",
                             found=f"shape {given.shape}")  # fmt: skip
        moved, self._memory = self.policy.step(np.array(self._now()), given, self._memory, tokens)
        shares = tuple(moved.tolist())
        self._rows.append(LogRow.model_validate({"tokens": tokens, "signal": given.tolist(), "shares": shares}))
        return self.shares

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: the log and the policy's memory, as plain JSON values."""
        return {"log": self.log.model_dump(mode="json"), "memory": self._memory}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state. Raises ConfigError when it belongs to another policy, sources or beginning."""
        log = OnlineLog.model_validate(state["log"])
        if fingerprint(log.model_copy(update={"rows": ()})) != fingerprint(self.log.model_copy(update={"rows": ()})):
            raise ConfigError("this state belongs to another online mixture", expected=f"{self.policy.kind} over "
                              f"{', '.join(self.names)}", found=f"{log.policy.kind} over {', '.join(log.names)}",
                              fix="resume with the policy, the sources and the first shares of that run")  # fmt: skip
        self._rows, self._memory = list(log.rows), json.loads(json.dumps(state["memory"]))

    def _now(self) -> tuple[float, ...]:
        return self._rows[-1].shares if self._rows else self.first


def replayed(log: OnlineLog) -> OnlineShares:
    """Follow the signals of a log again, and check that the shares come out as they were.

    Raises InputError at the first update that does not: the log was edited, or made by another version or machine
    (exponentials may differ in their last bits between machines).
    """
    online = OnlineShares(log.names, log.policy, log.first)
    for number, row in enumerate(log.rows):
        online.update(row.tokens, row.signal)
        if online.log.rows[-1].shares != row.shares:
            raise InputError(
                f"update {number} of this log does not follow from its signals",
                expected=str(online.log.rows[-1].shares),
                found=str(row.shares),
                fix="the shares in the log are those the run had: use them, and do not replay it",
            )
    return online


def write_log(path: Path, log: OnlineLog) -> None:
    """Write a log as JSON lines: what it follows, then a line an update."""
    lines = [log.model_copy(update={"rows": ()}).model_dump_json(exclude={"rows"})]
    write_text(path, "\n".join([*lines, *(row.model_dump_json() for row in log.rows)]) + "\n")


def read_log(path: Path) -> OnlineLog:
    """Read a log as it was written, to the bit. Raises InputError where it is not one."""
    lines = path.read_text(encoding="utf-8").splitlines()
    try:
        head = OnlineLog.model_validate_json(lines[0] if lines else "")
        return head.model_copy(update={"rows": tuple(LogRow.model_validate_json(line) for line in lines[1:])})
    except ValidationError as error:
        raise InputError("this is not a log of online shares", found=str(error.errors()[0]["msg"]),
                         where=str(path)) from None  # fmt: skip


@dataclass(frozen=True)
class SharePhase:
    """Shares from a token of the run on, in whole millionths: they are exact decimals, and sum to one."""

    start_token: int
    shares: dict[str, float]


def phases(log: OnlineLog, total: int, least_tokens: int = 1) -> list[SharePhase]:
    """The phases of a run of `total` tokens; those shorter than `least_tokens` are merged, weighed by their tokens.

    The first one starts at token 0. Updates at or after the end are left out.
    """
    starts = [0, *(row.tokens for row in log.rows if row.tokens < total)]
    vectors = [log.first, *(row.shares for row in log.rows if row.tokens < total)]
    pieces = list(zip(starts, [*starts[1:], total], vectors, strict=True))
    merged: list[list[tuple[int, int, tuple[float, ...]]]] = []
    for start, end, shares in pieces:
        if end == start:
            continue
        if merged and merged[-1][-1][1] - merged[-1][0][0] < least_tokens:
            merged[-1].append((start, end, shares))
        else:
            merged.append([(start, end, shares)])
    if len(merged) > 1 and merged[-1][-1][1] - merged[-1][0][0] < least_tokens:
        last = merged.pop()
        merged[-1] += last
    return [SharePhase(group[0][0], _millionths(log.names, group)) for group in merged]


def mean_shares(log: OnlineLog) -> dict[str, float]:
    """The mean over updates, the shares DoReMi hands to the large run. Raises InputError without an update."""
    if not log.rows:
        raise InputError("this log has no updates to take the mean of")
    means = [math.fsum(row.shares[i] for row in log.rows) / len(log.rows) for i in range(len(log.names))]
    return dict(zip(log.names, means, strict=True))


def _millionths(names: Sequence[str], group: Sequence[tuple[int, int, tuple[float, ...]]]) -> dict[str, float]:
    exact = [sum(Fraction(shares[i]) * (end - start) for start, end, shares in group) for i in range(len(names))]
    counts = largest_remainder([float(value / sum(exact)) for value in exact], MILLION)
    return {name: count / MILLION for name, count in zip(names, counts, strict=True)}
