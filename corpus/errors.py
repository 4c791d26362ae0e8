"""Errors that teach: what was expected, what was found, where, and what to do.

Every error a user can cause or meet is a `GradatimError`, and the command line prints it as a short
block instead of a traceback. Invariants of our own code use `assert` and are not part of this family.
"""


class GradatimError(ValueError):
    """An error with the facts a user needs to act on it.

    Args:
        what: one sentence naming the problem and the thing it happened to.
        expected, found, where, fix: optional single facts; empty ones are not printed.
    """

    def __init__(self, what: str, *, expected: str = "", found: str = "", where: str = "", fix: str = "") -> None:
        self.what, self.expected, self.found, self.where, self.fix = what, expected, found, where, fix
        super().__init__(self.render())

    def render(self) -> str:
        """The error as lines of plain text: the sentence, then one aligned line a fact."""
        facts = {"expected": self.expected, "found": self.found, "where": self.where, "to fix": self.fix}
        return "\n".join([self.what, *(f"  {label:<9}{text}" for label, text in facts.items() if text)])

    def __reduce__(self) -> tuple[object, ...]:
        """Errors cross process borders with their facts intact."""
        return (_rebuild, (type(self), self.what, self.expected, self.found, self.where, self.fix))


def _rebuild(kind: type[GradatimError], what: str, expected: str, found: str, where: str, fix: str) -> GradatimError:
    return kind(what, expected=expected, found=found, where=where, fix=fix)


class ConfigError(GradatimError):
    """A recipe, an option or a quantity that cannot be used as written."""


class InputError(GradatimError):
    """An input that is missing, unreadable, or (under --strict) malformed."""


class SchemaError(GradatimError):
    """A table whose columns or values break the format they claim."""


class ArtifactError(GradatimError):
    """An artifact that is missing, unfinished, changed after it was finished, or of the wrong kind."""


class TaskError(GradatimError):
    """A task that failed after its retries; `what` begins with the task's name."""


class EnvironmentProblem(GradatimError):
    """Something outside the data: a missing package, no disk space, a Java that does not start."""
