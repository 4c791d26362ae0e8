"""Which values each gate accepts: thresholds as data, so that a stored output can be judged again without a model.

`Limits` lists the gates in the order in which they are tried, from cheap and certain to dear and fuzzy. Its defaults
are for a rewrite in prose; a style overrides what its form needs. They are starting values of this project, to be
set anew on an audited sample.

How it is used:  Limits.model_validate({"length": {"low": 0.2, "high": 0.9}, "copy_8": None})
"""

from pydantic import Field, model_validator

from corpus.config import Config


class Limit(Config):
    """The values a gate accepts; a null value (nothing to measure) is accepted as well."""

    low: float | None = Field(None, description="smallest accepted value")
    high: float | None = Field(None, description="largest accepted value")

    @model_validator(mode="after")
    def _one_side_at_least(self) -> "Limit":
        if self.low is None and self.high is None:
            raise ValueError("a limit needs low, high, or both")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        return self

    def accepts(self, value: float | None) -> bool:
        """Whether a measured value lies within the limit."""
        return value is None or not (
            (self.low is not None and value < self.low) or (self.high is not None and value > self.high)
        )


def _at_most(high: float) -> Limit:
    return Limit(low=None, high=high)


def _at_least(low: float) -> Limit:
    return Limit(low=low, high=None)


class Limits(Config):
    """Limits by gate, in the order the gates are tried. Null switches a gate off; its value is still measured."""

    finished: Limit | None = Field(_at_least(1), description="1 when the model ended by itself, 0 when it was cut")
    text: Limit | None = Field(_at_most(0.001), description="share of control and replacement characters; 1 if empty")
    refusal: Limit | None = Field(_at_most(0), description="apologies and self-references in the first 200 characters")
    lead_in: Limit | None = Field(_at_most(0), description="chatter left at its ends, or an agreed lead-in missing")
    leak: Limit | None = Field(
        _at_most(0), description="role markers, placeholders, fence marks, and six-word runs of the instruction"
    )
    parse: Limit | None = Field(_at_least(1), description="parts the style's parser finds")
    residue: Limit | None = Field(_at_most(0), description="Markdown and HTML marks that neither source nor form has")
    length: Limit | None = Field(Limit(low=0.5, high=1.5), description="output tokens over source tokens")
    tokens: Limit | None = Field(_at_least(50), description="output tokens")
    language: Limit | None = Field(
        _at_least(0.65), description="probability of the expected language; 0 when another is likelier"
    )
    loops: Limit | None = Field(
        _at_most(0.2), description="share of repeated 4-grams, or of characters in one repeated piece; the larger"
    )
    copy_8: Limit | None = Field(_at_most(0.7), description="share of the output's 8-grams found in the source")
    drift: Limit | None = Field(_at_least(0.3), description="share of the output's content words found in the source")
    obeyed: Limit | None = Field(
        _at_most(0.85), description="share of the page around an instruction to a model that the output leaves out"
    )
    facts: Limit | None = Field(_at_least(0.9), description="share of its numbers and names found in the source")
    recall: Limit | None = Field(_at_least(0.6), description="share of the source's numbers and names it has")
    contacts: Limit | None = Field(_at_most(0), description="e-mail addresses, links, phone numbers the source lacks")
    contamination: Limit | None = Field(
        _at_most(0.5), description="largest share of one evaluation item's tokens that the output covers"
    )
    meaning: Limit | None = Field(_at_least(0.5), description="cosine of the embeddings of output and source")
    duplicate: Limit | None = Field(
        _at_most(0.799), description="Jaccard similarity of 5-grams with an earlier output or with its source"
    )
