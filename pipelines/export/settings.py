"""What an export can be told: its format, how large files may be, and how they are called."""

from typing import Literal

from pydantic import Field

from corpus.config import Config, Count

FormatName = Literal["megatron", "datatrove", "llmc", "nanogpt", "mosaic"]


class ExportSettings(Config):
    """How an order is written for another trainer."""

    format: FormatName = Field(
        description="megatron (.bin, .idx), datatrove (.ds), llmc (.bin with a header: llm.c, modded-nanogpt), "
        "nanogpt (plain .bin), mosaic (MDS shards)"
    )
    max_tokens_per_file: Count | None = Field(
        None, ge=1, description="start a new file before it holds more; null: one file, or the format's own limit"
    )
    stem: str = Field("train", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="what file names begin with")
    tokenizer: str = Field(
        "unknown",
        pattern=r"^[^|\n]+$",
        description="the tokenizer's name or path, which datatrove keeps in its metadata",
    )
    padding_id: int | None = Field(
        None, ge=0, lt=2**32, description="the token that fills packed sequences; needed where a pack leaves room"
    )
