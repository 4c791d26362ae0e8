"""Read a folder of saved HTML files; a page's key is its path below the folder, with forward slashes."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pipelines.stages.readers.charset import decide
from pipelines.stages.readers.pages import Page, storable
from pipelines.stages.readers.reader import Portion, Reader
from pipelines.tally import Tally


class HtmlInput(Reader):
    """Saved pages: .html, .htm and .xhtml, in a folder and its subfolders."""

    kind: Literal["html"] = "html"
    suffixes: ClassVar[tuple[str, ...]] = (".html", ".htm", ".xhtml")
    files_in_portion: ClassVar[int] = 500

    def _read_file(self, file: Path, portion: Portion, tally: Tally) -> Iterator[Page]:
        """One page; a link that leads out of the folder is not followed, since saved sites are others' work."""
        name = portion.name(file)
        if not file.resolve().is_relative_to(portion.root.resolve()):
            tally.problem("leaves its folder", name, None, f"a link to {file.resolve()}")
            tally.lose("leaves its folder")
            return
        yield from super()._read_file(file, portion, tally)

    def pages(self, file: Path, name: str, tally: Tally) -> Iterator[Page]:
        """The one page of a file, without an address or a date of its own."""
        with file.open("rb") as stream:
            body = stream.read(self.max_document_bytes + 1)
        if len(body) > self.max_document_bytes:
            self.too_large(name, None, file.stat().st_size, tally)
            return
        decided = decide(body, None)
        for fault in decided.faults:
            tally.problem(fault, name, None, f"charset {decided.charset}")
        if not decided.body.strip():
            tally.lose("empty body")
            return
        yield Page(key=storable(name)[0], charset=decided.charset, body=decided.body)
