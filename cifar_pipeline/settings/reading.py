"""Reading params.yaml and recipes/, and checking all of them."""

import re
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import CollectionNode, Node

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.settings.base import NAME, NOT_A_NAME
from cifar_pipeline.settings.params import PROFILES, Params, RecipeFile
from cifar_pipeline.settings.validation import nearest, validated

RESERVED = {"default", "pipeline", "all_models"}
"""Names that floors and jobs give a meaning of their own."""


def load_params(path: Path) -> Params:
    """Read params.yaml and the recipes/ beside it, and validate every recipe under every profile.

    Raises: PipelineError naming the file, the key and what it should be.
    """
    content = read_yaml(path)
    if "recipes" in content:
        raise PipelineError(
            f"{path} has a section `recipes`; write each recipe into a file of its own, "
            "recipes/<name>.yaml"
        )
    files = [
        file
        for file in sorted(recipes_folder(path).glob("*.yaml"))
        if not file.name.startswith(".")  # an editor's, or what is being written
    ]
    for file in files:
        if not re.fullmatch(NAME, file.stem):
            raise PipelineError(f"recipes/: {file.stem!r} {NOT_A_NAME}; rename {file.name!r}")
    recipes = {
        file.stem: validated(RecipeFile, read_yaml(file), f"recipes/{file.name}") for file in files
    }
    params = validated(Params, content | {"recipes": recipes}, path.name)
    _check_names(params, path.name)
    for profile in PROFILES:
        other = params.under(profile)
        other.source()
        for name in params.recipes:
            other.recipe_as_written(name)
        for name in params.all_searches:
            other.search_around(name)
    return params


def recipes_folder(params_file: Path) -> Path:
    """The folder of the recipes that belong to a params.yaml."""
    return params_file.parent / "recipes"


MOST_CHARACTERS = 1_000_000
MOST_VALUES = 100_000
LONGEST_NUMBER = 100
"""Characters of a whole number. Larger ones can be neither printed nor made a float."""


def missing(path: Path) -> PipelineError:
    """The error of a settings file that is not there."""
    return PipelineError(f"{path} is missing; restore it with `git checkout {path.name}`")


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping, in YAML 1.2, as DVC reads it.

    Raises: PipelineError when it is missing, is not YAML, repeats a key, or holds something else.
    """
    try:
        content = deepcopy(_parsed(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise missing(path) from None
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1
        raise PipelineError(
            f"{path}, line {line}: {error.problem.splitlines()[0]}; write each key once"
        ) from None
    # The parser lets through what escapes, tags and keys that nobody writes make it stumble over.
    except (YAMLError, ValueError, ArithmeticError, LookupError, TypeError) as error:
        raise PipelineError(f"{path} is not YAML in UTF-8: {error}") from None
    except RecursionError:
        raise PipelineError(f"{path} is nested too deeply for settings; write it plainly") from None
    if not isinstance(content, dict):
        raise PipelineError(f"{path} holds no settings; restore it with `git checkout {path.name}`")
    return content


@lru_cache(maxsize=256)
def _parsed(text: str) -> Any:
    """The content of YAML. A step reads the same files twice, and a test run reads them hundreds
    of times; the parser is slow."""
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"{len(text):,} characters are more than settings have")
    yaml = YAML(typ="safe", pure=True)
    root = yaml.compose(text)
    _check_bounded(root)
    return yaml.constructor.construct_document(root) if root else None


def _check_bounded(root: Node | None) -> None:
    """Raise ValueError when aliases make the content endless, or too large to be read, a number is
    too long, or a text cannot be written. Nothing is made of it before that: merging (`<<`) alone
    could take for ever."""
    nodes, found = [root] if root else [], 0
    while nodes:
        node = nodes.pop()
        found += 1
        if found > MOST_VALUES:
            raise ValueError("its aliases (`*`) stand for too many values; write them out")
        if isinstance(node, CollectionNode):
            for entry in node.value:  # of a mapping, a key and its value
                nodes += entry if isinstance(entry, tuple) else [entry]
            continue
        node.value.encode("utf-8")  # an escape can stand for half a character (`"\\ud800"`)
        if str(node.tag).endswith(":int") and len(node.value) > LONGEST_NUMBER:
            raise ValueError(
                f"it has a number of {len(node.value):,} characters; write one of at most "
                f"{LONGEST_NUMBER}"
            )


def _check_names(params: Params, file: str) -> None:
    """Raise where one place of the file names what another does not have."""
    params.expanded(params.models)
    for name in params.searches:
        params.require_search(name)
    if reserved := sorted(RESERVED & {*params.recipes, *params.groups, *params.ensembles}):
        raise PipelineError(f"'{reserved[0]}' is the name of a job or a key; choose another name")
    for group, members in params.groups.items():
        if group in params.recipes:
            raise PipelineError(f"{file}: '{group}' is a recipe; give the group another name")
        params.expanded(members)
    for name, ensemble in params.ensembles.items():
        if name in params.recipes:
            raise PipelineError(f"{file}: '{name}' is a recipe; give the ensemble another name")
        for member in ensemble.members:
            params.require_recipe(member)
        if len({params.recipe_as_written(member).target for member in ensemble.members}) > 1:
            raise PipelineError(
                f"{file}: ensembles.{name} has members of the 100 classes and of the 20 "
                "superclasses; keep to one of them"
            )
    for profile in PROFILES:
        if "default" not in params.floors.get(profile, {}):
            raise PipelineError(
                f"{file}: floors.{profile}.default is missing; write 0.0 for no floor"
            )
    for name in {name for floors in params.floors.values() for name in floors}:
        if name not in {"default", *params.recipes}:
            raise PipelineError(
                f"{file}: floors names the recipe '{name}'{nearest(name, params.recipes)}, "
                "which does not exist"
            )
