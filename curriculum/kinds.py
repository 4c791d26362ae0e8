"""The order policies by kind: what `order: {kind: ...}` may say."""

from typing import Annotated

from pydantic import Field

from curriculum.policies.shuffled import Shuffled
from curriculum.policies.sorted import Interleaved, Sorted

Policy = Annotated[Shuffled | Sorted | Interleaved, Field(discriminator="kind")]
