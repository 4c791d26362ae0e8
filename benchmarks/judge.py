"""How well a small judge judges, and how well a fast student learns it: real pages, all four PRRC dimensions.

Web pages and textbooks are drawn by a keyed hash from `web_en.jsonl.gz` and `openstax.jsonl.gz` of the given folder and
judged by SmolLM2-135M-Instruct through vLLM, with soft labels (all texts) and hard labels (64 web pages). Printed are
failures and refusals, the probability that the levels held, the scores, what they have to do with length and with the
better source, and a student's agreement on held-out texts. Answers are kept in `<folder of answers>`: a second run
prints the same without asking.

Run it:  python -m benchmarks.judge FOLDER [folder of answers] [web pages] [textbook sections]
"""

import gzip
import json
import sys
import tempfile
import time
from contextlib import closing
from itertools import combinations
from pathlib import Path

import numpy as np

from benchmarks.filters import machine
from corpus.keyed_random import keyed_hashes
from raters.fasttext_evaluation import auc
from raters.fasttext_training import TrainingSettings
from raters.judge import PRRC, Judged, JudgeSettings, judge
from raters.judge_prompt import load_rubric
from raters.level_agreement import spearman
from raters.student import Learning, train_student
from rephrase.cache import GenerationCache
from rephrase.generator import Generator
from rephrase.generators import open_generator

CHARACTERS = 800
HARD_PAGES = 200
LEARNING = Learning(training=TrainingSettings(epochs=100))
SOFT = JudgeSettings(max_characters=CHARACTERS)
HARD = JudgeSettings(max_characters=CHARACTERS, labels="hard", max_tokens=16, attempts=1)


def main() -> None:
    """Judge, train, print."""
    folder = Path(sys.argv[1])
    kept = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(tempfile.mkdtemp(prefix="gradatim-judge-"))
    web = drawn(folder / "web_en.jsonl.gz", int(sys.argv[3]) if len(sys.argv) > 3 else 200)
    books = drawn(folder / "openstax.jsonl.gz", int(sys.argv[4]) if len(sys.argv) > 4 else 60)
    generator = open_generator(SOFT.generator, log=kept / "engine.log")
    identity = generator.identity
    print(f"texts   {len(web)} web pages, {len(books)} textbook sections, first {CHARACTERS} characters; {machine()}")
    print(f"judge   {identity['model']}, {identity['dtype']}, {identity['engine']} {identity['engine_version']}")
    with closing(generator), closing(GenerationCache(kept, generator=identity)) as answers:
        scores = show_soft(web, books, generator, answers)
        show_students(web + books, scores)
        show_hard(web[:HARD_PAGES], generator, answers)


def show_soft(
    web: list[str], books: list[str], generator: Generator, answers: GenerationCache
) -> dict[str, list[float | None]]:
    """Soft labels of all texts: failures, mass, scores by source, and what the scores follow; returns the scores."""
    print("\nsoft labels      no score   mass mean/p10   web mean/sd   books mean/sd   AUC books   rho words   seconds")
    words = np.array([len(text.split()) for text in web], np.float64)
    scores = {}
    for name in PRRC:
        judged, seconds = timed_judge(web + books, name, SOFT, generator, answers)
        scores[name] = judged.scores
        masses = np.array([mass for mass in judged.masses if mass is not None])
        of_web, of_books = (
            np.array(side, np.float64) for side in (judged.scores[: len(web)], judged.scores[len(web) :])
        )
        known, known_books = ~np.isnan(of_web), of_books[~np.isnan(of_books)]
        rho = spearman(of_web[known], words[known])
        print(
            f"{name:<16} {judged.counts.get('failed', 0):>4} of {len(web + books)}"
            f"   {masses.mean():.2f} / {np.quantile(masses, 0.1):.2f}"
            f"   {of_web[known].mean():.2f} / {of_web[known].std():.2f}"
            f"   {known_books.mean():.2f} / {known_books.std():.2f}"
            f"   {auc(known_books, of_web[known]):.3f}   {rho if rho is None else round(rho, 3)}   {seconds:.0f}"
        )

    pairs = [correlation(scores[a], scores[b]) for a, b in combinations(PRRC, 2)]
    print(f"rank correlation between two dimensions: {min(pairs):.2f} to {max(pairs):.2f}")
    return scores


def correlation(a: list[float | None], b: list[float | None]) -> float:
    """Spearman over the texts that have both scores; NaN where it is undefined."""
    both = np.array([(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None])
    rho = spearman(both[:, 0], both[:, 1])
    return float("nan") if rho is None else rho


def show_students(texts: list[str], scores: dict[str, list[float | None]]) -> None:
    """A student of each column, on held-out texts: agreement with the judge beside that of the word count."""
    print("\nstudents         train   held out   macro-F1 (words)   rho (words)   rho in the top tenth (words)")
    shown = {}
    for name, given in scores.items():
        with tempfile.TemporaryDirectory() as folder:
            report = train_student(texts, given, LEARNING, Path(folder) / "model.bin")
        ours, words = report.student, report.word_count
        print(
            f"{name:<16} {report.n_train:>5}   {report.n_held_out:>8}   {ours.macro_f1:.2f} ({words.macro_f1:.2f})"
            f"   {ours.spearman} ({words.spearman})   {ours.spearman_top} ({words.spearman_top})"
        )
        shown[name] = report
    for name, report in shown.items():
        print(f"{name}: bands at {report.levels}, confusion {report.student.confusion}")


def show_hard(web: list[str], generator: Generator, answers: GenerationCache) -> None:
    """Hard labels of the web pages: what came of each question, and how often each score was given."""
    print(f"\nhard labels of {len(web)} web pages, one answer each")
    for name in PRRC:
        judged, seconds = timed_judge(web, name, HARD, generator, answers)
        given = [score for score in judged.scores if score is not None]
        levels = {level: given.count(level) for level in load_rubric(name).levels}
        print(f"{name:<16} {judged.counts}, scores {levels}, {seconds:.0f} s")


def timed_judge(
    texts: list[str], name: str, settings: JudgeSettings, generator: Generator, answers: GenerationCache
) -> tuple[Judged, float]:
    """Judge by one rubric; the seconds count the answers that were not stored yet."""
    started = time.perf_counter()
    return judge(texts, load_rubric(name), settings, generator, answers), time.perf_counter() - started


def drawn(path: Path, n: int) -> list[str]:
    """The n texts of a JSONL file whose ids have the smallest keyed hashes."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    hashes = keyed_hashes(0, (row["id"] for row in rows))
    return [rows[i]["text"] for i in np.argsort(hashes, kind="stable")[:n]]


if __name__ == "__main__":
    main()
