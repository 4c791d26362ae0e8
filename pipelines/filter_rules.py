"""Load a named set of filter rules: which signal, which bounds, which reason is recorded.

A rule set is a YAML file in pipelines/rules/: `rules`, a list of {reason, signal, min, max, source}, or `include`, a
list of other sets that are taken one after the other. The order matters: the first rule a document fails is the
reason it is dropped for. A path to a file of your own works as well as a name.

Run it:  gradatim run recipe.yaml    with the stage {filter: gopher} or {filter: ./my_rules.yaml}
"""

import difflib
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from corpus.errors import ConfigError
from raters.filter_signals import Rule

RULES = Path(__file__).parent / "rules"


def rule_sets() -> tuple[str, ...]:
    """The names of the bundled rule sets."""
    return tuple(sorted(path.stem for path in RULES.glob("*.yaml")))


def load_rules(name: str) -> tuple[Rule, ...]:
    """The rules of a bundled set, or of the YAML file at the path `name`, in order.

    Raises:
        ConfigError: no such set, a set that includes itself, an unknown or missing key, a bound that is no number.
    """
    return _load(name, ())


def _load(name: str, parents: tuple[str, ...]) -> tuple[Rule, ...]:
    path = Path(name) if name.endswith((".yaml", ".yml")) else RULES / f"{name}.yaml"
    if not path.is_file():
        near = difflib.get_close_matches(name, rule_sets(), 1)
        raise ConfigError(
            f"there is no filter rule set {name!r}",
            expected=", ".join(rule_sets()) + ", or the path of a YAML file",
            fix=f"did you mean {near[0]!r}?" if near else "",
        )
    if name in parents:
        raise ConfigError(f"the rule set {name!r} includes itself", where=" -> ".join((*parents, name)))
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError("a filter rule file is not valid YAML", found=str(error), where=str(path)) from error
    if not isinstance(content, dict) or not set(content) <= {"include", "rules"}:
        raise ConfigError(
            "a rule set has the keys `include` and `rules` only", found=str(content)[:200], where=str(path)
        )
    included = [rule for other in content.get("include") or [] for rule in _load(str(other), (*parents, name))]
    return (*included, *(_rule(entry, path, i) for i, entry in enumerate(content.get("rules") or [])))


def _rule(entry: Any, path: Path, position: int) -> Rule:
    where = f"{path}, rule {position + 1}"
    known = [field.name for field in fields(Rule)]
    if not isinstance(entry, dict) or not {"reason", "signal"} <= set(entry) <= set(known):
        expected = f"reason, signal, and min or max; known keys: {', '.join(known)}"
        raise ConfigError(
            "a filter rule is incomplete or has an unknown key", expected=expected, found=str(entry), where=where
        )
    bounds = [entry[end] for end in ("min", "max") if entry.get(end) is not None]
    if not bounds or not all(isinstance(bound, int | float) and not isinstance(bound, bool) for bound in bounds):
        raise ConfigError("a filter rule needs a number as min or max", found=str(entry), where=where)
    return Rule(**entry)
