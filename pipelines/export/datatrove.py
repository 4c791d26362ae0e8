"""datatrove's tokenized files: tokens in `.ds`, ends of documents in `.ds.index`, and a line on both in `.ds.metadata`.

Each visit is one document. With a pack the documents are its pieces, and padding is one of its own.

Read it:  DatatroveFolderDataset(folder, seq_len, token_size=2)  (datatrove.utils.dataset; token_size 4 for uint32),
with shuffle off. It reads windows of seq_len + 1 tokens and leaves out what is over at the end of a file: write few
files, or pack with sequence_tokens = seq_len + 1, so that each window is one packed sequence. DocumentTokenizerMerger
reads the same files document by document.

Format: ids of 2 or 4 bytes, and document ends as uint64 counted from the start of the file, as datatrove 0.10 reads it.
"""

from pathlib import Path

import numpy as np

from corpus.shards import write_text
from pipelines.export.settings import ExportSettings
from pipelines.export.stream import TokenStream, write_array


def write(folder: Path, stream: TokenStream, settings: ExportSettings) -> None:
    """Write `<stem>-00000.ds` with its index and metadata, and so on: by name, files are in order."""
    for span in stream.spans(settings.max_tokens_per_file):
        path = folder / f"{settings.stem}-{span.number:05d}.ds"
        stream.write(path, span)
        write_array(path.with_name(f"{path.name}.index"), np.cumsum(span.segments).astype("<u8"))
        about = f"{settings.tokenizer}|{stream.dtype.itemsize}\n{span.n_tokens}\n{span.n_tokens:,} tokens"
        write_text(path.with_name(f"{path.name}.metadata"), about)
