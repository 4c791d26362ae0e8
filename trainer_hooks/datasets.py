"""An order as PyTorch datasets, for trainers that are not ours, with the one integer of state kept exact.

- `OrderDataset` is map-style: item g is global sample g. Any sampler that goes in turn (torch's `SequentialSampler`,
  `DistributedSampler(shuffle=False)`, HF Trainer with `train_sampling_strategy="sequential"`) reads the order.
- `OrderStream` is iterable: items are this rank's batches. Workers take batches in turn, so the batches that come out
  are the same for any number of them. Its state is what torchdata's `StatefulDataLoader` saves for each worker.
- `prefetched` reads an `OrderedLoader` through workers and moves the loader as batches are handed out, so the loader's
  state is exact whatever has been read ahead, and can be resumed with other numbers of workers and ranks.

Batches are dicts as HF models take them: `input_ids`, `labels` (the same, which such models shift by themselves) and
`shift_labels`, the next tokens, so that the last token of a sample has a target as well (give Trainer
`remove_unused_columns=False`, or it leaves them out and the last position of each sample goes without).

    data = OrderDataset(order, open_shards(order, workspace), sequence_length=2048)
    arguments = TrainingArguments(train_sampling_strategy="sequential", remove_unused_columns=False)
    Trainer(model, arguments, train_dataset=data).train()

    for inputs, targets in prefetched(loader, workers=2): ...
    saved = loader.state_dict()
"""

from collections.abc import Iterator
from copy import copy
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from corpus.errors import ConfigError
from trainer_hooks.loader import Batch, OrderedLoader, TokenOrder

Item = dict[str, torch.Tensor]


class OrderDataset(Dataset[Item]):
    """Item g is global sample g of an order."""

    def __init__(self, order: TokenOrder, token_arrays: Any, sequence_length: int) -> None:
        """Arguments and errors as of `OrderedLoader`; batches are made by whoever reads the items."""
        self._loader = OrderedLoader(order, token_arrays, sequence_length, batch_sequences=1)

    def __len__(self) -> int:
        """Whole samples in the order."""
        return self._loader.n_samples

    def __getitem__(self, sample: int) -> Item:
        """Tensors of shape (T,), int64. Raises IndexError outside the order, as sequences do."""
        if not 0 <= sample < len(self):
            raise IndexError(f"this order has samples 0 to {len(self) - 1:,}, not {sample:,}")
        inputs, targets = self._loader.batch(sample)
        return _item(inputs[0], targets[0])


class OrderStream(IterableDataset[Item]):
    """This rank's batches of an order, from a loader's position on; pass it to a DataLoader with batch_size=None.

    With worker processes the position moves in the workers: read the state through `prefetched` or torchdata's
    `StatefulDataLoader`, not from the stream that was handed to them.
    """

    def __init__(self, loader: OrderedLoader) -> None:
        """Read on from where `loader` is; the loader itself does not move."""
        self._loader = copy(loader)
        self._in_lane = False  # is the position this worker's own already?

    def __iter__(self) -> Iterator[Item]:
        """Batches of tensors (batch_sequences / dp_world, T), int64; in a worker, every n-th of them for n workers."""
        worker = get_worker_info()
        lanes = 1 if worker is None else worker.num_workers
        if worker is not None and not self._in_lane:
            self._move(worker.id)
            self._in_lane = True
        return self._batches(lanes)

    def _batches(self, lanes: int) -> Iterator[Item]:
        while (step := next(self._loader.steps(), None)) is not None:
            batch = self._loader.batch(step)
            self._move(lanes)
            yield _item(*batch)

    def _move(self, batches: int) -> None:
        """Pass over some of the remaining batches."""
        steps = self._loader.steps()
        for _ in range(batches):
            next(steps, None)
        self._loader.next_sample = next(steps, self._loader.n_batches) * self._loader.batch_sequences

    def state_dict(self) -> dict[str, int | str]:
        """The next sample that this stream (in a worker: this worker) reads, and the order's fingerprint."""
        return self._loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Move to a position; in a worker, to one of its own. Raises as `OrderedLoader.load_state_dict`."""
        self._loader.load_state_dict(state)
        self._in_lane = get_worker_info() is not None


def prefetched(
    loader: OrderedLoader, workers: int, *, batches_ahead: int = 2, pin_memory: bool = False
) -> Iterator[Batch]:
    """The remaining batches of a loader, read ahead by worker processes.

    Args:
        loader: moves by a batch each time one is handed out, so its state never counts what was only read ahead.
        workers: processes; 0 reads in this one. The batches are the same for any number.
        batches_ahead: batches each worker keeps ready; pin_memory: copy them to page-locked memory, for a GPU.

    Raises ConfigError for a negative number of workers.
    """
    if workers < 0 or batches_ahead < 1:
        raise ConfigError(
            "a loader reads with no worker, or with some", found=f"{workers} workers, {batches_ahead} batches ahead"
        )
    batches: DataLoader[Item] = DataLoader(
        OrderStream(loader),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=batches_ahead if workers else None,
        pin_memory=pin_memory,
    )
    for step, item in zip(loader.steps(), batches, strict=True):
        loader.next_sample = (step + 1) * loader.batch_sequences
        yield item["input_ids"], item["shift_labels"]


def _item(inputs: torch.Tensor, targets: torch.Tensor) -> Item:
    return {"input_ids": inputs, "labels": inputs, "shift_labels": targets}
