"""Open the generator that a recipe names: vLLM in this process, or servers that speak the OpenAI protocol.

How it is used:  with closing(open_generator(settings, log=log)) as generator: generator.generate(requests, seed=0)
"""

import os
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, Tag

from rephrase.generator import Generator
from rephrase.packaged_models import license_of
from rephrase.server_settings import ServerSettings
from rephrase.vllm_engine import VllmGenerator, vllm_identity
from rephrase.vllm_settings import VllmSettings

AnySettings = VllmSettings | ServerSettings


def _kind(given: Any) -> str:
    return str(given.get("kind", "vllm") if isinstance(given, Mapping) else given.kind)


AnyGenerator = Annotated[
    Annotated[VllmSettings, Tag("vllm")] | Annotated[ServerSettings, Tag("server")], Discriminator(_kind)
]
"""Settings of a generator, told apart by `kind`: `vllm`, also where none is given, or `server`."""


def open_generator(settings: AnySettings, *, log: Path) -> Generator:
    """A generator that has loaded nothing yet; whoever opens it closes it.

    Args:
        settings: of either kind.
        log: takes what an engine prints, and what a client has to say of its servers.

    Raises EnvironmentProblem when vLLM, a model's package, or every server is missing, ConfigError for settings that
    cannot work.
    """
    if isinstance(settings, VllmSettings):
        return VllmGenerator(settings, log=log)
    from rephrase.server_generator import ServerGenerator

    return ServerGenerator(settings, log=log)


def generator_identity(settings: AnySettings) -> dict[str, str]:
    """What all cache keys and manifests say of it, without an engine; a server is asked.

    Raises as `open_generator` does.
    """
    if isinstance(settings, VllmSettings):
        return vllm_identity(settings)
    with closing(open_generator(settings, log=Path(os.devnull))) as client:
        return dict(client.identity)


def found_beside(settings: AnySettings, place: Callable[[Path], Path]) -> AnySettings:
    """The settings with a model's folder given relative to a recipe; `place` says where that would be."""
    name = "model" if isinstance(settings, VllmSettings) else "tokenizer"
    given = getattr(settings, name)
    beside = place(Path(given)) if given else None
    return (
        settings.model_copy(update={name: str(beside)}) if beside and (beside / "config.json").is_file() else settings
    )


def model_license(settings: AnySettings) -> str | None:
    """The licence of the model as its folder tells it; of a server's model, the folder its tokenizer is from."""
    name = settings.model if isinstance(settings, VllmSettings) else settings.tokenizer or settings.model
    return license_of(name)
