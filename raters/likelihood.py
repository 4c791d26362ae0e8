"""How probable a causal language model finds texts, and how its hidden states point: one forward pass for both.

Every token of a text is predicted exactly once. The first one follows the tokenizer's BOS token (or EOS, where it has
no BOS), and a text longer than the model's window goes on in a next window, whose first token follows the last one
of the window before. Next-token losses are computed a few hundred positions at a time, since logits over a large
vocabulary would take gigabytes.

Shapes: B windows, T tokens, D hidden size, N positions, V vocabulary; n documents.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from corpus.errors import ConfigError
from raters.text_windows import length_batches, padded, token_ids
from raters.torch_model import Compute, LoadedModel, computing, import_torch

CHUNK_POSITIONS = 512
FEWEST_TOKENS = 2


@dataclass(frozen=True)
class Likelihoods:
    """What a model says of n texts; NaN where a text has fewer than two tokens.

    Args:
        nats: shape (n,), -ln p(text), at least 0.
        tokens: shape (n,), how many tokens that is the sum over.
        n_bytes: shape (n,), the text's length in UTF-8.
        concentration: shape (n,), angle concentration (see `off_diagonal`); NaN where it was not asked for.
    """

    nats: npt.NDArray[np.float64]
    tokens: npt.NDArray[np.float64]
    n_bytes: npt.NDArray[np.float64]
    concentration: npt.NDArray[np.float64]

    @property
    def nats_per_token(self) -> npt.NDArray[np.float64]:
        """The logarithm of the perplexity a token."""
        return self.nats / self.tokens

    @property
    def bits_per_byte(self) -> npt.NDArray[np.float64]:
        """-log2 p(text) a byte: the unit in which models with different tokenizers can be compared."""
        return self.nats / math.log(2) / self.n_bytes


def off_diagonal(mean_square: npt.ArrayLike, m: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The mean cosine between two different states of m, from C, the squared length of the mean of m unit states.

    C is the mean over the whole m x m matrix of cosines, in O(m d); its diagonal of ones adds about 1/m, by which
    short texts would look concentrated. So: (m C - 1) / (m - 1), in [-1/(m - 1), 1]. Source: arXiv 2506.02281.
    """
    count = np.asarray(m, np.float64)
    return (count * np.asarray(mean_square, np.float64) - 1.0) / (count - 1.0)


def likelihoods(
    loaded: LoadedModel, texts: Sequence[str | None], max_length: int, compute: Compute, *, concentration: bool = False
) -> Likelihoods:
    """Run a causal model over n texts.

    Raises ConfigError for a tokenizer with neither BOS nor EOS, or an architecture whose next-token head is unknown.
    """
    first = start_token(loaded)
    ids = [row if len(row) >= FEWEST_TOKENS else [] for row in token_ids(loaded, texts)]
    step = max_length - 1
    windows = [(i, [first, *row][at : at + max_length]) for i, row in enumerate(ids) for at in range(0, len(row), step)]
    width = loaded.model.config.get_text_config().hidden_size if concentration else 0
    nats, directions = np.zeros(len(texts)), np.zeros((len(texts), width))
    with computing(compute):
        head = next_token_head(loaded)
        found: list[Any] = [None] * len(windows)
        for batch in length_batches([len(window) for _, window in windows], compute.batch_tokens):
            rows = [windows[i][1] for i in batch]
            for i, result in zip(batch, _batch(loaded, head, rows, compute, concentration), strict=True):
                found[i] = result
    for (i, _), (loss, direction) in zip(windows, found, strict=True):  # in the order of the text, whatever the batch
        nats[i] += loss
        directions[i] += direction
    tokens = np.array([len(row) or np.nan for row in ids])
    n_bytes = np.array([len((text or "").encode()) for text in texts], np.float64)
    mean_square = np.square(directions).sum(axis=1) / np.square(tokens) if concentration else np.full(len(ids), np.nan)
    return Likelihoods(np.where(np.isnan(tokens), np.nan, nats), tokens, n_bytes, off_diagonal(mean_square, tokens))


