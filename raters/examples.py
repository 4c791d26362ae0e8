"""Examples: texts a recipe names for a rater to learn from; lines of files, or else the run's own documents.

Where a file's line or a document must match, every condition that is given counts: its source, its URL.
"""

from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import Field, model_validator

from corpus.config import Config


class Examples(Config):
    """Texts that show a rater what to look for: lines of files, or else documents of the run itself."""

    files: tuple[Path, ...] = Field(
        (),
        description="JSONL files (.gz and .zst too) with a `text` field, relative to the recipe; none: the documents",
    )
    sources: tuple[str, ...] = Field((), description="take these sources only (default: any)")
    urls: tuple[str, ...] = Field((), description="patterns such as */tutorial/* that a URL must match (default: any)")

    @model_validator(mode="after")
    def _some(self) -> "Examples":
        if not self.urls and not self.files and not self.sources:
            raise ValueError("give files of examples, or sources or urls to choose them by among the documents")
        return self

    def match(self, source: str | None, url: str | None) -> bool:
        """Whether a text of this source and URL is one of the examples."""
        known = not self.sources or source in self.sources
        return known and (not self.urls or any(fnmatchcase(url or "", pattern) for pattern in self.urls))
