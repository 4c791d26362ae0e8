"""Token shards of others as an artifact: `.npy` or `.bin` files in which an end-of-text token closes each document.

A shard with a `.docs.parquet` beside it is ours and is taken as it is. For any other, documents are found by their
end-of-text: the table says where they are, by ids made of the file's name and the document's number in it. How many
bytes of text a document had is not known, and stands as 0. `.npy` files are linked; `.bin` files get the header that
they lack.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from corpus.artifacts import Artifact
from corpus.documents import document_id
from corpus.errors import InputError
from corpus.shards import atomic_path, write_table
from corpus.tokenizer import load_encoder
from corpus.tokens import DOCS_SCHEMA, Ids, as_token_ids, docs_path, read_token_shard
from pipelines.build import Workshop
from pipelines.inputs import InputChecksums
from pipelines.reading import TOKENIZER


def bare_shards(
    shop: Workshop, name: str, source: str, folder: Path, tokenizer: Path, checksums: InputChecksums
) -> Artifact:
    """The shards of a folder as the artifact `name`, their documents named after `source` where no table names them.

    Raises InputError for a folder without shards, a missing tokenizer, or ids that the tokenizer does not have.
    """
    if not tokenizer.is_file():
        raise InputError("there is no tokenizer here", expected=f"a {TOKENIZER}", where=str(tokenizer))
    files = sorted(path for path in folder.glob("*") if path.suffix in (".npy", ".bin")) if folder.is_dir() else []
    if not files:
        raise InputError(
            f"the input {source!r} holds no token shards", expected="a folder of .npy or .bin files", where=str(folder)
        )
    tables = [docs_path(path) for path in files if docs_path(path).exists()]
    refs = [checksums.ref(path, path.name) for path in (*files, *tables, tokenizer)]
    checksums.save()

    def make(made: Path) -> dict[str, Any]:
        (made / TOKENIZER).write_bytes(tokenizer.read_bytes())
        return {"tokens": sum(_shard(path, made, source, tokenizer) for path in files)}

    return shop.build_here(name, "tokens", config={"source": source}, inputs=refs, make=make)


def _shard(path: Path, made: Path, source: str, tokenizer: Path) -> int:
    encoder = load_encoder(tokenizer)
    if path.suffix == ".npy":
        ids, shard = read_token_shard(path), made / path.name
        _link(shard, path)
    else:
        ids, shard = (
            np.memmap(path, as_token_ids(np.zeros(0), encoder.vocabulary).dtype, "r"),
            made / f"{path.stem}.npy",
        )
        with atomic_path(shard) as temporary, temporary.open("wb") as file:
            np.save(file, ids)
    highest = int(ids.max()) if len(ids) else 0
    if highest >= encoder.vocabulary:
        raise InputError(
            f"{path.name} holds tokens that its tokenizer does not have", expected=f"ids below {encoder.vocabulary:,}",
            found=f"{highest:,}", where=str(path), fix="name the tokenizer that made it",
        )  # fmt: skip
    if docs_path(path).exists():
        _link(docs_path(shard), docs_path(path))
    else:
        write_table(docs_path(shard), _documents(ids, encoder.end_of_text, source, path.name))
    return len(ids)


def _link(link: Path, path: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(path.resolve())


def _documents(ids: Ids, end_of_text: int, source: str, name: str) -> pa.Table:
    """Where documents are: each ends with its end-of-text, the last one where the shard ends."""
    ends = np.flatnonzero(ids == end_of_text) + 1
    if len(ids) and (not len(ends) or ends[-1] < len(ids)):
        ends = np.append(ends, len(ids))
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)[: len(ends)]
    columns = [
        pa.array([document_id(source, f"{name}#{i}") for i in range(len(ends))], pa.string()), pa.array(starts),
        pa.array((ends - starts).astype(np.int32)), pa.array([source] * len(ends), pa.string()),
        pa.array(np.zeros(len(ends), np.int32)),
    ]  # fmt: skip
    return pa.Table.from_arrays(columns, schema=DOCS_SCHEMA)
