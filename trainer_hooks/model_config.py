"""The shape of a decoder, in a module without torch, so that recipes are read and checked at once."""

from typing import Any

from pydantic import Field, model_validator

from corpus.config import Config, nearest
from trainer_hooks.feed_forward_kinds import AnyFeedForward, Dense
from trainer_hooks.model_presets import SHAPES, SIZES, TOLERANCE
from trainer_hooks.model_size import parameter_count

HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256)


class ModelConfig(Config):
    """The shape of a decoder. The defaults make about 1.4 million parameters with a vocabulary of 4,096.

    A name such as `10M`, alone or as `preset` beside fields that differ, is a shape of about that many parameters
    (`trainer_hooks.model_presets`).
    """

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
    feed_forward: AnyFeedForward = Field(Dense(), description="matrices of the feed-forward layers")

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, data: Any) -> Any:
        data = {"preset": data} if isinstance(data, str) else data
        if not isinstance(data, dict) or "preset" not in data:
            return data
        given = {name: value for name, value in data.items() if name != "preset"}
        return {**cls._preset_shape(str(data["preset"]), given), **given}

    @classmethod
    def _preset_shape(cls, name: str, given: dict[str, Any]) -> dict[str, int]:
        """The shape that comes nearest to a preset's size with the given vocabulary."""
        if name not in SIZES:
            raise ValueError(f"there is no preset {name!r}{nearest(name, SIZES)}")
        if "vocabulary" not in given:
            raise ValueError(f"preset {name} needs a vocabulary, because its parameters are counted with it")
        if not isinstance(given["vocabulary"], int) or given["vocabulary"] < 2:
            return {}  # the field's own check says so
        fixed = {field: given[field] for field in ("vocabulary", "tied") if field in given}
        size = SIZES[name]
        counts = {shape: parameter_count(cls(**fixed, **shape._asdict())) for shape in SHAPES}
        best = min(SHAPES, key=lambda shape: abs(counts[shape] - size))
        if abs(counts[best] - size) > TOLERANCE * size:
            raise ValueError(
                f"no shape of preset {name} has a vocabulary of {given['vocabulary']:,}: the nearest has "
                f"{counts[best]:,} parameters; take a smaller vocabulary or another preset"
            )
        return best._asdict()

    @model_validator(mode="after")
    def _consistent(self) -> "ModelConfig":
        if self.heads % self.key_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.key_heads})")
        if self.hidden % self.heads:
            raise ValueError(f"hidden ({self.hidden}) must be a multiple of heads ({self.heads}), or no Llama loads it")
        if self.head_size not in HEAD_SIZES:
            raise ValueError(f"head_size must be one of {list(HEAD_SIZES)}, found {self.head_size}")
        for inputs, outputs in ((self.hidden, self.intermediate), (self.intermediate, self.hidden)):
            problem = self.feed_forward.problem(inputs, outputs)
            if problem:
                raise ValueError(f"feed_forward of {inputs} -> {outputs} features: {problem}")
        return self

    @property
    def key_heads(self) -> int:
        """The number of key and value heads, resolved."""
        return self.kv_heads or self.heads
