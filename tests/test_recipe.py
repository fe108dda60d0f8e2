from dataclasses import asdict

import pytest
from helpers import ROOT

from showtell.errors import ConfigurationError
from showtell.recipe import Recipe


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_the_recipes_of_the_repository_can_be_read(path):
    recipe = Recipe.load(path)
    assert Recipe.from_dict(recipe.to_dict(), "itself") == recipe


def test_the_tutorials_recipe_has_the_tutorials_settings():
    recipe = asdict(Recipe.load(ROOT / "recipes" / "coco2014-show-and-tell.toml"))
    assert recipe["training"]["learning_rate"] == 2.0 and recipe["training"]["optimizer"] == "sgd"
    assert recipe["model"]["initializer_scale"] == 0.08 and recipe["model"]["dropout"] == 0.3
    assert recipe["data"] == {"tokenizer": "word", "vocabulary_size": 5000, "min_count": 1, "max_length": 25}


def test_settings_are_overridden_by_name():
    recipe = Recipe().override({"epochs": 3, "units": 7})
    assert recipe.training.epochs == 3 and recipe.model.units == 7 and recipe.data == Recipe().data


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[trainin]", r"unknown section \[trainin\]"),
        ("[training]\nepoch = 3", "unknown setting 'epoch'"),
        ("[training]\nepochs = 2.5", "epochs is 2.5; it must be of type int"),
        ("[training]\nepochs = true", "must be of type int"),
        ("[training]\nepochs = 0", "must be greater than 0"),
        ("[model]\ndropout = 1.0", "below 1"),
        ("[data]\nmax_length = 2", "need 3"),
        ("[data]\ntokenizer = 'words'", "no tokenizer 'words'; there are word, bpe, char"),
        ("[data]\ntokenizer = 'char'\n[training]\nno_repeat_ngram_size = 2", "give --no-repeat-ngram-size 0"),
        ("[data]\ntokenizer = 'bpe'\n[model]\nword_vectors = 'v.txt'", "the tokenizer bpe makes none"),
        ("training = 3", "not a section"),
        ("[training", "cannot read the recipe"),
    ],
)
def test_mistakes_are_named(tmp_path, text, reason):
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=reason):
        Recipe.load(tmp_path / "r.toml")


def test_a_whole_number_will_do_for_a_float(tmp_path):
    (tmp_path / "r.toml").write_text("[training]\nlearning_rate = 2")
    assert Recipe.load(tmp_path / "r.toml").training.learning_rate == 2.0
