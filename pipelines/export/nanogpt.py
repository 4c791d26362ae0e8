"""nanoGPT's plain `.bin`, and the `.bin` with a header that llm.c and modded-nanogpt read.

Plain (`nanogpt`): uint16 ids and nothing else, for `np.memmap(path, dtype=np.uint16)`. With a header (`llmc`): 256
int32, of which the first three are a magic number, a version and the count of tokens, then the ids. uint16 ids have
magic 20240520 and version 1; uint32 ids have 20240801 and 7, llm.c's form for larger vocabularies.

Neither format knows documents: boundaries are where the end-of-text token stands, at each document's end. Names of
files sort in the order in which they are to be read.
"""

from pathlib import Path

import numpy as np

from corpus.errors import ConfigError
from pipelines.export.settings import ExportSettings
from pipelines.export.stream import TokenStream

HEADERS = {"uint16": (20240520, 1), "uint32": (20240801, 7)}
MOST_TOKENS = 2**31 - 1
"""The header counts tokens in an int32."""


def write(folder: Path, stream: TokenStream, settings: ExportSettings) -> None:
    """Write `<stem>_000000.bin` and so on, each with a header."""
    magic, version = HEADERS[stream.dtype.name]
    for span in stream.spans(min(settings.max_tokens_per_file or MOST_TOKENS, MOST_TOKENS)):
        header = np.zeros(256, "<i4")
        header[:3] = magic, version, span.n_tokens
        stream.write(folder / f"{settings.stem}_{span.number:06d}.bin", span, header=header.tobytes())


def write_plain(folder: Path, stream: TokenStream, settings: ExportSettings) -> None:
    """Write `<stem>.bin`. Raises ConfigError for what nanoGPT does not read: uint32 ids, or more than one file."""
    if stream.dtype != np.uint16:
        raise ConfigError(
            "nanoGPT reads uint16 ids only", found=stream.dtype.name, fix="--format llmc writes uint32 with a header"
        )
    if settings.max_tokens_per_file is not None:
        raise ConfigError(
            "nanoGPT reads one file", found="max_tokens_per_file", fix="leave it out, or write --format llmc"
        )
    for span in stream.spans(None):
        stream.write(folder / f"{settings.stem}.bin", span)
