"""What the style `skill_synthesis` may set beyond what every style sets; the defaults are those of arXiv 2510.10023."""

from pydantic import Field, field_validator, model_validator

from corpus.config import Config
from rephrase.structure.settings import one_marker


class SkillSteps(Config):
    """Settings of `rephrase/skills/`."""

    solution_template: str = Field(description="the question that asks for a solution, with one {document}")
    n_new: int = Field(2, ge=1, le=32, description="new questions a pair of failed question and missing skill")
    n_solutions: int = Field(3, ge=1, le=64, description="solutions a new question")
    agree: int = Field(2, ge=1, description="solutions that must have one final answer for a question to be kept")
    min_words: int = Field(5, ge=1, description="a new question has at least this many words")

    @field_validator("solution_template")
    @classmethod
    def _has_its_marker(cls, template: str) -> str:
        return one_marker(template)

    @model_validator(mode="after")
    def _agreement_can_be_reached(self) -> "SkillSteps":
        if self.agree > self.n_solutions:
            raise ValueError(f"agree {self.agree} is above n_solutions {self.n_solutions}: no question could be kept")
        return self
