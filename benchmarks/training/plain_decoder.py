"""The peer of `benchmarks.trainer`: a small Llama-shaped decoder and its loop, written the plain way of nanoGPT.

One fused query-key-value matrix, torch's fused attention, the logits of the whole batch, `F.cross_entropy`, and
`torch.compile` over the whole. It has no loader, no checkpoints and no hooks.
"""

import time
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from trainer_hooks.model_config import ModelConfig

Batch = tuple[torch.Tensor, torch.Tensor]


class PlainBlock(nn.Module):
    """A layer with as many key heads as query heads."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.heads * config.head_size
        self.heads = config.heads
        self.norm1, self.norm2 = nn.RMSNorm(config.hidden, config.norm_eps), nn.RMSNorm(config.hidden, config.norm_eps)
        self.qkv, self.out = (
            nn.Linear(config.hidden, 3 * width, bias=False),
            nn.Linear(width, config.hidden, bias=False),
        )
        self.gate_up = nn.Linear(config.hidden, 2 * config.intermediate, bias=False)
        self.down = nn.Linear(config.intermediate, config.hidden, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        B, T, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(B, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = turned(q, cos, sin), turned(k, cos, sin)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(B, T, -1))
        gate, up = self.gate_up(self.norm2(x)).chunk(2, dim=-1)
        out: torch.Tensor = x + self.down(F.silu(gate) * up)
        return out


class PlainDecoder(nn.Module):
    """Embedding, layers, norm, tied output, mean cross-entropy."""

    def __init__(self, config: ModelConfig, weights: dict[str, torch.Tensor], length: int) -> None:
        """The decoder with the weights of a `trainer_hooks.model.Decoder` of the same shape."""
        super().__init__()
        self.embedding = nn.Embedding(config.vocabulary, config.hidden)
        self.blocks = nn.ModuleList(PlainBlock(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.hidden, config.norm_eps)
        frequencies = config.rope_theta ** (-torch.arange(0, config.head_size, 2).float() / config.head_size)
        angles = torch.outer(torch.arange(length).float(), frequencies)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self.copy(weights)

    def forward(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        logits = F.linear(self.norm(x), self.embedding.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    @torch.no_grad()
    def copy(self, weights: dict[str, torch.Tensor]) -> None:
        """Take over weights by their names in a Llama."""
        self.embedding.weight.copy_(weights["model.embed_tokens.weight"])
        self.norm.weight.copy_(weights["model.norm.weight"])
        for number, block in enumerate(self.blocks):
            assert isinstance(block, PlainBlock)
            part = {name: weights[f"model.layers.{number}.{name}.weight"] for name in (
                "input_layernorm", "post_attention_layernorm", "self_attn.q_proj", "self_attn.k_proj",
                "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
            )}  # fmt: skip
            block.norm1.weight.copy_(part["input_layernorm"])
            block.norm2.weight.copy_(part["post_attention_layernorm"])
            block.qkv.weight.copy_(torch.cat([part[f"self_attn.{name}_proj"] for name in "qkv"]))
            block.out.weight.copy_(part["self_attn.o_proj"])
            block.gate_up.weight.copy_(torch.cat([part["mlp.gate_proj"], part["mlp.up_proj"]]))
            block.down.weight.copy_(part["mlp.down_proj"])


def turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions over (B, H, T, D)."""
    left, right = x.float().chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1).type_as(x)


def plain_loop(
    model: PlainDecoder, batches: Sequence[Batch], rate: float, dtype: torch.dtype, compiled: bool
) -> tuple[list[float], list[float]]:
    """Train on the batches in turn; each step's loss and the time after it."""
    device = model.embedding.weight.device
    loss_of = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    losses, times = [], []
    for ids, targets in batches:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            loss = loss_of(ids.to(device), targets.to(device))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
        times.append(time.perf_counter())
    return losses, times
