"""Names of shards: `<source>-<file>-<part>`, so that a shard's source can be read off its name."""

from pathlib import Path


def shard_name(source: str, file: int, part: int) -> str:
    """The name of a document shard, without its suffix: `web-00000-000`."""
    return f"{source}-{file:05d}-{part:03d}"


def source_of(path: Path) -> str:
    """The source a shard came from: `web-00000-000.parquet` is from `web`."""
    return path.name.split(".")[0].rsplit("-", 2)[0]
