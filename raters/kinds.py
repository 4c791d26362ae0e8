"""Every kind of rater a recipe can name. A new one is its own file and one line here; see README.md."""

from typing import Annotated

from pydantic import Field

from raters.causal_lm import CausalLmSettings
from raters.custom import CustomSettings
from raters.distilled import DistilledSettings
from raters.embedding import EmbeddingSettings
from raters.encoder import EncoderSettings
from raters.fasttext_graded import FastTextGradedSettings
from raters.fasttext_rater import FastTextModelSettings, FastTextSettings
from raters.importance import ImportanceSettings
from raters.judge import JudgeSettings
from raters.language_rater import LanguageSettings
from raters.model_pair import ModelPairSettings
from raters.rarity import RaritySettings
from raters.signals import SignalsSettings
from raters.text_measures import TextMeasuresSettings
from raters.token_count import TokenCountSettings

AnyRater = Annotated[
    SignalsSettings
    | TextMeasuresSettings
    | RaritySettings
    | FastTextSettings
    | FastTextModelSettings
    | FastTextGradedSettings
    | LanguageSettings
    | ImportanceSettings
    | EncoderSettings
    | EmbeddingSettings
    | CausalLmSettings
    | ModelPairSettings
    | JudgeSettings
    | DistilledSettings
    | TokenCountSettings
    | CustomSettings,
    Field(discriminator="kind"),
]  # fmt: skip
"""What stands under a rater's name in a recipe, told apart by `kind`."""

DistilledSettings.model_rebuild(_types_namespace={"AnyRater": AnyRater})  # its teacher is any rater, too
