"""Measure a two-class fastText model on texts it was not trained on, and name the words that move it most.

Accuracy stands beside the share of the larger class, and the AUC beside the AUC of the bare word count: a model
that beats neither has learned nothing, or only length.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from corpus.config import Config
from raters.fasttext_model import NEGATIVE, POSITIVE, probabilities

TOP_WORDS = 20


class Evaluation(Config):
    """What is known about a trained classifier; the numbers come from held-out texts."""

    n_train: int
    n_held_out_positive: int
    n_held_out_negative: int
    accuracy: float
    larger_class: float
    auc: float
    auc_of_word_count: float
    mean_score_positive: float
    mean_score_negative: float
    texts_blank: int
    texts_repeated: int
    texts_in_both_classes: int
    words_for: tuple[str, ...]
    words_against: tuple[str, ...]


def evaluate(
    model: Any, positives: Sequence[str], negatives: Sequence[str], *, n_train: int, counts: dict[str, int]
) -> Evaluation:
    """Score prepared, held-out texts of both classes (at least one each) and sum up."""
    n_for, n_against = len(positives), len(negatives)
    good = probabilities(model, POSITIVE, positives)
    bad = probabilities(model, POSITIVE, negatives)
    lengths = [np.array([line.count(" ") + 1.0 for line in lines]) for lines in (positives, negatives)]
    words_for, words_against = telling_words(model, {POSITIVE: 1.0, NEGATIVE: -1.0})
    return Evaluation(
        n_train=n_train,
        n_held_out_positive=n_for,
        n_held_out_negative=n_against,
        accuracy=_short((np.sum(good > 0.5) + np.sum(bad <= 0.5)) / (n_for + n_against)),
        larger_class=_short(max(n_for, n_against) / (n_for + n_against)),
        auc=_short(auc(good, bad)),
        auc_of_word_count=_short(auc(lengths[0], lengths[1])),
        mean_score_positive=_short(np.mean(good)),
        mean_score_negative=_short(np.mean(bad)),
        texts_blank=counts["blank"],
        texts_repeated=counts["repeated"],
        texts_in_both_classes=counts["in_both_classes"],
        words_for=words_for,
        words_against=words_against,
    )


def auc(positives: npt.NDArray[np.float64], negatives: npt.NDArray[np.float64]) -> float:
    """The chance that a positive scores above a negative, ties counting one half; both sides non-empty."""
    ordered = np.sort(negatives)
    below = np.searchsorted(ordered, positives, side="left") + np.searchsorted(ordered, positives, side="right")
    return float(below.sum() / 2 / len(positives) / len(negatives))


def telling_words(model: Any, weights: dict[str, float]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words whose vectors add most to, and take most from, the weighted sum of the labels' log-odds.

    Only words seen often enough to tell; at most 20 each, none of them in both.
    """
    words, counts = model.get_words(include_freq=True)
    outputs = model.get_output_matrix()
    direction = sum(weight * outputs[model.labels.index(label)] for label, weight in weights.items())
    least = max(5, int(counts.sum()) // 20_000)
    known = [i for i in range(len(words)) if counts[i] >= least and words[i] != "</s>"]
    if not known:
        return (), ()
    odds = np.round((model.get_input_matrix()[known].astype(np.float64) * direction).sum(axis=1), 6)
    ranked = [word for _, word in sorted((-odds[j], words[i]) for j, i in enumerate(known))]
    n = min(TOP_WORDS, len(ranked) // 2)
    return tuple(ranked[:n]), tuple(ranked[::-1][:n])


def _short(value: Any) -> float:
    return round(float(value), 6)
