"""What repeated tokens are worth: effective epochs under one published law, and the later law that disagrees.

A source read e times teaches less than e sources read once. The law of 2305.16264 says how much less, and that more
epochs never hurt; 2605.01640 adds a penalty for overfitting, under which they do. A plan shows both readings.

How it is used: `effective_epochs(4)` is 3.73; `check_epochs("math", 20, allow=False)` refuses.
"""

import math

from mixtures.shares import MixtureError

REPEAT_DECAY = 15.39
"""R* of arXiv 2305.16264: repeats are never worth more than R* more epochs. Secondary, the constant unverified."""
WARN_EPOCHS = 4
REFUSE_EPOCHS = 16


def effective_epochs(epochs: float) -> float:
    """How many epochs of fresh text `epochs` of one source are worth: 1 + R* (1 - exp(-(e - 1)/R*)), and e up to 1.

    Raises: MixtureError for epochs below zero or NaN. For a table to be read, not for deciding an order.

    Source: arXiv 2305.16264 (D'/U, with R* = REPEAT_DECAY).
    """
    if not epochs >= 0:
        raise MixtureError("epochs cannot be read", expected="zero or more", found=f"{epochs:g}", where="epochs")
    return epochs if epochs <= 1 else 1 - REPEAT_DECAY * math.expm1((1 - epochs) / REPEAT_DECAY)


def repeat_reading(epochs: float) -> str:
    """Both readings of `epochs` in one sentence, empty for a source read once or less."""
    if epochs <= 1:
        return ""
    return (
        f"{epochs:.2f} epochs are worth {effective_epochs(epochs):.2f} of fresh text by the law of 2305.16264 (its "
        "constant is unverified), in which repeats never hurt; a later law, 2605.01640, adds an overfitting penalty, "
        "under which they can"
    )


def check_epochs(name: str, epochs: float, *, allow: bool) -> str:
    """A warning for a source read more than WARN_EPOCHS times, else an empty text.

    Raises: MixtureError above REFUSE_EPOCHS, unless `allow` says that this is meant.
    """
    if epochs > REFUSE_EPOCHS and not allow:
        raise MixtureError(
            f"the source {name!r} would be read {epochs:.1f} times",
            expected=f"at most {REFUSE_EPOCHS} epochs, or a word that this is meant",
            found=repeat_reading(epochs),
            where=f"sources.{name}",
            fix="lower its share, set a cap on visits, or allow many epochs explicitly",
        )
    return f"{name}: {repeat_reading(epochs)}" if epochs > WARN_EPOCHS else ""
