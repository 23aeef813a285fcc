"""Reading params.yaml, and checking all of it."""

import re
from pathlib import Path

import yaml

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.settings.params import NAME, PROFILES, Params
from cifar_pipeline.settings.validation import nearest, validated


def load_params(path: Path) -> Params:
    """Read and validate params.yaml, every recipe under every profile included.

    Raises: PipelineError naming the file, the key and what it should be.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise PipelineError(
            f"{path} is missing; restore it with `git checkout params.yaml`"
        ) from None
    except yaml.YAMLError as error:
        raise PipelineError(f"{path} is not YAML: {error}") from None
    if not isinstance(content, dict):
        raise PipelineError(f"{path} holds no settings; restore it with `git checkout params.yaml`")
    params = validated(Params, content, path.name)
    _check_names(params, path.name)
    for profile in PROFILES:
        other = params.model_copy(update={"profile": profile})
        other.source()
        for name in params.recipes:
            other.recipe(name)
        for name in {*params.searches, *params.search}:
            other.search_around(name)
    return params


def _check_names(params: Params, file: str) -> None:
    """That what is named in one place of the file is there in the other."""
    for name in params.models:
        params.recipe(name)
    for group, members in params.groups.items():
        if (
            group in params.recipes
            or group in {"pipeline", "all_models"}
            or not re.fullmatch(NAME, group)
        ):
            raise PipelineError(
                f"{file}: '{group}' cannot be a group's name: it is another thing's, or has more than a-z, 0-9 and _"
            )
        for name in members:
            params.recipe(name)
    for name, ensemble in params.ensembles.items():
        if name in params.recipes:
            raise PipelineError(f"{file}: '{name}' is a recipe's name; give the ensemble another")
        if len({params.recipe(member).target for member in ensemble.members}) > 1:
            raise PipelineError(
                f"{file}: ensembles.{name} has members of the 100 classes and of the 20 superclasses; keep to one of them"
            )
    for profile in PROFILES:
        if "default" not in params.floors.get(profile, {}):
            raise PipelineError(
                f"{file}: floors.{profile}.default is missing; write 0.0 for no floor"
            )
    for name in {name for floors in params.floors.values() for name in floors}:
        if name not in {"default", *params.recipes}:
            raise PipelineError(
                f"{file}: floors names the recipe '{name}'{nearest(name, params.recipes)}, which there is not"
            )
