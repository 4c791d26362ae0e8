"""Average a model's weights inside a training loop, in float32, without touching what is trained.

A running average takes the weights in at its marks by the one rule A <- A + l_t (theta_t - A); `lawa` and `pma`, whose
oldest weights leave the mean again, keep a float32 copy a mark and apply the same rule over the copies when asked.
`trainer_hooks.merging` applies it to checkpoints, so both are equal bit for bit. The average never reaches the
optimizer: `swapped` lends it to a model for an evaluation and gives the trained weights back unchanged.

In a training loop of your own:

    average = resolved.averages["wma"].averager(model)        # resolved = trainer_hooks.resolution.resolve(plan)
    for batch in batches:
        ...                                                   # an optimizer step of yours; tokens += ...
        if resolved.averages["wma"].takes(tokens):
            average.update(model, tokens)
        if time_to_evaluate and average.ready:
            with average.swapped(model):
                evaluate(model)
    save(average.tensors(), average.state())                  # float32 tensors, and plain JSON
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from corpus.errors import ArtifactError, ConfigError
from trainer_hooks.average_kinds import Lawa, Pma, ResolvedAverage
from trainer_hooks.average_marks import running_steps, sliding_marks
from trainer_hooks.averaging_rules import step_sizes

Tensors = dict[str, torch.Tensor]


class RunningAverage(ABC):
    """A mean of a model's weights that grows while the model trains.

    Floating parameters and persistent buffers are averaged in float32, once per storage when weights are tied;
    integer buffers are those of the newest mark; non-persistent buffers are left alone. Under FSDP2 every tensor is
    a DTensor placed as the model's, and each rank updates its own shard. Batch statistics kept in buffers are averaged
    like the rest, which is no substitute for taking them again under the averaged weights. A parameter that leaves the
    model in mid-run leaves the mean at the next mark; none may join.
    """

    def __init__(self, resolved: ResolvedAverage, model: nn.Module, copies: int) -> None:
        self.resolved = resolved
        self.newest: int | None = None
        self._left: set[str] = set()
        self._held = [_zeros(model) for _ in range(copies)]
        self._integers = {name: value.clone() for name, value in _current(model).items() if not _averaged(value)}

    @property
    def ready(self) -> bool:
        """Whether there is an average yet: at least one mark is in."""
        return self.newest is not None

    @torch.no_grad()
    def update(self, model: nn.Module, tokens: int) -> None:
        """Take in the weights after `tokens` tokens.

        Raises ConfigError for anything but the next mark, ArtifactError when the model has tensors it did not have.
        """
        marks = self.resolved.marks
        index = 0 if self.newest is None else marks.index(self.newest) + 1
        if index == len(marks) or tokens != marks[index]:
            raise ConfigError(
                f"these weights are not the next ones of average {self.resolved.average.kind!r}",
                expected=f"those after {marks[index]:,} tokens" if index < len(marks) else "none: it is complete",
                found=f"those after {tokens:,} tokens",
                fix="call update after each step at which takes(tokens) is true",
            )
        current = _current(model)
        self._leave({*self._held[0], *self._integers} - set(current))
        check_names({*self._held[0], *self._integers}, current, "the model")
        self._take(index, {name: value for name, value in current.items() if _averaged(value)})
        _copy({name: current[name] for name in self._integers}, self._integers)
        self.newest = tokens

    def average(self) -> Tensors:
        """The mean of what is in so far, float32, by parameter name; not to be written to.

        A window that is not complete is averaged with its coefficients scaled to sum to 1. Raises ConfigError while
        nothing is in.
        """
        if not self.ready:
            raise ConfigError("there is no average yet", expected="at least one update", found="none")
        return {**self._mean(), **self._integers}

    @contextmanager
    def swapped(self, model: nn.Module) -> Iterator[nn.Module]:
        """Lend the average to a model, cast to its dtypes; its own weights come back bit for bit, also on errors.

        Needs room for one more copy of the model.
        """
        own = _current(model)
        averages = {name: value for name, value in self.average().items() if name in own}  # others have left since
        kept = {name: value.detach().clone() for name, value in own.items()}
        try:
            _copy(averages, own)
            yield model
        finally:
            reshard(model)  # what an evaluation left gathered is the average's, and would be used again
            _copy(kept, own)

    def state(self) -> dict[str, Any]:
        """As JSON: which scheme this is, tokens seen at its newest mark, and which tensors have left the model."""
        return {"scheme": self.resolved.model_dump(mode="json"), "newest": self.newest, "left": sorted(self._left)}

    def tensors(self) -> Tensors:
        """Every tensor of the state; a checkpoint may be loaded straight into them."""
        return {**self._kept(), **self._integers}

    def load(self, state: dict[str, Any], tensors: Tensors) -> None:
        """Go on from a saved state.

        A scheme that differs is refused once weights are in, because a mean under way cannot change its rule; only a
        mean without a window may go on for longer than it was to. Raises ConfigError then, ArtifactError when the
        tensors are not this average's.
        """
        if state["newest"] is None:
            return
        found, asked = (_so_far(s, state["newest"]) for s in (state["scheme"], self.resolved.model_dump(mode="json")))
        if found != asked:
            differing = [key for key in asked if found.get(key) != asked[key]]
            raise ConfigError(
                f"the saved average follows another scheme: {', '.join(differing)}",
                expected=str({key: found.get(key) for key in differing}),
                found=str({key: asked[key] for key in differing}),
                fix="keep the scheme until its last mark, or give the new average another name",
            )
        self._leave(set(state["left"]))
        own = self.tensors()
        check_names(own, tensors, "the saved average")
        with torch.no_grad():
            _copy({name: value for name, value in tensors.items() if value is not own[name]}, own)
        self.newest = state["newest"]

    def _leave(self, names: set[str]) -> None:
        """Drop tensors that are no longer the model's."""
        self._left |= names
        for held in (*self._held, self._integers):
            for name in names & held.keys():
                del held[name]

    @abstractmethod
    def _take(self, index: int, weights: Tensors) -> None: ...

    @abstractmethod
    def _mean(self) -> Tensors: ...

    @abstractmethod
    def _kept(self) -> Tensors: ...


