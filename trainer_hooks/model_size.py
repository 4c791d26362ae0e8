"""Sizes of a decoder from its configuration alone: parameters, and the FLOPs that a token of training needs.

parameter_count(config)                                  # equal to the built model's, tied weights once
flops_per_token(config, sequence_length=1024)            # the numerator of model FLOPs utilisation
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer_hooks.model_config import ModelConfig


def parameter_count(config: "ModelConfig") -> int:
    """Parameters of the finished model, tied weights once; matrices that only guide structured layers are left out."""
    norms = config.hidden * (2 * config.layers + 1) + config.qk_norm * 2 * config.head_size * config.layers
    embedding = config.vocabulary * config.hidden
    return norms + config.layers * _layer_matrices(config) + embedding * (1 if config.tied else 2)


def flops_per_token(config: "ModelConfig", sequence_length: int) -> int:
    """FLOPs of forward and backward for one token, as PaLM counts them (arXiv 2204.02311, appendix B).

    6 N + 12 layers heads head_size length: N is the parameters that a token is multiplied with, which are the
    layers' matrices and the output matrix, tied or not; looking up the embedding is none. Attention is counted
    over the whole sequence, although half of it is masked. Recomputed activations and guiding matrices do not count.
    """
    multiplied = config.layers * _layer_matrices(config) + config.vocabulary * config.hidden
    return 6 * multiplied + 12 * config.layers * config.heads * config.head_size * sequence_length


def _layer_matrices(config: "ModelConfig") -> int:
    """Parameters of one layer's matrices."""
    attention = 2 * config.hidden * config.head_size * (config.heads + config.key_heads)
    into, back = config.hidden, config.intermediate
    return attention + 2 * config.feed_forward.parameters(into, back) + config.feed_forward.parameters(back, into)
