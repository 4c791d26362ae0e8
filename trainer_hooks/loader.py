"""Read an order as training batches, with one integer of state.

Sample i is tokens [i T, (i + 1) T] of the ordered stream: T inputs, and the same shifted by one as targets.
Documents are concatenated with their end-of-text inside, so the order is read exactly as written. A global
batch is a run of consecutive samples cut evenly over data-parallel ranks; any number of ranks reads the same
global batches, and any batch can be read without reading those before it. Samples to be skipped are a range of
numbers, so a skip needs no state either.

In a training loop of your own (`trainer_hooks.datasets` has worker processes, and the form other trainers take):

    order = Order.open(workspace / "orders/climb")
    loader = OrderedLoader(order, open_shards(order, workspace), sequence_length=2048, batch_sequences=256,
                           dp_rank=rank, dp_world=world)
    loader.load_state_dict(saved)                             # {"next_sample": ..., "order_fingerprint": ...}
    for inputs, targets in loader:
        model.loss(inputs, targets).backward()
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from corpus.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

Batch = tuple[torch.Tensor, torch.Tensor]


class TokenOrder(Protocol):
    """What the loader needs of an order; `curriculum.order.Order` is one."""

    @property
    def n_tokens(self) -> int:
        """Tokens of the whole ordered stream."""

    @property
    def fingerprint(self) -> str:
        """The order's identity."""

    def read(self, token_a: int, token_b: int, token_arrays: Any) -> npt.NDArray[Any]:
        """Tokens [a, b) of the ordered stream, shape (b - a,)."""

    def visits_between(self, token_a: int, token_b: int) -> tuple[int, int]:
        """The visits that tokens [a, b) touch, as a half-open range of rows."""

    def visit_numbers(self, token_a: int, token_b: int) -> npt.NDArray[np.int64]:
        """The visit of each token in [a, b), shape (b - a,), and -1 where there is only padding."""

    def visits(self, first: int, stop: int) -> "pa.Table":
        """Those visits, one row each, in reading order."""


