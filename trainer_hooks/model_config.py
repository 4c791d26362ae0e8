"""The shape of a decoder, in a module without torch, so that recipes are read and checked at once."""

from pydantic import Field, model_validator

from corpus.config import Config

HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256)


class ModelConfig(Config):
    """The shape of a decoder. The defaults make about 1.3 million parameters with a vocabulary of 4,096."""

    vocabulary: int = Field(ge=2, description="token ids the model knows; may exceed the tokenizer's")
    hidden: int = Field(128, ge=1, description="width of the residual stream")
    layers: int = Field(4, ge=1)
    heads: int = Field(2, ge=1, description="query heads")
    kv_heads: int | None = Field(None, ge=1, description="key and value heads; null means as many as query heads")
    head_size: int = Field(64, description="one of the sizes vLLM's CPU attention has kernels for")
    intermediate: int = Field(384, ge=1, description="width of the feed-forward layer")
    context: int = Field(1024, ge=1, description="longest sequence the model is told to serve")
    tied: bool = Field(True, description="use the embedding as the output matrix")
    rope_theta: float = Field(10000.0, gt=0, description="base of the rotary frequencies")
    norm_eps: float = Field(1e-5, gt=0)
    qk_norm: bool = Field(False, description="RMSNorm over each head's queries and keys, as in Qwen3")

    @model_validator(mode="after")
    def _consistent(self) -> "ModelConfig":
        if self.heads % self.key_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.key_heads})")
        if self.hidden % self.heads:
            raise ValueError(f"hidden ({self.hidden}) must be a multiple of heads ({self.heads}), or no Llama loads it")
        if self.head_size not in HEAD_SIZES:
            raise ValueError(f"head_size must be one of {list(HEAD_SIZES)}, found {self.head_size}")
        return self

    @property
    def key_heads(self) -> int:
        """The number of key and value heads, resolved."""
        return self.kv_heads or self.heads
