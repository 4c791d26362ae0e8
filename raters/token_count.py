"""Count the tokens of documents: the unit of every budget, as a score column.

A selection is cut at a number of tokens of the tokenizer that will read it; characters and words are no measure,
because languages and sources differ by half. The end-of-text token that closes a document is counted.

Run it:  gradatim rate pages.jsonl.gz --rater 'tokens={kind: tokens, tokenizer: tokenizer.json}'
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from corpus.errors import ArtifactError, InputError
from corpus.fingerprints import file_checksum
from corpus.scores import Score
from corpus.tokenizer import load_encoder
from raters.base import Fitting, RaterSettings

N_TOKENS = "n_tokens"


@dataclass(frozen=True)
class TokenCount:
    """Counts tokens with the tokenizer at `path`, whose bytes are those of `checksum`."""

    path: Path
    checksum: str

    @property
    def scores(self) -> tuple[Score, ...]:
        """One count; float32 holds it exactly up to 2^24 tokens."""
        return (Score(N_TOKENS, low=1.0, high=None, better="middle", description="tokens, end-of-text included"),)

    @property
    def needs(self) -> tuple[str, ...]:
        """The text alone."""
        return ("text",)

    def identity(self) -> dict[str, Any]:
        """The tokenizer's bytes."""
        return {"rater": "tokens", "version": 1, "tokenizer": self.checksum}

    def rate(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Count n documents; null for a null text. Raises ArtifactError when the tokenizer was changed since."""
        encoder = load_encoder(self.path)
        if file_checksum(self.path) != self.checksum:
            raise ArtifactError("the tokenizer was changed after it was chosen", where=str(self.path))
        texts = batch.column("text").to_pylist()
        counts = np.array([len(ids) + 1 for ids in encoder.encode([text or "" for text in texts])], np.float32)
        absent = np.array([text is None for text in texts], np.bool_)
        return pa.record_batch([pa.array(counts, mask=absent)], names=[N_TOKENS])


class TokenCountSettings(RaterSettings):
    """Tokens of each document; what budgets are counted in."""

    kind: Literal["tokens"] = "tokens"
    tokenizer: Path = Field(description="a tokenizer.json, relative to the recipe")

    def rater(self, name: str, fitting: Fitting) -> TokenCount:
        """Load the tokenizer now. Raises InputError for a missing or damaged file."""
        path = fitting.path(self.tokenizer)
        if not path.is_file():
            raise InputError("there is no tokenizer here", expected="a tokenizer.json", where=str(path))
        load_encoder(path)
        return TokenCount(path, file_checksum(path))
