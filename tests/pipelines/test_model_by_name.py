"""A model given by its size takes the vocabulary of the tokens it is trained on."""

from pathlib import Path

from small_recipe import training, write_recipe

from pipelines.proxies import ProxySettings
from pipelines.recipe import load_recipe
from trainer_hooks.model_size import parameter_count


def test_in_a_recipe(tmp_path: Path):
    train = {**training(), "model": "5M"}
    recipe = load_recipe(write_recipe(tmp_path, tokenizer={"vocabulary": "8K"}, train=train))
    assert recipe.train is not None
    assert (recipe.train.model.vocabulary, recipe.train.model.hidden) == (8000, 256)


def test_of_proxies():
    model = ProxySettings.model_validate({"model": "1M"}).model
    assert model.vocabulary == 2048
    assert 0.75e6 <= parameter_count(model) <= 1.25e6
