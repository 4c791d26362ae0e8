"""The hooks a plan can name and their settings; a module without torch.

A plan lists them in the order in which they act: `hooks: [{kind: source_loss}, {kind: migu, quantile: 0.7}]`. Each
settings class makes its hook (`make`), importing what it needs there.
"""

from typing import TYPE_CHECKING

from corpus.config import Config

if TYPE_CHECKING:
    from trainer_hooks.hooks.base import Hook


class HookSettings(Config):
    """What every hook has: a kind, by which it is named in plans, logs and checkpoints."""

    kind: str

    def make(self) -> "Hook":
        """The hook with these settings."""
        raise TypeError(f"{type(self).__name__} does not define make")


AnyHook = HookSettings
