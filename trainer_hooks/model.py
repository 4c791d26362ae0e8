"""A small Llama-shaped decoder: RMSNorm, rotary positions, SwiGLU, grouped queries, tied or free embeddings.

Parameter names and layouts are those of `transformers.LlamaForCausalLM`, so export is a copy and vLLM loads
the result. It is fast on a CPU without a compiler: the loss never holds the logits of a whole batch
(`trainer_hooks.linear_loss`), and the other costs are kept to few, wide operations.

Shapes: B sequences, T tokens, H query heads, K key heads, D head size, C hidden size, V vocabulary.

    model = Decoder(ModelConfig(vocabulary=4096), seed=0)
    model.loss(ids_BT, targets_BT).backward()
"""

from typing import overload

import torch
import torch.nn.functional as F
from torch import nn

from trainer_hooks.attention import Attention, document_mask, rotary_table
from trainer_hooks.linear_loss import IGNORED, Head, compiled_chunks, linear_cross_entropy
from trainer_hooks.model_config import ModelConfig
from trainer_hooks.structured import FactoredLinear, set_progress

INIT_STD = 0.02
SHAPES_COMPILED = 64
"""Compilations of one function before torch would run it uncompiled, in silence and with other bits; its own is 8."""


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x)); its matrices are dense or products of factors."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        matrices = config.feed_forward
        self.gate_proj = matrices.make(config.hidden, config.intermediate)
        self.up_proj = matrices.make(config.hidden, config.intermediate)
        self.down_proj = matrices.make(config.intermediate, config.hidden)

    def forward(self, x_BTC: torch.Tensor) -> torch.Tensor:
        out_BTC: torch.Tensor = self.down_proj(F.silu(self.gate_proj(x_BTC)) * self.up_proj(x_BTC))
        return out_BTC


class Block(nn.Module):
    """One layer: attention and feed-forward, each after a norm and around a residual."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.hidden, config.norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden, config.norm_eps)
        self.mlp = FeedForward(config)

    def forward(
        self, x_BTC: torch.Tensor, cos_TD: torch.Tensor, sin_TD: torch.Tensor, mask_B1TT: torch.Tensor | None
    ) -> torch.Tensor:
        x_BTC = x_BTC + self.self_attn(self.input_layernorm(x_BTC), cos_TD, sin_TD, mask_B1TT)
        out_BTC: torch.Tensor = x_BTC + self.mlp(self.post_attention_layernorm(x_BTC))
        return out_BTC


class Body(nn.Module):
    """Embedding, layers and final norm: token ids to the last hidden states."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocabulary, config.hidden)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.hidden, config.norm_eps)

    def forward(self, ids_BT: torch.Tensor, documents_BT: torch.Tensor | None = None) -> torch.Tensor:
        x_BTC: torch.Tensor = self.embed_tokens(ids_BT)
        cos_TD, sin_TD = rotary_table(ids_BT.shape[1], self.config.head_size, self.config.rope_theta, x_BTC.device)
        mask_B1TT = None if documents_BT is None else document_mask(documents_BT)
        for block in self.layers:
            x_BTC = block(x_BTC, cos_TD, sin_TD, mask_B1TT)
        normed_BTC: torch.Tensor = self.norm(x_BTC)
        return normed_BTC


class Decoder(nn.Module):
    """A language model with the names and layouts of LlamaForCausalLM."""

    def __init__(self, config: ModelConfig, seed: int | None = 0) -> None:
        """Build the model; its parameters are drawn on the CPU from the seed, one after the other.

        With seed None they are left as torch makes them, for a model whose weights are loaded next.
        """
        super().__init__()
        self.config = config
        self.compiled = False
        self.model = Body(config)
        self.lm_head = nn.Linear(config.hidden, config.vocabulary, bias=False)
        if config.tied:
            self.lm_head.weight = self.model.embed_tokens.weight
        if seed is not None:
            self._initialise(seed)

    @overload
    def forward(self, ids_BT: torch.Tensor, *, documents_BT: torch.Tensor | None = None) -> torch.Tensor: ...

    @overload
    def forward(
        self,
        ids_BT: torch.Tensor,
        targets_BT: torch.Tensor,
        documents_BT: torch.Tensor | None = None,
        head: Head = linear_cross_entropy,
    ) -> tuple[torch.Tensor, torch.Tensor]: ...

    def forward(
        self,
        ids_BT: torch.Tensor,
        targets_BT: torch.Tensor | None = None,
        documents_BT: torch.Tensor | None = None,
        head: Head = linear_cross_entropy,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Logits of the next token, or what a head makes of the last hidden states.

        Args:
            ids_BT: (B, T) int64.
            targets_BT: (B, T) int64, the tokens to predict, -100 where nothing is; None asks for logits.
            documents_BT: (B, T) int64, the document of each token; a token then attends to its own only.
            head: the loss, called here so that an objective works under any way of spreading the model.

        Returns logits (B, T, V) without targets; with them the head's two: the sum of losses, a scalar with its
        graph, and each target's loss (B T,), detached.
        """
        with torch.compiler.set_stance("default" if torch.is_grad_enabled() else "force_eager"):
            hidden_BTC = self.model(ids_BT, documents_BT)
        if targets_BT is None:
            logits_BTV: torch.Tensor = self.lm_head(hidden_BTC)
            return logits_BTV
        with compiled_chunks(self.compiled):
            return head(hidden_BTC.flatten(0, 1), self.lm_head.weight, targets_BT.flatten())

    def loss(
        self, ids_BT: torch.Tensor, targets_BT: torch.Tensor, documents_BT: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Mean cross-entropy in nats a predicted token, a float32 scalar; nan where nothing is predicted."""
        total, _ = self(ids_BT, targets_BT, documents_BT)
        mean: torch.Tensor = total / (targets_BT != IGNORED).sum()
        return mean

    def set_progress(self, tokens: int) -> None:
        """Tell the model how many tokens it has been trained on, before a step and before a state is loaded.

        It matters to feed-forward layers that a dense matrix guides (`trainer_hooks.structured`): at their
        `guided_tokens` that matrix leaves the parameters, for good.
        """
        set_progress(self, tokens)

    @torch.no_grad()
    def _initialise(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        residual = INIT_STD / (2 * self.config.layers) ** 0.5
        for name, module in self.named_modules():
            std = residual if name.endswith(("o_proj", "down_proj")) else INIT_STD
            if isinstance(module, FactoredLinear):
                module.initialise(std, generator)
            elif isinstance(module, nn.RMSNorm):
                module.weight.fill_(1.0)
            elif isinstance(module, nn.Linear | nn.Embedding) and not (module is self.lm_head and self.config.tied):
                module.weight.copy_(torch.empty(module.weight.shape).normal_(0.0, std, generator=generator))


def compile_model(model: Decoder) -> None:
    """Compile the layers and the loss for training, in place; before the model is spread over ranks.

    Each shape of batch is compiled once, for itself, so that a resumed run meets the kernels of an undisturbed one.
    Evaluation is not compiled: its windows have many shapes. On a CPU this needs a C++ compiler.
    """
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, SHAPES_COMPILED)
    model.compiled = True
    for block in model.model.layers:
        block.compile(dynamic=False)


def count_parameters(model: nn.Module) -> int:
    """Parameters of a model, tied weights once."""
    return sum(parameter.numel() for parameter in model.parameters())