def start_token(loaded: LoadedModel) -> int:
    """The token that a text's first one is conditioned on."""
    bos, eos = loaded.tokenizer.bos_token_id, loaded.tokenizer.eos_token_id
    if bos is None and eos is None:
        raise ConfigError(
            "this tokenizer names neither a BOS nor an EOS token, so nothing can stand before a text's first token",
            fix="name bos_token in its tokenizer_config.json",
        )
    return int(eos if bos is None else bos)


def _batch(
    loaded: LoadedModel, head: Callable[[Any], Any], rows: list[list[int]], compute: Compute, concentration: bool
) -> list[tuple[float, npt.NDArray[np.float64]]]:
    """For each window: the summed loss of all its tokens but the first, and the sum of their unit hidden states."""
    torch = import_torch()
    ids_BT, mask_BT = padded(rows, loaded.pad, compute.device)
    states_BTD = _states(loaded.model, ids_BT)
    own_BT = mask_BT[:, 1:].bool()
    losses_N = token_losses(head, states_BTD[:, :-1][own_BT], ids_BT[:, 1:][own_BT])
    ends = np.cumsum([len(row) - 1 for row in rows])[:-1]
    sums = [float(part.sum()) for part in np.split(losses_N, ends)]
    if not concentration:
        return [(loss, np.zeros(0)) for loss in sums]
    units_BTD = torch.nn.functional.normalize(states_BTD[:, 1:].float(), dim=-1) * own_BT[..., None]
    return list(zip(sums, units_BTD.sum(dim=1, dtype=torch.float64).cpu().numpy(), strict=True))


def token_losses(head: Callable[[Any], Any], states_ND: Any, targets_N: Any) -> npt.NDArray[np.float64]:
    """-ln p of N target tokens, in nats: logits exist for `CHUNK_POSITIONS` of them at a time."""
    torch = import_torch()
    losses = [
        torch.nn.functional.cross_entropy(head(states_ND[at : at + CHUNK_POSITIONS]).float(),
                                          targets_N[at : at + CHUNK_POSITIONS], reduction="none")
        for at in range(0, len(targets_N), CHUNK_POSITIONS)
    ]  # fmt: skip
    return np.asarray(torch.cat(losses).double().cpu().numpy())


def _states(model: Any, ids_BT: Any) -> Any:
    """Last hidden states. No mask: attention looks back only, and rows are padded on the right."""
    return model.base_model(input_ids=ids_BT, use_cache=False).last_hidden_state


def next_token_head(loaded: LoadedModel) -> Callable[[Any], Any]:
    """From hidden states (N, D) to logits (N, V), checked on a short text against the model's own forward pass.

    Raises ConfigError for an architecture that does more to its logits than is known here.
    """
    torch, model = import_torch(), loaded.model
    config = model.config.get_text_config()
    output, cap = model.get_output_embeddings(), getattr(config, "final_logit_softcapping", None)
    scale = getattr(config, "logit_scale", None) or 1.0 / (getattr(config, "logits_scaling", None) or 1.0)

    def head(states: Any) -> Any:
        logits = output(states)
        logits = logits if scale == 1.0 else logits * scale
        return torch.tanh(logits / cap) * cap if cap else logits

    text = loaded.tokenizer("The probe of a head.", add_special_tokens=False)["input_ids"]
    ids = torch.tensor([[start_token(loaded), *text]], device=model.device)
    if not torch.allclose(
        head(_states(model, ids)).float(), model(input_ids=ids, use_cache=False).logits.float(), rtol=1e-2, atol=1e-2
    ):
        raise ConfigError(
            "this architecture does not turn hidden states into logits in a way known here", found=config.model_type,
            fix="use a model of another architecture, such as Llama, Qwen, Gemma, GPT-2",
        )  # fmt: skip
    return head