class WeightedAverage(RunningAverage):
    """A window or a step_ema: one float32 copy of the model, moved towards the weights of each mark."""

    def __init__(self, resolved: ResolvedAverage, model: nn.Module) -> None:
        super().__init__(resolved, model, copies=1)
        self._sizes = running_steps(resolved)

    def _take(self, index: int, weights: Tensors) -> None:
        step_towards(self._held[0], weights, float(self._sizes[index]))

    def _mean(self) -> Tensors:
        return self._held[0]

    _kept = _mean


class SlidingMean(RunningAverage):
    """A lawa or pma: a ring of float32 copies of the model, one a mark, averaged when asked."""

    def __init__(self, resolved: ResolvedAverage, model: nn.Module) -> None:
        assert isinstance(resolved.average, Lawa | Pma)
        super().__init__(resolved, model, copies=resolved.average.last)

    def _take(self, index: int, weights: Tensors) -> None:
        step_towards(self._held[index % len(self._held)], weights, 1.0)

    @torch.no_grad()
    def _mean(self) -> Tensors:
        assert self.newest is not None
        mean = {name: torch.zeros_like(value) for name, value in self._held[0].items()}
        merged = sliding_marks(self.resolved, self.newest)
        for mark, size in zip(merged.marks.tolist(), step_sizes(merged.coefficients), strict=True):
            step_towards(mean, self._held[self.resolved.marks.index(mark) % len(self._held)], float(size))
        return mean

    def _kept(self) -> Tensors:
        return {f"{slot}/{name}": value for slot, held in enumerate(self._held) for name, value in held.items()}


def make_average(resolved: ResolvedAverage, model: nn.Module) -> RunningAverage:
    """The running average of a resolved plan's average, empty; `ResolvedAverage.averager` is the short way."""
    kind = SlidingMean if isinstance(resolved.average, Lawa | Pma) else WeightedAverage
    return kind(resolved, model)


def unique_tensors(model: nn.Module) -> Tensors:
    """Parameters and persistent buffers by name, tied weights once, under their first name."""
    parameters: Tensors = dict(model.named_parameters())
    every_parameter = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    buffers = {name: value for name, value in model.state_dict().items() if name not in every_parameter}
    return {**parameters, **buffers}


def reshard(model: nn.Module) -> None:
    """Free what FSDP2 gathered for a forward pass, so that the parameters are the shards that are trained."""
    for module in model.modules():
        gathered = getattr(module, "reshard", None)  # an FSDPModule; importing the class loads torch.distributed
        if callable(gathered):
            gathered()


def step_towards(means: Tensors, weights: Tensors, size: float) -> None:
    """means <- means + size (weights - means), in place and in the means' dtype; size 1 copies, whatever was there."""
    if size == 1:
        _copy(weights, means)
        return
    direct = [name for name, value in weights.items() if value.dtype == means[name].dtype]
    if direct:
        torch._foreach_lerp_([_local(means[name]) for name in direct], [_local(weights[name]) for name in direct], size)
    for name in weights.keys() - set(direct):  # one converted copy at a time
        mean = _local(means[name])
        mean.lerp_(_local(weights[name]).to(mean.dtype), size)


def check_names(expected: Iterable[str], found: Iterable[str], where: str) -> None:
    """Raise ArtifactError when two sets of tensor names differ, naming some that do."""
    missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    if missing or extra:
        raise ArtifactError(
            "the tensors are not those of the model",
            where=where,
            expected=f"also {missing[:3]}" if missing else "no others",
            found=f"extra {extra[:3]}" if extra else f"{len(missing)} fewer",
        )


def _current(model: nn.Module) -> Tensors:
    reshard(model)
    return {name: value.detach() for name, value in unique_tensors(model).items()}


def _so_far(scheme: dict[str, Any], newest: int) -> dict[str, Any]:
    """What of a scheme has shaped the mean up to its newest mark: of a window all, its coefficients sum to 1 in it."""
    if scheme["coefficients"]:
        return scheme
    return {**scheme, "until": None, "restarts": [position for position in scheme["restarts"] if position < newest]}


def _averaged(value: torch.Tensor) -> bool:
    return value.is_floating_point()


def _zeros(model: nn.Module) -> Tensors:
    tensors = _current(model).items()
    return {name: torch.zeros_like(value, dtype=torch.float32) for name, value in tensors if _averaged(value)}


def _local(value: torch.Tensor) -> torch.Tensor:
    """This rank's shard of a DTensor; any other tensor itself."""
    local: torch.Tensor = value.to_local() if hasattr(value, "to_local") else value
    return local


@torch.no_grad()
def _copy(source: Tensors, target: Tensors) -> None:
    for name, value in source.items():
        _local(target[name]).copy_(_local(value))
