"""From failed questions to documents that the style `skill_synthesis` can work on: one a pair of question and skill.

For each failed question and each skill it shows to be missing, a few other questions with that skill are drawn by key
from a pool; they are what a model is shown, and the failed question itself never is: it belongs to the set that
measures. Pairs whose skill no other question has become documents as well, and are dropped with a reason when they
are run.

How it is used:  batch = pair_documents(failed, pool, n_seeds=3, seed=0);  rephrase it with the style skill_synthesis
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

import pyarrow as pa
from pydantic import Field, field_validator

from corpus.config import Config
from corpus.documents import document_id, documents
from corpus.errors import InputError
from corpus.keyed_random import keyed_hashes

PAIR_SOURCE = "skill_pairs"
SEEDS = "n_seeds"
SKILL = "skill"


class SkillItem(Config):
    """A question and a skill that solving it takes; several skills of one question are several items of one id."""

    id: str = Field(min_length=1, description="the question's name in its set")
    question: str = Field(description="its text")
    skill: str = Field(description="the skill, in words")
    solution: str | None = Field(None, description="a worked solution, shown with the question where it is a seed")

    @field_validator("question", "skill")
    @classmethod
    def _says_something(cls, text: str) -> str:
        if not text.strip():
            raise ValueError("is blank")
        return text.strip()


def pair_documents(
    failed: Sequence[SkillItem],
    pool: Sequence[SkillItem],
    *,
    n_seeds: int = 3,
    seed: int = 0,
    max_pairs: int | None = None,
    lang: str = "en",
    licence: str | None = None,
) -> pa.RecordBatch:
    """A document for each pair of a failed question and a missing skill, in the order of `failed`.

    Args:
        failed: questions a model failed, each with a skill it lacks (from validation questions, never from test ones).
        pool: questions to draw seeds from; of the same skill (capitals and blanks do not matter), never the failed
            question itself.
        n_seeds: seeds a pair, >= 1; fewer where the pool has no more.
        seed: of the draw of seeds, and of pairs where `max_pairs` leaves some out.
        max_pairs: the most pairs; null: all. The set of arXiv 2510.10023 was cut to 9,500 questions with solutions.
        licence: of the pool's questions, handed on to what is made from them.

    The text is what a model is shown; `meta` has the skill, the failed item's id, and the seeds' ids and number. Raises
    InputError for a pair that is there twice.
    """
    twice = [pair for pair, times in Counter(map(_key, failed)).items() if times > 1]
    if twice:
        raise InputError("a failed question has one skill twice", expected="each pair once", found=twice[0])
    by_skill: defaultdict[str, dict[str, SkillItem]] = defaultdict(dict)
    for item in pool:
        by_skill[_skill(item)].setdefault(item.question, item)
    chosen = set(
        _lowest([_key(item) for item in failed], len(failed) if max_pairs is None else max_pairs, seed, "pair")
    )
    rows = []
    for item in (item for item in failed if _key(item) in chosen):
        known = {one.question: one for one in by_skill[_skill(item)].values() if one.question != item.question}
        seeds = [known[question] for question in _lowest(list(known), n_seeds, seed, _key(item))]
        meta = {
            SKILL: item.skill,
            "failed_id": item.id,
            SEEDS: str(len(seeds)),
            "seed_ids": ",".join(s.id for s in seeds),
        }
        rows.append(
            {
                "id": document_id(PAIR_SOURCE, _key(item)), "text": _text(item.skill, seeds), "source": PAIR_SOURCE,
                "lang": lang, "meta": meta | ({"license": licence} if licence else {}),
            }
        )  # fmt: skip
    return documents(rows)


def _key(item: SkillItem) -> str:
    return f"{item.id}/{_skill(item)}"


def _skill(item: SkillItem) -> str:
    return " ".join(item.skill.split()).casefold()


def _lowest(names: list[str], n: int, seed: int, key: str) -> list[str]:
    """The `n` names with the lowest draws, lowest first: the same for any order of the names."""
    draws = keyed_hashes(seed, (f"{key}\x00{name}" for name in names)).tolist()
    return [name for _, name in sorted(zip(draws, names, strict=True))[:n]]


def _text(skill: str, seeds: Sequence[SkillItem]) -> str:
    parts = [f"Skill: {skill}"]
    for number, item in enumerate(seeds, 1):
        parts.append(f"Example {number}: {item.question}")
        if item.solution and item.solution.strip():
            parts.append(f"Solution {number}: {item.solution.strip()}")
    return "\n\n".join(parts)
