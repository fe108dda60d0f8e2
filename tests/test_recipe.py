from dataclasses import asdict, fields

import pytest
from helpers import ROOT

from showtell.errors import ConfigurationError
from showtell.recipe import Recipe


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_all_recipes_of_the_repository_are_valid(path):
    recipe = Recipe.load(path)
    assert Recipe.from_dict(recipe.to_dict(), "recipe") == recipe


def test_the_tutorial_recipe_has_the_settings_of_the_tutorial():
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
        ("[training]\nepoch = 3", r"unknown setting 'epoch' in \[training\]"),
        ("[training]\nepochs = 2.5", "epochs is 2.5; it must be of type int"),
        ("[training]\nepochs = true", "must be of type int"),
        ("[training]\nlearning_rate = true", "must be of type float"),
        (f"[training]\nlearning_rate = 1{'0' * 400}", "too large"),
        ("[training]\nepochs = 0", "must be greater than 0"),
        ("[model]\ndropout = 1.0", "below 1"),
        ("[data]\nmax_length = 2", "at least 3"),
        ("[data]\ntokenizer = 'words'", "unknown tokenizer 'words'; expected one of: word, bpe, char"),
        ("[data]\ntokenizer = 'char'\n[training]\nno_repeat_ngram_size = 2", "pass --no-repeat-ngram-size 0"),
        ("[data]\ntokenizer = 'bpe'\n[model]\nword_vectors = 'v.txt'", "but the tokenizer is bpe"),
        ("training = 3", r"training is 3; expected a section \[training\]"),
        ("[training", "cannot read the recipe"),
    ],
)
def test_errors_name_the_invalid_setting(tmp_path, text, reason):
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=reason):
        Recipe.load(tmp_path / "r.toml")


def test_an_integer_is_accepted_for_a_float(tmp_path):
    (tmp_path / "r.toml").write_text("[training]\nlearning_rate = 2")
    assert Recipe.load(tmp_path / "r.toml").training.learning_rate == 2.0


def test_all_settings_have_unique_names_and_a_help_text():
    settings = [setting for section in fields(Recipe) for setting in fields(section.default)]
    assert len({setting.name for setting in settings}) == len(settings)
    assert all(setting.metadata["help"] for setting in settings)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"epoch": 3}, "unknown setting 'epoch'"),
        ({"epochs": "3"}, "epochs is '3'; it must be of type int"),
        ({"grid": 1}, "grid is 1; it must be of type bool"),
    ],
)
def test_an_override_names_the_invalid_setting(settings, reason):
    with pytest.raises(ConfigurationError, match=reason):
        Recipe().override(settings)
