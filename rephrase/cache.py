"""Outputs kept by what was asked, so that no text is generated twice and a killed run goes on where it was.

A key names everything that shapes an output (model, prompt, decoding, document, rollout) and nothing that must not:
paths, hosts, batch sizes, worker counts, thresholds. Values are raw outputs: rejected ones stay, and gates judge them
anew each time. Sampling is not reproducible across groupings of requests, so reproducibility comes from here, not from
a seed. All styles of one generator share one store (record_store.py), which any number of processes use at once.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash

from corpus.fingerprints import canonical, fingerprint
from corpus.shards import write_text
from rephrase.generator import Decoding, Generation, GenerationRequest
from rephrase.record_store import RecordStore
from rephrase.sent_requests import Deaths, SentRequests

GENERATION_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("finish_reason", pa.string(), nullable=False),
        pa.field("n_in", pa.int32(), nullable=False),
        pa.field("n_out", pa.int32(), nullable=False),
        pa.field("choices", pa.map_(pa.string(), pa.float64())),
    ]
)
"""One row an output: the fields of `Generation`."""

IDENTITY = "generator.json"


_written = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


def cache_key(*, generator: Mapping[str, str], request: GenerationRequest, document_id: str, rollout: int) -> str:
    """The key of one output: 32 hex digits, xxh3-128 of canonical JSON over all that shapes it.

    The document id is in it on purpose: two documents with one text get an output each.
    """
    asked = {
        "generator": dict(generator),
        "request": {
            "messages": [{"role": message.role, "content": message.content} for message in request.messages],
            "max_tokens": request.max_tokens,
            "decoding": _plain_decoding(request.decoding),
            "opening": request.opening,
            "choices": request.choices,
        },
        "document_id": document_id,
        "rollout": rollout,
    }
    return xxhash.xxh3_128_hexdigest(_written(asked).encode("utf-8", "surrogatepass"))


@lru_cache(maxsize=64)
def _plain_decoding(decoding: Decoding) -> Any:
    return json.loads(canonical(decoding))  # once, not for each key


class GenerationCache:
    """Outputs of one generator, in a folder that many processes may share.

    Args:
        folder: the root of all caches; the generator's is made in it when its first request is sent.
        generator: the generator's identity.
    """

    def __init__(self, folder: Path, *, generator: Mapping[str, str]) -> None:
        self.folder = folder / fingerprint(dict(generator))
        self._identity, self._introduced = dict(generator), False
        self._store = RecordStore(self.folder, GENERATION_SCHEMA)
        self._sent = SentRequests(self.folder)

    def find(self, keys: Sequence[str]) -> dict[str, Generation]:
        """The stored outputs among `keys`, in their order. Raises ArtifactError for a damaged file."""
        return generations(self._store.find(keys))

    def store(self, outputs: Mapping[str, Generation]) -> None:
        """Keep outputs: all of them once this returned, whatever ends the process after it; none if it does not.

        Raises EnvironmentProblem when the disk is full; what is stored already stays readable.
        """
        self._introduce()
        self._store.append(
            [
                {
                    "key": key,
                    "text": one.text,
                    "finish_reason": one.finish_reason,
                    "n_in": one.n_in,
                    "n_out": one.n_out,
                    "choices": one.choices and list(one.choices.items()),
                }
                for key, one in outputs.items()
            ]
        )

    def mark_sent(self, keys: Collection[str]) -> None:
        """These requests are about to be sent, and no others are in flight; none: all have ended in order."""
        if keys:
            self._introduce()
        self._sent.mark(keys)

    def deaths(self, keys: Sequence[str]) -> dict[str, Deaths]:
        """The requests among `keys` that were in flight, and unanswered, when a process died."""
        groups = self._sent.dead_groups()
        if not groups:
            return {}
        asked, found = set(keys), defaultdict[str, list[int]](list)
        for path, group in groups.items():
            unanswered = [key for key, known in zip(group, self._store.holds(group), strict=True) if not known]
            if not unanswered:
                path.unlink(missing_ok=True)
            for key in asked.intersection(unanswered):
                found[key].append(len(group))
        return {key: Deaths(len(sizes), min(sizes), max(sizes)) for key, sizes in found.items()}

    def close(self) -> None:
        """Seal what was stored; nothing is in flight. The cache may be used again after it."""
        self._sent.close()
        self._store.close()

    def _introduce(self) -> None:
        """Say beside the outputs whose they are, for those who look into the folder."""
        if not self._introduced and not (self.folder / IDENTITY).exists():
            write_text(self.folder / IDENTITY, json.dumps(self._identity, indent=1, ensure_ascii=False) + "\n")
        self._introduced = True


def generations(table: pa.Table) -> dict[str, Generation]:
    """Rows of GENERATION_SCHEMA as outputs by key."""
    columns = (table.column(name).to_pylist() for name in GENERATION_SCHEMA.names)
    return {
        key: Generation(text, reason, n_in, n_out, None if choices is None else dict(choices))
        for key, text, reason, n_in, n_out, choices in zip(*columns, strict=True)
    }
