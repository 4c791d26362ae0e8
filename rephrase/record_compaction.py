"""Merge segments and logs of a record store into fewer segments, while others read and write.

A merged segment gets its name before the files it was made of are deleted, so every record is in some file at any time:
a kill leaves copies behind, never a gap, and the next compaction drops them. Logs whose writers live are left alone.
Of records with one key the earliest stays.
"""

import fcntl
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from pathlib import Path
from time import time

import numpy as np
import pyarrow as pa

from corpus.errors import ArtifactError
from corpus.shards import TEMPORARY_SUFFIX
from rephrase.owned_files import abandoned, unique_name
from rephrase.record_index import KeyIndex, later_copies
from rephrase.record_log import LOG, PREFIX, TIME, Log
from rephrase.record_segment import INDEX, SEGMENT, Segment, write_segment

FULL_ROWS = 1_000_000
FULL_BYTES = 1 << 30
TIER = 16  # so many files of one size are worth merging; the next size is about so many times as large
_OLD_S = 24 * 3600.0
Source = Segment | Log


def compact(folder: Path) -> bool:
    """Merge everything that is not full or holds copies; false when another process is at it already."""
    with _alone(folder) as alone, ExitStack() as held:
        if not alone:
            return False
        _sweep(folder)
        sources = _sources(folder, held)
        indexes = [_trusted_index(source) for source in sources]
        lost = later_copies(indexes)
        keeps = [_kept_rows(*one) for one in zip(sources, indexes, lost, strict=True)]
        chosen = [
            (source, keep)
            for source, keep in zip(sources, keeps, strict=True)
            if isinstance(source, Log) or not keep.all() or not _is_full(source)
        ]
        _merge(folder, chosen)
    return True


def tidy(folder: Path) -> None:
    """Merge files of one size when many have gathered; at once when there are few, or another process is at it."""
    names = os.listdir(folder)
    if sum(name.startswith(PREFIX) and name.endswith((SEGMENT, LOG)) for name in names) < TIER:
        return
    with _alone(folder) as alone, ExitStack() as held:
        if not alone:
            return
        tiers = defaultdict(list)
        for source in _sources(folder, held):
            if isinstance(source, Log) or not _is_full(source):
                tiers[_size(source).bit_length() // 4].append(source)
        for tier in tiers.values():
            if len(tier) >= TIER:
                indexes = [_trusted_index(source) for source in tier]
                keeps = map(_kept_rows, tier, indexes, later_copies(indexes))
                _merge(folder, list(zip(tier, keeps, strict=True)))


def common_schema(sources: Sequence[Source]) -> pa.Schema | None:
    """All columns of the sources, TIME last; none where there is no source."""
    schemas = [source.schema for source in sources if source.schema is not None]
    if not schemas:
        return None
    try:
        found = pa.unify_schemas([pa.schema([field for field in one if field.name != TIME.name]) for one in schemas])
    except pa.ArrowException as error:
        raise ArtifactError(
            "stored records do not go together", found=str(error), where=str(sources[0].path.parent)
        ) from error
    nullable = [
        field.with_nullable(field.nullable or any(field.name not in one.names for one in schemas)) for field in found
    ]
    return pa.schema([*nullable, TIME])


def _merge(folder: Path, chosen: Sequence[tuple[Source, np.ndarray]]) -> None:
    for group in _groups(chosen):
        if len(group) == 1 and isinstance(group[0][0], Segment) and group[0][1].all():
            continue
        schema = common_schema([source for source, _ in group])
        if schema is not None and any(keep.any() for _, keep in group):
            tables = chain.from_iterable(source.tables(keep) for source, keep in group)
            write_segment(folder / f"{PREFIX}{unique_name()}{SEGMENT}", tables, schema)
        for source, _ in group:
            source.remove()


def _groups(chosen: Sequence[tuple[Source, np.ndarray]]) -> Iterator[list[tuple[Source, np.ndarray]]]:
    """Neighbours that fit into one full segment together."""
    group: list[tuple[Source, np.ndarray]] = []
    rows = n_bytes = 0
    for source, keep in chosen:
        more = source.path.stat().st_size
        if group and (rows + keep.sum() > FULL_ROWS or n_bytes + more > FULL_BYTES):
            yield group
            group, rows, n_bytes = [], 0, 0
        group.append((source, keep))
        rows, n_bytes = rows + int(keep.sum()), n_bytes + more
    if group:
        yield group


def _sources(folder: Path, held: ExitStack) -> list[Source]:
    """The segments and the logs without a writer, in the order they were begun; the logs are held."""
    sources: list[Source] = []
    for path in sorted(folder.glob(f"{PREFIX}*")):
        if path.name.endswith(SEGMENT):
            sources.append(Segment(path, {}))
        elif path.name.endswith(LOG) and held.enter_context(abandoned(path)):
            log = Log(path)
            if path.with_suffix(SEGMENT).exists():  # sealed, and killed before the log was deleted
                log.remove()
                continue
            log.refresh()
            sources.append(log)
    return sources


def _trusted_index(source: Source) -> KeyIndex:
    """From the records themselves: a row that a damaged index lacks must not be lost."""
    return source.made_index() if isinstance(source, Segment) else source.index


def _kept_rows(source: Source, index: KeyIndex, lost: np.ndarray) -> np.ndarray:
    keep = np.zeros(source.rows, bool)
    keep[index.table[3].astype(np.int64)] = True
    keep[lost] = False
    return keep


def _size(source: Source) -> int:
    return source.rows if isinstance(source, Log) else len(source.index)


def _is_full(source: Segment) -> bool:
    return 2 * _size(source) >= FULL_ROWS or 2 * source.path.stat().st_size >= FULL_BYTES


def _sweep(folder: Path) -> None:
    """Delete indexes without a segment, and what writers that died long ago left half written."""
    for path in folder.iterdir():
        orphan = path.name.endswith(INDEX) and not path.with_name(path.name.removesuffix(INDEX) + SEGMENT).exists()
        with suppress(FileNotFoundError):
            old = path.name.endswith(TEMPORARY_SUFFIX) and time() - path.stat().st_mtime > _OLD_S
            if orphan or old:
                path.unlink()


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Yield whether this process may compact: one at a time where locks work, else any, which costs only copies."""
    fd = os.open(folder / "compacting", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        alone = True
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            alone = False
        except OSError:  # no locks here
            pass
        yield alone
    finally:
        os.close(fd)
