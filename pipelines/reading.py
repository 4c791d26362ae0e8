"""From inputs to token shards, the steps that a recipe and a mixture share: read documents, get a tokenizer, encode.

How it is used: `read_documents(shop, checksums, base, readers)`, `tokenised(shop, "tokens", [documents], tokenizer)`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from corpus.artifacts import Artifact
from corpus.errors import InputError
from corpus.shards import write_text
from pipelines.build import Workshop
from pipelines.inputs import InputChecksums
from pipelines.stages.extract import Extract
from pipelines.stages.readers.reader import Reader
from pipelines.tasks import Work

TOKENIZER = "tokenizer.json"


def read_documents(
    shop: Workshop,
    checksums: InputChecksums,
    base: Path,
    readers: Mapping[str, Reader],
    *,
    name: str = "documents",
    extract: Extract | None = None,
    shard_documents: int = 5_000,
) -> Artifact:
    """Read every input file, extract its text, name its language: the documents, written once.

    `readers` are by source; `base` is the folder that their relative paths start from. Raises InputError where no
    document comes out.
    """
    from pipelines.stages.ingest import IngestWork
    from pipelines.stages.language import Language

    extract = extract or Extract()
    work: dict[str, Work] = {}
    refs, config = [], {}
    for source, reader in readers.items():
        language = Language(keep=reader.languages)
        identity = reader.model_dump(exclude={"path"})
        config[source] = [identity, extract.identity(), language.identity(), shard_documents]
        for i, portion in enumerate(reader.portions(base)):
            task = f"{source}-{i:05d}"
            work[task] = IngestWork(reader, portion, source, task, (extract, language), shard_documents)
            refs += [checksums.ref(file, f"{task}: {portion.name(file)}") for file in portion.files]
    checksums.save()
    for changed in checksums.changed:
        shop.progress.say(f"  input changed: {changed}; what was made from it is made again")
    documents = shop.build_tasks(name, "documents", config=config, inputs=refs, work=work)
    if not documents.files():
        raise InputError("no document came out of the inputs", found=json.dumps(documents.manifest.totals["dropped"]))
    return documents


def trained_tokenizer(
    shop: Workshop, documents: Sequence[Artifact], vocabulary: int, name: str = "tokenizer"
) -> Artifact:
    """Train a tokenizer of `vocabulary` tokens on documents."""
    from corpus.tokenizer import train_tokenizer
    from pipelines.stages.tokenize import texts_of

    def make(folder: Path) -> dict[str, int]:
        train_tokenizer(texts_of(path for item in documents for path in item.files()), vocabulary, folder / TOKENIZER)
        return {"vocabulary": vocabulary}

    config = {"vocabulary": vocabulary, "pattern": "gpt2"}
    return shop.build_here(name, "tokenizer", config=config, inputs=documents, make=make)


def given_tokenizer(shop: Workshop, checksums: InputChecksums, path: Path, name: str = "tokenizer") -> Artifact:
    """Copy the `tokenizer.json` at `path` into the workspace. Raises InputError where there is none."""
    if not path.is_file():
        raise InputError("there is no tokenizer here", expected=f"a {TOKENIZER}", where=str(path))

    def copy(folder: Path) -> dict[str, int]:
        write_text(folder / TOKENIZER, path.read_text(encoding="utf-8"))
        return {}

    ref = checksums.ref(path, TOKENIZER)
    return shop.build_here(name, "tokenizer", config={"given": True}, inputs=[ref], make=copy)


def tokenised(shop: Workshop, name: str, documents: Sequence[Artifact], tokenizer: Artifact) -> Artifact:
    """Encode document shards into token shards of the same basenames."""
    from pipelines.stages.tokenize import TokenizeWork

    model = tokenizer.files(".json")[0]
    work: dict[str, Work] = {path.stem: TokenizeWork(path, model) for item in documents for path in item.files()}
    return shop.build_tasks(name, "tokens", config={}, inputs=[*documents, tokenizer], work=work)
