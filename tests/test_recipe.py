from dataclasses import asdict, fields

import pytest
from helpers import ROOT

from showtell.errors import ConfigurationError
from showtell.inference.search_options import SearchOptions
from showtell.recipe import MAX_BEAM_SIZE, MAX_BEAM_TOKENS, MAX_CAPTION_LENGTH, MAX_LENGTH_PENALTY, Recipe


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
        ("[data]\nmax_length = 2", "must be 3 to 1,002"),
        ("[data]\nmax_length = 1003", "must be 3 to 1,002"),
        ("[data]\nmax_length = 500\n[training]\nbeam_size = 100", "is 49,800; it must be at most 20,000"),
        ("[model]\nunits = 1000000000", "units is 1000000000; it must be greater than 0 and at most 16,384"),
        ("[model]\ninitializer_scale = nan", "initializer_scale is nan; it must be 0 to"),
        ("[training]\nbatch_size = 10000000000", "at most 1,000,000,000"),
        ("[training]\nlearning_rate = inf", "learning_rate is inf"),
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


def test_the_limits_are_those_of_the_search_options():
    largest = Recipe().override({"beam_size": MAX_BEAM_SIZE, "length_penalty": MAX_LENGTH_PENALTY, "max_length": 102})
    options = {"length_penalty": largest.training.length_penalty, "no_repeat_ngram_size": MAX_CAPTION_LENGTH}
    assert SearchOptions(beam_size=MAX_BEAM_SIZE, max_length=100, **options).max_length == 100
    assert SearchOptions(max_length=MAX_CAPTION_LENGTH, **options).max_length == MAX_CAPTION_LENGTH
    for larger in (
        {"beam_size": MAX_BEAM_SIZE, "max_length": MAX_BEAM_TOKENS // MAX_BEAM_SIZE + 1},
        {"beam_size": MAX_BEAM_SIZE + 1, "max_length": 1},
        {"max_length": MAX_CAPTION_LENGTH + 1},
        {"length_penalty": MAX_LENGTH_PENALTY + 1},
        {"no_repeat_ngram_size": MAX_CAPTION_LENGTH + 1},
    ):
        with pytest.raises(ConfigurationError):
            SearchOptions(**larger)
