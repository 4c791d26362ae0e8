"""Read questions with their skills from JSON lines, as documents that the style `skill_synthesis` works on.

The documents become an artifact of a workspace, which `gradatim rephrase` takes like any other documents.

Each line of a file has `id`, `question` and `skill`, and may have a `solution`; other fields are left alone. A question
with several skills is several lines. A broken line ends the reading: a few hundred questions are worth mending, and a
skill that is silently missing is not noticed later.

How it is used:  pairs = skill_pairs(shop, Path("failed.jsonl"), Path("pool.jsonl"), PairOptions())
"""

import json
from pathlib import Path
from typing import Any

from pydantic import Field

from corpus.artifacts import Artifact
from corpus.config import Config, validated
from corpus.errors import InputError
from corpus.shards import write_table
from pipelines.build import Workshop
from pipelines.inputs import InputChecksums
from pipelines.stages.naming import shard_name
from pipelines.stages.readers.chunks import read_chunks
from pipelines.stages.readers.lines import bounded_lines
from pipelines.tally import Tally
from rephrase.skills.skill_pairs import PAIR_SOURCE, SEEDS, SkillItem, pair_documents

MAX_LINE_BYTES = 4_000_000


class PairOptions(Config):
    """How pairs are made; see `rephrase.skills.skill_pairs.pair_documents`."""

    n_seeds: int = Field(3, ge=1, description="questions with the skill that a model is shown, a pair")
    seed: int = Field(0, description="of all draws")
    max_pairs: int | None = Field(None, ge=1, description="the most pairs, drawn by key; null: all")
    lang: str = Field("en", description="the language of the questions")
    licence: str | None = Field(None, description="of the pool's questions; what is made from them inherits it")


def skill_pairs(shop: Workshop, failed: Path, pool: Path, options: PairOptions, *, name: str = PAIR_SOURCE) -> Artifact:
    """Documents in a workspace, one a pair of failed question and missing skill.

    Args:
        failed: questions a model failed, with the skills it lacked. They must be validation questions.
        pool: questions to draw seeds from; it may be the same file.
        name: of the artifact.

    Raises InputError for a file that is missing, damaged or empty, and for a line that is no item, naming it.
    """
    found = read_items(failed), read_items(pool)
    checksums = InputChecksums(shop.root)
    refs = [checksums.ref(failed, "failed questions"), checksums.ref(pool, "pool of questions")]
    checksums.save()

    def make(folder: Path) -> dict[str, Any]:
        batch = pair_documents(*found, **options.model_dump())
        write_table(folder / f"{shard_name(PAIR_SOURCE, 0, 0)}.parquet", batch)
        alone = sum({"key": SEEDS, "value": "0"} in meta for meta in batch.column("meta").to_pylist())
        return {"pairs": batch.num_rows, "pairs_without_seeds": alone, "pool": len(found[1])}

    return shop.build_here(name, "documents", config=options.model_dump(mode="json"), inputs=refs, make=make)


def read_items(path: Path) -> list[SkillItem]:
    """The items of a file (.jsonl, plain, gzip or zstd) in its order. Raises InputError as `skill_pairs` does."""
    if not path.is_file():
        raise InputError(f"there is no file {path}", expected="JSON lines with id, question and skill")
    items = []
    for line in bounded_lines(read_chunks(path, path.name, Tally()), MAX_LINE_BYTES):
        where = f"{path}, line {line.number}"
        if line.damaged or line.data is None:
            raise InputError("this line cannot be read", expected=f"at most {MAX_LINE_BYTES:,} bytes", where=where)
        if line.data.strip():
            items.append(_item(line.data, where))
    if not items:
        raise InputError(f"{path} has no question", expected="JSON lines with id, question and skill")
    return items


def _item(data: bytes, where: str) -> SkillItem:
    try:
        row = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError("this line is not JSON", found=str(error), where=where) from None
    if not isinstance(row, dict):
        raise InputError("this line is no object", expected="id, question and skill", where=where)
    return validated(SkillItem, {name: row[name] for name in SkillItem.model_fields if name in row}, where)
