"""Open the generator that a recipe names: vLLM in this process, or servers that speak the OpenAI protocol.

How it is used:  with closing(open_generator(settings, log=log)) as generator: generator.generate(requests, seed=0)
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from rephrase.generator import Generator
from rephrase.server_settings import ServerSettings
from rephrase.vllm_engine import VllmGenerator, vllm_identity
from rephrase.vllm_settings import VllmSettings

AnyGenerator = Annotated[VllmSettings | ServerSettings, Field(discriminator="kind")]
"""Settings of a generator, told apart by `kind`: `vllm` or `server`."""


def open_generator(settings: VllmSettings | ServerSettings, *, log: Path) -> Generator:
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


def generator_identity(settings: VllmSettings | ServerSettings) -> dict[str, str]:
    """What all cache keys and manifests say of it, without an engine; a server is asked.

    Raises as `open_generator` does.
    """
    if isinstance(settings, VllmSettings):
        return vllm_identity(settings)
    from rephrase.server_generator import server_identity

    return dict(server_identity(settings))
