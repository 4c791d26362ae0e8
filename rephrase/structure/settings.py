"""What the style `structure` may set of its own; the figures are the paper's or this project's."""

from pydantic import Field, field_validator

from corpus.config import Config, Share

DOCUMENT_MARKER = "{document}"


def one_marker(template: str) -> str:
    """The template, if it has exactly one place for the text; raises ValueError otherwise."""
    found = template.count(DOCUMENT_MARKER)
    if found != 1:
        raise ValueError(f"a template needs exactly one {DOCUMENT_MARKER}, this one has {found}")
    return template


class StructureSteps(Config):
    """Settings of `rephrase/structure/`."""

    merge_template: str = Field(description="the question over the scopes of several sections, with one {document}")
    retries: int = Field(3, ge=0, le=8, description="more tries at the style's temperature after one without a map")
    last_greedy: bool = Field(True, description="one more try at temperature 0 when all of them gave no map")
    merge_at_once: int = Field(12, ge=2, le=40, description="the most scopes in one question; more are merged in turns")
    prefix_share: Share = Field(
        0.15, ge=0, le=0.5, description="the most tokens of a leaf's text, mind map included, that the map may take"
    )

    @field_validator("merge_template")
    @classmethod
    def _has_its_marker(cls, template: str) -> str:
        return one_marker(template)