class OrderedLoader:
    """Batches of an order, resumable and randomly accessible."""

    def __init__(
        self,
        order: TokenOrder,
        token_arrays: Any,
        sequence_length: int,
        batch_sequences: int,
        dp_rank: int = 0,
        dp_world: int = 1,
        skip: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Prepare to read.

        Args:
            order: the ordered stream; token_arrays: its memory-mapped shards, as the order's `read` takes them
                (`curriculum.order_shards.open_shards` opens and checks them).
            sequence_length: T, inputs of a sample; batch_sequences: samples of one global batch.
            dp_rank, dp_world: this process among those that share each global batch.
            skip: ranges [a, b) of samples to leave out, such as a batch that made the loss jump, in whole batches.

        Raises ConfigError when a batch cannot be divided by dp_world, the order is shorter than one sample, or a
        range to skip does not begin and end between batches.
        """
        if batch_sequences % dp_world or not 0 <= dp_rank < dp_world:
            raise ConfigError(
                "the global batch cannot be cut evenly over the ranks",
                expected="batch_sequences a multiple of dp_world, and dp_rank below it",
                found=f"{batch_sequences} sequences, rank {dp_rank} of {dp_world}",
            )
        self.order, self._arrays = order, token_arrays
        self.sequence_length, self.batch_sequences = sequence_length, batch_sequences
        self._rank, self._local = dp_rank, batch_sequences // dp_world
        if self.n_samples < 1:
            raise ConfigError(
                "the order is shorter than one sequence",
                expected=f"{sequence_length + 1:,} tokens",
                found=f"{order.n_tokens:,}",
                fix="order more documents, or lower sequence_length",
            )
        for a, b in skip:
            if a % batch_sequences or b % batch_sequences or not 0 <= a < b:
                raise ConfigError(
                    "samples are skipped in whole batches",
                    expected=f"ranges [a, b) of multiples of {batch_sequences}, a below b",
                    found=f"{a} to {b}",
                )
        self.skip = tuple(sorted(skip))
        self.next_sample = 0

    @property
    def n_samples(self) -> int:
        """Whole samples in the order."""
        return max(0, self.order.n_tokens - 1) // self.sequence_length

    @property
    def n_batches(self) -> int:
        """Whole global batches in the order."""
        return self.n_samples // self.batch_sequences

    @property
    def padded(self) -> bool:
        """Whether the order may hold padding, which belongs to no document and is not to be predicted."""
        return getattr(self.order, "padding_id", None) is not None

    @property
    def dropped_tokens(self) -> int:
        """Tokens at the end of the order that no whole batch reads, as input or as target."""
        return self.order.n_tokens - (self.n_batches * self.batch_sequences * self.sequence_length + 1)

    def batch(self, step: int) -> Batch:
        """This rank's inputs and targets of global batch `step`, each (batch_sequences / dp_world, T) int64.

        Raises ConfigError for a step outside the order.
        """
        a, b = self._span(step)
        stream, shape = self.order.read(a, b + 1, self._arrays).astype(np.int64), (self._local, self.sequence_length)
        inputs, targets = stream[:-1].reshape(shape), stream[1:].reshape(shape)  # one memory
        return torch.from_numpy(inputs), torch.from_numpy(targets)

    def visit_numbers(self, step: int) -> Batch:
        """The visits of this rank's inputs and of its targets, each (batch_sequences / dp_world, T) int64.

        Rows of the order's visits, and -1 in padding. Raises ConfigError for a step outside the order.
        """
        a, b = self._span(step)
        numbers, shape = self.order.visit_numbers(a, b + 1), (self._local, self.sequence_length)
        return torch.from_numpy(numbers[:-1].reshape(shape)), torch.from_numpy(numbers[1:].reshape(shape))

    def documents(self, step: int) -> tuple["pa.Table", torch.Tensor]:
        """The visits that this rank's inputs come from, and the row of each token's visit in that table.

        Rows are (batch_sequences / dp_world, T) int64, -1 in padding; the table is as `visits_of_step` gives it.
        Raises ConfigError for a step outside the order.
        """
        a, b = self._span(step)
        first, stop = self.order.visits_between(a, b)
        numbers = torch.from_numpy(self.order.visit_numbers(a, b).reshape(self._local, self.sequence_length))
        return self.order.visits(first, stop), torch.where(numbers < 0, -1, numbers - first)

    def steps(self) -> Iterator[int]:
        """The numbers of the remaining whole batches, without those to be skipped; does not move the loader."""
        step = -(-self.next_sample // self.batch_sequences)
        while step < self.n_batches:
            past = [b for a, b in self.skip if a <= step * self.batch_sequences < b]
            if past:
                step = max(past) // self.batch_sequences
            else:
                yield step
                step += 1

    def next_number(self) -> int:
        """The number of the batch at the loader's position, then move on. Raises ConfigError at the order's end."""
        step = next(self.steps(), self.n_batches)
        self._check(step)
        self.next_sample = (step + 1) * self.batch_sequences
        return step

    def next_batch(self) -> Batch:
        """The batch at the loader's position, then move on. Raises ConfigError at the end of the order."""
        return self.batch(self.next_number())

    def __iter__(self) -> Iterator[Batch]:
        """The remaining whole batches."""
        while next(self.steps(), None) is not None:
            yield self.next_batch()

    def visits_of_step(self, step: int) -> "pa.Table":
        """The document visits whose tokens global batch `step` reads as inputs, in reading order.

        One row a visit: shard (a number into the order's `shards`), doc, start, length, source, phase, visit,
        score, rule. Steps count from 0. Raises ConfigError for a step outside the order.
        """
        self._check(step)
        size = self.batch_sequences * self.sequence_length
        first, stop = self.order.visits_between(step * size, (step + 1) * size)
        return self.order.visits(first, stop)

    def state_dict(self) -> dict[str, int | str]:
        """The loader's whole state: the next sample, counted over all ranks, and the order it belongs to."""
        return {"next_sample": self.next_sample, "order_fingerprint": self.order.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Move to a saved position, which may come from another number of ranks.

        Raises ConfigError when the state is of another order, or its position is inside a batch of this size.
        """
        if state["order_fingerprint"] != self.order.fingerprint:
            raise ConfigError(
                "this position belongs to another order",
                expected=f"order {self.order.fingerprint}",
                found=f"order {state['order_fingerprint']}",
                fix="resume with the order the run began with, or start a new run from its weights",
            )
        position = int(state["next_sample"])
        if position % self.batch_sequences or not 0 <= position <= self.n_samples:
            raise ConfigError(
                "the saved position is not at a border between batches of this order",
                expected=f"a multiple of {self.batch_sequences} up to {self.n_samples}",
                found=str(position),
                fix="keep batch_sequences as it was",
            )
        self.next_sample = position

    def _span(self, step: int) -> tuple[int, int]:
        """The tokens that this rank reads as inputs of a global batch, half open."""
        self._check(step)
        first = step * self.batch_sequences + self._rank * self._local
        return first * self.sequence_length, (first + self._local) * self.sequence_length

    def _check(self, step: int) -> None:
        if not 0 <= step < self.n_batches:
            raise ConfigError(
                f"this order has no step {step}",
                expected=f"a step from 0 to {self.n_batches - 1}",
                found=f"{self.order.n_tokens:,} tokens, {self.batch_sequences * self.sequence_length:,} a step",
                fix="lower the plan's tokens, or order more documents",
            )
