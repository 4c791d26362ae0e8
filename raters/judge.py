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
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import Field, model_validator

from corpus.config import Count, Share
from corpus.errors import ArtifactError
from corpus.fingerprints import fingerprint
from corpus.scores import Score
from raters.base import Fitting, RaterSettings, with_counts
from raters.judge_answers import expected_level, mass_of, parse
from raters.judge_prompt import Form, Rubric, cut_document, load_rubric, messages, opening
from rephrase.answering import answers
from rephrase.cache import GenerationCache, cache_key
from rephrase.generator import Decoding, Generation, GenerationRequest, Generator
from rephrase.packaged_models import weights_of
from rephrase.vllm_engine import VllmGenerator, VllmSettings, resolved_dtype

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
    generator: VllmSettings = VllmSettings(max_context=2048)
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

        Raises ConfigError for an unknown rubric or model, EnvironmentProblem when the model is not installed.
        """
        beside = fitting.path(Path(self.generator.model))
        model = str(beside) if (beside / "config.json").is_file() else self.generator.model
        settings = self.model_copy(update={"generator": self.generator.model_copy(update={"model": model})})
        paths = (str(fitting.path(Path(item))) if item.endswith(".md") else item for item in self.dimensions)
        rubrics = tuple(map(load_rubric, paths))
        return JudgeRater(name, rubrics, settings, weights_of(model), fitting.cache, fitting.log)


@dataclass(frozen=True)
class JudgeRater:
    """A judge as a rater: one column `<name>_<dimension>` a rubric.

    Args:
        name: what the columns' names begin with.
        rubrics: what is judged.
        settings: how it is asked; its `dimensions` are not looked at.
        weights: identity of the model's weights; another model is refused.
        cache, log: where answers are kept, and what the engine prints goes; not part of the identity.
    """

    name: str
    rubrics: tuple[Rubric, ...]
    settings: JudgeSettings
    weights: str
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
        """The rubrics, how they are asked, and the model's weights and arithmetic."""
        asked = self.settings.model_dump(mode="json", exclude={"kind", "dimensions", "generator"})
        generator = self.settings.generator
        return {
            "rater": "judge", "version": 1, "name": self.name, "settings": asked,
            "rubrics": [_request_hash(rubric, self.settings) for rubric in self.rubrics],
            "generator": {
                "weights": self.weights, "dtype": resolved_dtype(generator.dtype),
                "max_context": generator.max_context,
            },
        }  # fmt: skip

    def rate(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Score n documents; null for a null or blank text and where no answer had a score. Loads the model once.

        Raises ArtifactError when the model is not the one the rater was made for.
        """
        generator = _loaded(self.settings.generator, self.log)
        if generator.identity["weights"] != self.weights:
            raise ArtifactError(
                "the judge's model was changed after it was chosen",
                expected=f"weights {self.weights}", found=f"weights {generator.identity['weights']}",
                where=self.settings.generator.model, fix="run the same command again, which judges with the new one",
            )  # fmt: skip
        texts = batch.column("text").to_pylist()
        columns, counts = [], Counter[str]()
        for rubric in self.rubrics:
            judged = judge(texts, rubric, self.settings, generator, self.cache)
            columns.append(pa.array(judged.scores, pa.float32()))
            counts.update({f"{rubric.name}_{what}": n for what, n in judged.counts.items()})
        return with_counts(pa.record_batch(columns, names=[score.name for score in self.scores]), counts)


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of n texts: a score or null each, the mass of the levels (soft labels; else null), and counts.

    Counts of texts: `scored`, `blank`, and `failed` (asked, and still null). Counts of answers: `refused`,
    `truncated`, `out_of_range`, `unparsed` (hard labels), `no_score_token` (soft labels), `asked_again`.
    """

    scores: list[float | None]
    masses: list[float | None]
    counts: dict[str, int]


def judge(
    texts: Sequence[str | None], rubric: Rubric, settings: JudgeSettings, generator: Generator, cache: Path
) -> Judged:
    """Judge n texts by one rubric; answers come from the cache folder or from the generator, and are kept."""
    request_hash = _request_hash(rubric, settings)
    stored = GenerationCache(cache, generator=generator.identity, request_hash=request_hash)
    room = generator.max_context - _longest_answer(settings)
    cuts = {
        i: cut_document(
            rubric, text, _form(settings), max_characters=settings.max_characters, room=room, generator=generator
        )
        for i, text in enumerate(texts)
        if text and text.strip()
    }
    scores: list[float | None] = [None] * len(texts)
    masses: list[float | None] = [None] * len(texts)
    counts = Counter(blank=len(texts) - len(cuts))
    open_rows = list(cuts)
    for attempt in range(settings.attempts if settings.labels == "hard" else 1):
        counts["asked_again"] += len(open_rows) if attempt else 0
        keys = {
            i: cache_key(
                generator=generator.identity, request_hash=request_hash, document_id="", chunk=cuts[i], rollout=attempt
            )
            for i in open_rows
        }
        asked = {key: _request(rubric, cuts[i], settings) for i, key in keys.items()}
        found = answers(asked, generator, stored, seed=settings.seed, batch_size=settings.batch_size)
        for i, key in keys.items():
            scores[i], failure = _score(found[key], rubric, settings)
            masses[i] = mass_of(found[key].choices or {}) if settings.labels == "soft" else None
            counts.update([failure] if failure else [])
        open_rows = [i for i in open_rows if scores[i] is None]
    counts["failed"] = len(open_rows)
    counts["scored"] = len(cuts) - len(open_rows)
    return Judged(scores, masses, {what: n for what, n in sorted(counts.items()) if n})


def _score(answer: Generation, rubric: Rubric, settings: JudgeSettings) -> tuple[float | None, str | None]:
    """The score of one answer, or why there is none."""
    if settings.labels == "soft":
        assert answer.choices is not None
        level = expected_level(answer.choices, rubric, least_mass=settings.least_mass)
        return level, "no_score_token" if level is None else None
    parsed = parse(answer, rubric)
    return None if parsed.score is None else float(parsed.score), parsed.failure


def _request(rubric: Rubric, document: str, settings: JudgeSettings) -> GenerationRequest:
    chat = messages(rubric, document, _form(settings))
    length = _longest_answer(settings)
    if settings.labels == "hard":
        return GenerationRequest(chat, length, Decoding(temperature=settings.temperature))
    levels = tuple(map(str, rubric.levels))
    return GenerationRequest(chat, length, Decoding(temperature=0), opening=opening(rubric), choices=levels)


def _request_hash(rubric: Rubric, settings: JudgeSettings) -> str:
    """Identity of everything that shapes a request, except the document."""
    return fingerprint(_request(rubric, "", settings))


def _form(settings: JudgeSettings) -> Form:
    return "reason_then_score" if settings.reason else "score"


def _longest_answer(settings: JudgeSettings) -> int:
    return settings.max_tokens if settings.labels == "hard" else 1


@lru_cache(maxsize=1)
def _loaded(settings: VllmSettings, log: Path) -> VllmGenerator:
    """The model, loaded once a process; it is freed when the process ends."""
    return VllmGenerator(settings, log=log)
