"""Rate documents by asking a language model, a rubric at a time: the PRRC dimensions of Meta-rater (arXiv 2504.14194).

Soft labels, the default, begin the answer for the model (`Professionalism: `) and read how likely each level is as the
next token: one token of output, a score between the levels, and nothing to parse. Where the levels together hold less
than `least_mass` of the probability, the model was about to say something else, and the score is null. Hard labels let
the model answer freely and parse strictly; a failure is asked again with another seed, then null, never 0.

Judgements depend on the text alone and are kept in the generation cache: a killed run, a second recipe or a student's
teacher asks for none of them twice. How often the model refused, was cut, or made no sense is counted by dimension. The
score is only as good as the model: benchmarks/results/judge.md has what one of 135M parameters makes of it.

Run it:  gradatim rate corpus/web --rater judge
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import Field, model_validator

from corpus.config import Count, Share
from corpus.errors import ArtifactError
from corpus.fingerprints import canonical, fingerprint
from corpus.scores import Score
from raters.base import Fitting, RaterSettings, with_counts
from raters.judge_answers import expected_level, mass_of, parse
from raters.judge_prompt import Form, Rubric, cut_document, load_rubric, messages, opening
from rephrase.answering import answers
from rephrase.cache import GenerationCache, cache_key
from rephrase.generator import Answer, Decoding, GenerationRequest, Generator, Unanswered
from rephrase.generators import AnyGenerator, AnySettings, found_beside, generator_identity, open_generator
from rephrase.vllm_settings import VllmSettings

PRRC = ("professionalism", "readability", "reasoning", "cleanliness")


class JudgeSettings(RaterSettings):
    """A language model that gives points by a rubric."""

    own_process: ClassVar[bool] = True

    kind: Literal["judge"] = "judge"
    dimensions: tuple[str, ...] = Field(PRRC, min_length=1, description="bundled rubrics, or paths of rubric files")
    labels: Literal["soft", "hard"] = Field("soft", description="soft: expected score; hard: the number it writes")
    reason: bool = Field(False, description="hard labels: have it give a short reason before the score")
    max_characters: Count = Field(2_000, ge=100, description="a document is judged by this much of its begin")
    max_tokens: int = Field(160, ge=4, description="hard labels: the longest answer")
    attempts: int = Field(2, ge=1, le=10, description="hard labels: times to ask until an answer has a score")
    temperature: float = Field(0.5, ge=0, le=2, description="hard labels: how freely answers are drawn")
    least_mass: Share = Field(0.5, gt=0, description="soft labels: probability that the levels must hold together")
    generator: AnyGenerator = VllmSettings(max_context=2048)
    batch_size: int = Field(64, ge=1, description="questions sent together")
    seed: int = Field(0, ge=0, description="seed of drawn answers")

    @model_validator(mode="after")
    def _possible(self) -> "JudgeSettings":
        if self.reason and self.labels == "soft":
            raise ValueError("a reason needs labels: hard; soft labels read the score before anything is written")
        if self.labels == "hard" and self.attempts > 1 and self.temperature == 0:
            raise ValueError("with temperature 0 a second attempt repeats the first; raise it, or set attempts: 1")
        return self

    def rater(self, name: str, fitting: Fitting) -> "JudgeRater":
        """Read the rubrics and find the model now rather than in the middle of a run.

        Raises ConfigError for an unknown rubric or model, EnvironmentProblem when the model is not installed or no
        server answers.
        """
        paths = (str(fitting.path(Path(item))) if item.endswith(".md") else item for item in self.dimensions)
        rubrics = tuple(map(load_rubric, paths))
        generator = found_beside(self.generator, fitting.path)
        settings = self.model_copy(update={"generator": generator})
        return JudgeRater(name, rubrics, settings, generator_identity(generator), fitting.cache, fitting.log)


@dataclass(frozen=True)
class JudgeRater:
    """A judge as a rater: one column `<name>_<dimension>` a rubric.

    Args:
        name: what the columns' names begin with.
        rubrics: what is judged.
        settings: how it is asked; its `dimensions` are not looked at.
        model: the generator's identity; another model is refused.
        cache, log: where answers are kept, and what the engine prints goes; not part of the identity.
    """

    name: str
    rubrics: tuple[Rubric, ...]
    settings: JudgeSettings
    model: Mapping[str, str]
    cache: Path
    log: Path

    @property
    def scores(self) -> tuple[Score, ...]:
        """One score a rubric, in the rubric's range, higher is better."""
        return tuple(
            Score(f"{self.name}_{rubric.name}", float(rubric.low), float(rubric.high), "high", rubric.about)
            for rubric in self.rubrics
        )

    @property
    def needs(self) -> tuple[str, ...]:
        """The text alone."""
        return ("text",)

    def identity(self) -> dict[str, Any]:
        """The rubrics, how they are asked, and all of the generator that may change an answer or cut a document."""
        asked = self.settings.model_dump(mode="json", exclude={"kind", "dimensions", "generator"})
        return {
            "rater": "judge", "version": 2, "name": self.name, "settings": asked,
            "rubrics": [fingerprint(_request(rubric, "", self.settings)) for rubric in self.rubrics],
            "generator": {**self.model, "max_context": self.settings.generator.max_context},
        }  # fmt: skip

    def rate(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Score n documents; null for a null or blank text and where no answer had a score. Opens the model once, and
        loads it when a first answer is not stored.

        Raises ArtifactError when the model is not the one the rater was made for.
        """
        generator = _opened(self.settings.generator, self.log)
        if dict(generator.identity) != dict(self.model):
            raise ArtifactError(
                "the judge's model was changed after it was chosen",
                expected=canonical(dict(self.model)), found=canonical(dict(generator.identity)),
                where=self.settings.generator.model, fix="run the same command again, which judges with the new one",
            )  # fmt: skip
        texts = batch.column("text").to_pylist()
        columns, counts = [], Counter[str]()
        with closing(GenerationCache(self.cache, generator=generator.identity)) as cache:
            for rubric in self.rubrics:
                judged = judge(texts, rubric, self.settings, generator, cache)
                columns.append(pa.array(judged.scores, pa.float32()))
                counts.update({f"{rubric.name}_{what}": n for what, n in judged.counts.items()})
        return with_counts(pa.record_batch(columns, names=[score.name for score in self.scores]), counts)


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of n texts: a score or null each, the mass of the levels (soft labels; else null), and counts.

    Counts of texts: `scored`, `blank`, and `failed` (asked, and still null). Counts of answers: `refused`,
    `truncated`, `out_of_range`, `unparsed` (hard labels), `no_score_token` (soft labels), `unanswered` (none came),
    `asked_again`.
    """

    scores: list[float | None]
    masses: list[float | None]
    counts: dict[str, int]


def judge(
    texts: Sequence[str | None], rubric: Rubric, settings: JudgeSettings, generator: Generator, cache: GenerationCache
) -> Judged:
    """Judge n texts by one rubric; answers come from the cache or from the generator, and are kept."""
    room = generator.max_context - _longest_answer(settings)
    requests = {
        i: _request(
            rubric,
            cut_document(
                rubric, text, _form(settings), max_characters=settings.max_characters, room=room, generator=generator
            ),
            settings,
        )
        for i, text in enumerate(texts)
        if text and text.strip()
    }
    scores: list[float | None] = [None] * len(texts)
    masses: list[float | None] = [None] * len(texts)
    counts = Counter(blank=len(texts) - len(requests))
    open_rows = list(requests)
    for attempt in range(settings.attempts if settings.labels == "hard" else 1):
        counts["asked_again"] += len(open_rows) if attempt else 0
        keys = {
            i: cache_key(generator=generator.identity, request=requests[i], document_id="", rollout=attempt)
            for i in open_rows
        }
        asked = {key: requests[i] for i, key in keys.items()}
        found = answers(
            asked, generator, cache, seed=settings.seed, batch_size=settings.batch_size, keep="batch"
        )  # as a batch: scores must not depend on what ran beside what before and after a kill
        for i, key in keys.items():
            scores[i], masses[i], failure = _score(found[key], rubric, settings)
            counts.update([failure] if failure else [])
        open_rows = [i for i in open_rows if scores[i] is None]
    counts["failed"] = len(open_rows)
    counts["scored"] = len(requests) - len(open_rows)
    return Judged(scores, masses, {what: n for what, n in sorted(counts.items()) if n})


def _score(answer: Answer, rubric: Rubric, settings: JudgeSettings) -> tuple[float | None, float | None, str | None]:
    """The score of one answer, or why there is none (the last of the three); and the mass of the levels."""
    if isinstance(answer, Unanswered):
        return None, None, "unanswered"
    if settings.labels == "soft":
        assert answer.choices is not None
        level = expected_level(answer.choices, rubric, least_mass=settings.least_mass)
        return level, mass_of(answer.choices), "no_score_token" if level is None else None
    parsed = parse(answer, rubric)
    return None if parsed.score is None else float(parsed.score), None, parsed.failure


def _request(rubric: Rubric, document: str, settings: JudgeSettings) -> GenerationRequest:
    chat = messages(rubric, document, _form(settings))
    length = _longest_answer(settings)
    if settings.labels == "hard":
        return GenerationRequest(chat, length, Decoding(temperature=settings.temperature))
    levels = tuple(map(str, rubric.levels))
    return GenerationRequest(chat, length, Decoding(temperature=0), opening=opening(rubric), choices=levels)


def _form(settings: JudgeSettings) -> Form:
    return "reason_then_score" if settings.reason else "score"


def _longest_answer(settings: JudgeSettings) -> int:
    return settings.max_tokens if settings.labels == "hard" else 1


@lru_cache(maxsize=1)
def _opened(settings: AnySettings, log: Path) -> Generator:
    """The generator, opened once a process; it is freed when the process ends."""
    return open_generator(settings, log=log)
