"""Commands change what they select in params.yaml, and nothing else, however it is laid out."""

import pytest
import yaml

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.settings.editing import (
    restoring,
    select_models,
    select_profile,
    select_searches,
)
from cifar_pipeline.settings.reading import load_params

MODELS = "models: [cnn9, efficientnet_b0]"


@pytest.mark.parametrize(
    "written",
    [
        MODELS,
        "models: [cnn9, efficientnet_b0] # the two",
        "models: [cnn9, # the first\n  efficientnet_b0]",
        "models:\n  - cnn9\n  - efficientnet_b0\n# of the searches",
        "models:\n- cnn9\n- efficientnet_b0 # the second",
        "models :   [cnn9, 'efficientnet_b0']",
        "'models': [cnn9, efficientnet_b0]",
    ],
)
def test_models_are_selected_however_they_are_written(params_file, written):
    text = params_file.read_text()
    params_file.write_text(text.replace(MODELS, written))
    before = yaml.safe_load(params_file.read_text())
    assert select_models(params_file, ["control", "ladder1"])
    after = params_file.read_text()
    assert yaml.safe_load(after) == before | {"models": ["control", "ladder1"]}
    for comment in ("# the two", "# of the searches", "# the second"):
        assert (comment in after) == (comment in written)
    start, _, end = text.partition(MODELS)
    assert after.startswith(start)
    assert after.endswith(end)
    assert not select_models(params_file, ["control", "ladder1"])


def test_ends_of_lines_stay_as_they_are(params_file):
    windows = params_file.read_bytes().replace(b"\n", b"\r\n")
    params_file.write_bytes(windows)
    select_profile(params_file, "smoke")
    assert params_file.read_bytes() == windows.replace(b"profile: quick", b"profile: smoke", 1)


def test_a_missing_key_is_named(params_file):
    params_file.write_text(params_file.read_text().replace("searches: []\n", ""))
    with pytest.raises(PipelineError, match="has no `searches`; add a line"):
        select_searches(params_file, ["ladder6"])


def test_a_failure_undoes_the_selection_and_keeps_what_was_edited_meanwhile(params_file):
    before = params_file.read_bytes()
    edited = before.replace(b"seed: 123", b"seed: 124")

    def interrupted():
        with restoring(params_file):
            select_profile(params_file, "smoke")
            select_models(params_file, ["control"])
            text = params_file.read_bytes()
            assert text != before
            params_file.write_bytes(text.replace(b"seed: 123", b"seed: 124"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert params_file.read_bytes() == edited


@pytest.mark.parametrize("text", [None, "profile: [", "a: 1"])
def test_what_somebody_is_editing_is_left_alone(params_file, text):
    def interrupted():
        with restoring(params_file):
            if text is None:
                params_file.unlink()
            else:
                params_file.write_text(text)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (params_file.read_text() if params_file.exists() else None) == text


def test_a_file_that_is_missing_from_the_start_is_said_in_words(tmp_path):
    with (
        pytest.raises(PipelineError, match=r"params\.yaml is missing; restore it"),
        restoring(tmp_path / "params.yaml"),
    ):
        raise AssertionError


def test_files_that_an_editor_keeps_beside_a_recipe_are_not_recipes(params_file):
    recipes = params_file.parent / "recipes"
    (recipes / ".#cnn9.yaml").symlink_to("someone@here:1")
    (recipes / ".part.1.mine.yaml").write_text("paper: {")
    load_params(params_file)


def test_a_recipe_file_with_another_name_is_named(params_file):
    recipe = params_file.parent / "recipes" / "cnn9.yaml"
    recipe.with_name("My Net.yaml").write_text(recipe.read_text())
    with pytest.raises(PipelineError, match=r"'My Net' is not a name; .* rename 'My Net\.yaml'"):
        load_params(params_file)


def test_a_group_is_not_taken_for_a_recipe(params_file):
    with pytest.raises(PipelineError, match=r"'customs' is a group of recipes; .*: custom, custom"):
        load_params(params_file).require_recipe("customs")
