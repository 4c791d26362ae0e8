"""What has come of a document, kept: every attempt with its gates' values, so that nothing is cut or judged twice.

A document is settled when each of its chunks has an answer. It is found again by all that decides its outcome: the
style with its limits, the generator, the instruments, the seed, and the document itself. A changed threshold is another
style, and judges the cached answers again; nothing is generated for that.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash

from corpus.documents import names_to
from corpus.fingerprints import canonical, fingerprint
from rephrase.attempts import ATTEMPT_SCHEMA
from rephrase.course import Bench
from rephrase.record_store import RecordStore
from rephrase.style import Style

MEASURES = 1  # raise it when cutting, cleaning or a gate's measure changes

OF_DOCUMENT = ("parent_id", "style", "source_text")
"""The columns of ATTEMPT_SCHEMA that the document itself gives."""

_ATTEMPT = pa.struct(
    [*(field for field in ATTEMPT_SCHEMA if field.name not in OF_DOCUMENT), pa.field("sketch", pa.list_(pa.int64()))]
)
SETTLED_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("attempts", pa.list_(_ATTEMPT), nullable=False),
        pa.field("meta", names_to(pa.string())),
    ]
)
"""One row a document: its attempts in order, and what its course says of it. `sketch`: of an output that no gate
failed, what finds its near-duplicates (rephrase/near_duplicates.py)."""


class Settled:
    """The settled documents of one style, one generator and one set of instruments, in a folder that may be shared.

    Args:
        folder: the root of all of them; made when the first document is settled.
        style, bench: what decides outcomes, beside the documents.
    """

    def __init__(self, folder: Path, style: Style, bench: Bench) -> None:
        self._identity = canonical(
            {
                "measures": MEASURES, "style": style, "generator": dict(bench.generator.identity),
                "instruments": dict(bench.instruments.identity), "seed": bench.seed, "rollout": bench.rollout,
            }
        )  # fmt: skip
        self._store = RecordStore(folder / fingerprint(self._identity), SETTLED_SCHEMA)

    def keys(self, ids: Sequence[str], texts: Sequence[str], langs: Sequence[str | None]) -> list[str]:
        """The key of each document, 32 hex digits."""
        head = xxhash.xxh3_128(self._identity.encode("utf-8"))
        keys = []
        for name, text, lang in zip(ids, texts, langs, strict=True):
            digest = head.copy()
            digest.update(f"{name}\x00{lang}\x00{text}".encode("utf-8", "surrogatepass"))
            keys.append(digest.hexdigest())
        return keys

    def find(self, keys: Sequence[str]) -> pa.Table:
        """The rows of SETTLED_SCHEMA that are there among `keys`, in the order of the keys."""
        return self._store.find(keys)

    def keep(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep settled documents; they survive the process once this returned."""
        self._store.append(rows)

    def close(self) -> None:
        """Seal what was kept."""
        self._store.close()
