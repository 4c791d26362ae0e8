"""Read a dataset that Hugging Face `datasets` saved to disk (`save_to_disk`), from its Arrow files.

The folder may hold one dataset or a dictionary of splits. Its `state.json` names the Arrow files; names that
would leave the folder are refused. The files are memory-mapped and read with pyarrow, so the library that
wrote them is not needed.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from corpus.errors import InputError
from pipelines.stages.readers.fields import FieldNames
from pipelines.stages.readers.pages import Page
from pipelines.stages.readers.parquet import has_text, table_pages
from pipelines.stages.readers.reader import Reader
from pipelines.tally import Tally

_ROWS = 256


class HfInput(Reader):
    """A folder written by `datasets`' save_to_disk."""

    kind: Literal["hf"] = "hf"
    suffixes: ClassVar[tuple[str, ...]] = (".arrow",)
    splits: tuple[str, ...] = Field(default=(), description="splits to read, such as [train] (default: all there are)")
    fields: FieldNames = Field(FieldNames(), description="which columns hold text, id, url, date and meta")

    def pages(self, file: Path, name: str, tally: Tally) -> Iterator[Page]:
        """The rows of one Arrow file."""
        row = 0
        try:
            with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as stream:
                known = any(key.partition(".")[0] == self.fields.text.partition(".")[0] for key in stream.schema.names)
                for batch in stream:
                    if known:
                        for start in range(0, batch.num_rows, _ROWS):
                            part = batch.slice(start, _ROWS)
                            yield from table_pages(part, self, self.fields, name, row + start, tally)
                    else:
                        has_text(stream.schema, self.fields, name, batch.num_rows, tally)
                    row += batch.num_rows
        except (OSError, pa.ArrowInvalid) as error:
            tally.problem(
                "damaged Arrow file", name, row, f"{str(error).splitlines()[0]}; rows from {row:,} on are lost"
            )
            tally.lose("damaged file")

    def _find(self, base_dir: Path) -> tuple[Path, list[Path]]:
        root = base_dir / self.path.expanduser()
        if not root.is_dir():
            return super()._find(base_dir)
        folders = self._split_folders(root)
        files = [file for folder in folders for file in _data_files(folder)]
        return root, self._some(root, files, "a dataset with Arrow files, as save_to_disk writes it")

    def _split_folders(self, root: Path) -> list[Path]:
        listing = root / "dataset_dict.json"
        if not listing.exists():
            if self.splits:
                raise InputError(
                    "this dataset has no splits", expected=", ".join(self.splits), found="one dataset", where=str(root)
                )
            return [root]
        there = [str(name) for name in _json(listing).get("splits", [])]
        unknown = [name for name in self.splits if name not in there]
        if unknown:
            raise InputError(f"there is no split {unknown[0]!r}", expected=", ".join(there), where=str(root))
        return [_inside(root, name) for name in sorted(self.splits or there)]


def _data_files(folder: Path) -> list[Path]:
    state = folder / "state.json"
    if not state.exists():
        raise InputError(
            "this folder holds no saved dataset", expected="state.json, as save_to_disk writes it", where=str(folder)
        )
    files = [_inside(folder, str(entry.get("filename", ""))) for entry in _json(state).get("_data_files", [])]
    for file in files:
        if not file.is_file():
            raise InputError("a file of a saved dataset is missing", expected=file.name, where=str(folder))
    return files


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if not name or not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            "a saved dataset names a file outside its folder", found=name or "an empty name", where=str(folder)
        )
    return path


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path.name} is not valid JSON", found=str(error), where=str(path)) from error
    return data if isinstance(data, dict) else {}
