"""Which course a style takes, and the settings that courses of several steps have of their own.

A style names its course; its field `steps` holds what only that course knows. Both are checked here before a document
is touched, and a course is imported only when it is taken.

How it is used:  course = course_of(style)(source, style, bench)
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from corpus.config import Config, validated
from rephrase.course import Bench, Course, Source

if TYPE_CHECKING:
    from rephrase.style import Style

CourseFunction = Callable[[Source, "Style", Bench], Course]


class NoSteps(Config):
    """The settings of a plain course: none."""


def steps_model(course: str) -> type[Config]:
    """The model of a style's `steps` for one of the courses that `Style.course` names."""
    if course == "structure":
        from rephrase.structure.settings import StructureSteps

        return StructureSteps
    if course == "skill_synthesis":
        from rephrase.skills.settings import SkillSteps

        return SkillSteps
    assert course in ("plain", "format_instruct"), course
    return NoSteps


def course_of(style: "Style") -> CourseFunction:
    """The course of a style. Raises ConfigError when `steps` does not fit it, naming the key."""
    validated(steps_model(style.course), style.steps, f"style {style.name!r}, steps")
    if style.course == "structure":
        from rephrase.structure.structure_course import structure_course

        return structure_course
    if style.course == "skill_synthesis":
        from rephrase.skills.skill_course import skill_course

        return skill_course
    if style.course == "format_instruct":
        from rephrase.format_instruct import format_instruct_course

        return format_instruct_course
    from rephrase.plain_course import plain_course

    return plain_course
