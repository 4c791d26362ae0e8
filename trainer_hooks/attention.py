"""Causal self-attention with rotary positions, grouped queries, optional norms of queries and keys, document masks.

On a CPU short rows are multiplied out, because torch's fused kernel for CPUs takes about twice as long there;
everything else goes to `scaled_dot_product_attention`.

Shapes: B sequences, T tokens, H query heads, K key heads, D head size, C hidden size.
"""

import torch
import torch.nn.functional as F
from torch import nn

from trainer_hooks.model_config import ModelConfig

MULTIPLIED_OUT = 512
"""Longest row for which the (T, T) weights of a head are worth holding on a CPU."""


class Attention(nn.Module):
    """Self-attention within a document, up to a token itself; key heads may be fewer than query heads."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        queries, keys = config.heads * config.head_size, config.key_heads * config.head_size
        self.config = config
        self.q_proj = nn.Linear(config.hidden, queries, bias=False)
        self.k_proj = nn.Linear(config.hidden, keys, bias=False)
        self.v_proj = nn.Linear(config.hidden, keys, bias=False)
        self.o_proj = nn.Linear(queries, config.hidden, bias=False)
        if config.qk_norm:  # over each head's own features, before the rotation, as in Qwen3
            self.q_norm = nn.RMSNorm(config.head_size, config.norm_eps)
            self.k_norm = nn.RMSNorm(config.head_size, config.norm_eps)

    def forward(
        self, x_BTC: torch.Tensor, cos_TD: torch.Tensor, sin_TD: torch.Tensor, mask_B1TT: torch.Tensor | None
    ) -> torch.Tensor:
        B, T, _ = x_BTC.shape
        size = self.config.head_size
        q_BTHD = self.q_proj(x_BTC).view(B, T, -1, size)
        k_BTKD = self.k_proj(x_BTC).view(B, T, -1, size)
        v_BTKD = self.v_proj(x_BTC).view(B, T, -1, size)
        if self.config.qk_norm:
            q_BTHD, k_BTKD = self.q_norm(q_BTHD).type_as(v_BTKD), self.k_norm(k_BTKD).type_as(v_BTKD)
        q_BHTD, k_BKTD = rotate(q_BTHD.transpose(1, 2), cos_TD, sin_TD), rotate(k_BTKD.transpose(1, 2), cos_TD, sin_TD)
        y_BHTD = causal_attention(q_BHTD, k_BKTD, v_BTKD.transpose(1, 2), mask_B1TT)
        out_BTC: torch.Tensor = self.o_proj(y_BHTD.transpose(1, 2).reshape(B, T, -1))
        return out_BTC


def causal_attention(
    q_BHTD: torch.Tensor, k_BKTD: torch.Tensor, v_BKTD: torch.Tensor, mask_B1TT: torch.Tensor | None
) -> torch.Tensor:
    """Attention of each query head to its key head (H is a multiple of K), (B, H, T, D).

    Args:
        mask_B1TT: bool, true where a token (row) attends to another (column); None: to all up to itself.
    """
    B, H, T, D = q_BHTD.shape
    K = k_BKTD.shape[1]
    if q_BHTD.device.type != "cpu" or T > MULTIPLIED_OUT:
        return F.scaled_dot_product_attention(
            q_BHTD, k_BKTD, v_BKTD, attn_mask=mask_B1TT, is_causal=mask_B1TT is None, enable_gqa=K != H
        )
    if mask_B1TT is None:
        mask_B1TT = torch.ones(1, 1, T, T, dtype=torch.bool, device=q_BHTD.device).tril()
    rows_BKGTD = (q_BHTD * D**-0.5).reshape(B, K, H // K * T, D)  # the query heads of a key head, below each other
    scores_BKGTT = (rows_BKGTD @ k_BKTD.transpose(2, 3)).view(B, K, H // K, T, T)
    weights_BKGTT = scores_BKGTT.masked_fill(~mask_B1TT[:, None], float("-inf")).softmax(-1)
    y_BHTD: torch.Tensor = (weights_BKGTT.view(B, K, H // K * T, T) @ v_BKTD).view(B, H, T, D)
    return y_BHTD


def document_mask(documents_BT: torch.Tensor) -> torch.Tensor:
    """Which tokens a token attends to, (B, 1, T, T) bool: those of its own document, up to itself.

    Rotary positions go on from one document to the next: attention depends on their differences alone.
    """
    same = documents_BT[:, None, :, None] == documents_BT[:, None, None, :]
    return same.tril()


def rotary_table(length: int, size: int, theta: float, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and signed sines of the rotary angles, each (T, D) float32.

    Both halves of D hold the same angles; the sines of the first half carry the minus of the rotation. It is made
    anew in each forward pass, which costs less than keeping it right on every device and for every length.
    """
    frequencies = 1.0 / theta ** (torch.arange(0, size, 2, dtype=torch.float32, device=device) / size)
    angles = torch.outer(torch.arange(length, dtype=torch.float32, device=device), frequencies)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)


def rotate(x: torch.Tensor, cos_TD: torch.Tensor, sin_TD: torch.Tensor) -> torch.Tensor:
    """Turn each pair (x_i, x_{i + D/2}) by its position's angle; keeps dtype and shape (B, H, T, D)."""
    left, right = x.chunk(2, dim=-1)
    return torch.addcmul(x * cos_TD, torch.cat([right, left], dim=-1), sin_TD).to(x.dtype)
