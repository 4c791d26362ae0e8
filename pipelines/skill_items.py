"""Read questions with their skills from JSON lines, as documents that the style `skill_synthesis` works on.

Each line of a file has `id`, `question` and `skill`, and may have a `solution`; other fields are left alone. A question
with several skills is several lines. A broken line ends the reading: a few hundred questions are worth mending, and a
skill that is silently missing is not noticed later.

How it is used:  batch = read_pairs(Path("failed.jsonl"), Path("pool.jsonl"), n_seeds=3, seed=0)
"""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from corpus.config import validated
from corpus.errors import InputError
from pipelines.stages.readers.chunks import read_chunks
from pipelines.stages.readers.lines import bounded_lines
from pipelines.tally import Tally
from rephrase.skills.skill_pairs import SkillItem, pair_documents

MAX_LINE_BYTES = 4_000_000


def read_pairs(failed: Path, pool: Path, **options: Any) -> pa.RecordBatch:
    """The documents of `pair_documents` (which takes the options) from two files of items.

    Args:
        failed: questions a model failed, with the skills it lacked. They must be validation questions.
        pool: questions to draw seeds from; it may be the same file.

    Raises InputError for a file that is missing, damaged or empty, and for a line that is no item, naming it.
    """
    return pair_documents(read_items(failed), read_items(pool), **options)


def read_items(path: Path) -> list[SkillItem]:
    """The items of a file (.jsonl, plain, gzip or zstd) in its order. Raises InputError as `read_pairs` does."""
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
