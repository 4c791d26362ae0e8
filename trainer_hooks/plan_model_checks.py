"""A plan beside its model, tokenizer and processes: whether they fit, and what memory they take."""

from collections.abc import Iterator

from trainer_hooks.average_kinds import Lawa, Pma, ResolvedAverage
from trainer_hooks.model_config import ModelConfig
from trainer_hooks.optimizers.kinds import AnyOptimizer
from trainer_hooks.plan import ResolvedPlan
from trainer_hooks.plan_findings import Finding

GIB = 2**30
SPARE_VOCABULARY = 1.1


def model_findings(
    resolved: ResolvedPlan, model: ModelConfig | None, tokenizer_size: int | None, processes: int
) -> Iterator[Finding]:
    """What does not fit, and the memory that weights, gradients, optimizer and averages take."""
    plan = resolved.plan
    if plan.batch_sequences % processes:
        yield Finding(
            "error", "batch-over-processes",
            f"a batch of {plan.batch_sequences} sequences cannot be cut evenly over {processes} processes",
            "plan.batch_sequences", f"write a multiple of {processes}",
        )  # fmt: skip
    if model is None:
        return
    if plan.sequence_length > model.context:
        yield Finding(
            "warning", "beyond-context",
            f"sequences of {plan.sequence_length:,} tokens are longer than the model's context of {model.context:,}, "
            "which is what its export says it serves",
            "model.context", f"set context to {plan.sequence_length} or more",
        )  # fmt: skip
    yield from _vocabulary(model, tokenizer_size)
    yield _memory(resolved, model)


def _vocabulary(model: ModelConfig, tokens: int | None) -> Iterator[Finding]:
    if tokens is None:
        return
    if model.vocabulary < tokens:
        yield Finding(
            "error", "vocabulary-too-small",
            f"the tokenizer has {tokens:,} tokens, the model knows {model.vocabulary:,}",
            "model.vocabulary", f"set it to {-(-tokens // 64) * 64}, the next multiple of 64",
        )  # fmt: skip
    elif model.vocabulary > max(SPARE_VOCABULARY * tokens, tokens + 63):
        spare = (model.vocabulary - tokens) * model.hidden * (1 if model.tied else 2)
        yield Finding(
            "note", "spare-vocabulary",
            f"the model knows {model.vocabulary:,} tokens, the tokenizer has {tokens:,}: {spare:,} parameters are "
            "never used",
            "model.vocabulary", f"set it to {-(-tokens // 64) * 64}",
        )  # fmt: skip


def _memory(resolved: ResolvedPlan, model: ModelConfig) -> Finding:
    """Float32 weights and gradients, optimizer state where it is the same for every parameter, averages."""
    kind = resolved.plan.optimizer.kind
    n, state = sizes(model, resolved.plan.optimizer, resolved.plan.peak_lr)
    parts = [("weights", 4 * n), ("gradients", 4 * n)]
    if state is not None:
        parts.append((f"{kind} state", state))
    parts += [(f"average {name}", 4 * n * _copies(average)) for name, average in resolved.averages.items()]
    total = sum(size for _, size in parts)
    listed = ", ".join(f"{name} {_size(size)}" for name, size in parts)
    without = "activations" if state is not None else f"activations and the state of {kind}"
    return Finding(
        "note", "memory",
        f"{n:,} parameters take {_size(total)} without {without} ({listed}); fsdp divides it over the processes",
        "model",
    )  # fmt: skip


def _copies(average: ResolvedAverage) -> int:
    """Float32 copies of the model that a running average holds."""
    kind = average.average
    return min(kind.last, len(average.marks)) if isinstance(kind, Lawa | Pma) else 1


def sizes(model: ModelConfig, optimizer: AnyOptimizer, peak_lr: float) -> tuple[int, int | None]:
    """How many parameters a model has, and the bytes of its optimizer's state, from tensors without memory.

    The second is None where an optimizer chooses what it keeps by the values of its tensors.
    """
    from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

    from trainer_hooks.model import Decoder
    from trainer_hooks.optimizers.state import prepare_state

    with FakeTensorMode():
        decoder = Decoder(model, 0)
        n = sum(parameter.numel() for parameter in decoder.parameters())
        try:
            made = optimizer.make(decoder, peak_lr)
            prepare_state(made)
        except DataDependentOutputException:
            return n, None
        tensors = [tensor for state in made.state.values() for tensor in state.values()]
        return n, sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _size(n_bytes: float) -> str:
    return f"{n_bytes / GIB:.2f} GiB" if n_bytes >= 0.1 * GIB else f"{n_bytes / 2**20:.3g} MiB"
