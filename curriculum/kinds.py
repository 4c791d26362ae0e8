"""The order policies by kind: what `order: {kind: ...}` may say.

A new one is its own file and one line here; see README.md.
"""

from typing import Annotated

from pydantic import Field

from curriculum.policies.banded import Banded
from curriculum.policies.folding import Folding, Zigzag
from curriculum.policies.labelled import Blocking, Interleave, InterleaveProportional, Spiral
from curriculum.policies.length_cycles import LengthCycles
from curriculum.policies.mixed import Mixed
from curriculum.policies.noised import GaussKey, GumbelKey, TokenGumbel
from curriculum.policies.paced import Paced
from curriculum.policies.segment import Segment
from curriculum.policies.shuffled import Shuffled
from curriculum.policies.sorted import Interleaved, Sorted
from curriculum.policies.stair import Saw, Stair
from curriculum.policies.taxonomy import TaxonomyDfs
from curriculum.policies.two_phase import TwoPhase
from curriculum.policies.warmup import CurriculumWarmup

OnePhase = Annotated[
    Shuffled
    | Mixed
    | Sorted
    | Interleaved
    | Banded
    | Folding
    | Zigzag
    | Segment
    | Stair
    | Saw
    | Paced
    | CurriculumWarmup
    | GaussKey
    | GumbelKey
    | TokenGumbel
    | Interleave
    | InterleaveProportional
    | Spiral
    | Blocking
    | TaxonomyDfs
    | LengthCycles,
    Field(discriminator="kind"),
]
"""Every policy but `two_phase`, whose parts are these."""

TwoPhase.model_rebuild(_types_namespace={"OnePhase": OnePhase})

Policy = Annotated[OnePhase | TwoPhase, Field(discriminator="kind")]
"""What stands under `order` in a recipe."""
