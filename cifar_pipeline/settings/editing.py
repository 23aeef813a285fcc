"""Editing params.yaml without losing its comments: profile, models, searches, and new recipes."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cifar_pipeline.artifacts import replacing_file
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.settings.params import NAME, PROFILES
from cifar_pipeline.settings.reading import load_params
from cifar_pipeline.settings.validation import nearest


def select_profile(path: Path, profile: str) -> bool:
    """Make `profile` the active one, as `dvc exp run -S profile=...` would: in params.yaml. True when it was another.

    params.yaml is the only place that says which profile `data/` holds, so that DVC records what was really run.
    """
    if profile not in PROFILES:
        raise PipelineError(
            f"no profile '{profile}'{nearest(profile, PROFILES)}; there are {', '.join(PROFILES)}"
        )
    return _rewrite_line(path, "profile", profile)


def select_models(path: Path, models: Sequence[str]) -> bool:
    """Put these recipes, and no others, in the graph, as `dvc exp run -S models=[...]` would; a group stands for its members.

    Returns: True when they were others.
    """
    params = load_params(path)
    names = [member for name in models for member in params.groups.get(name, (name,))]
    for name in names:
        if name not in params.recipes:
            known = [*params.recipes, *params.groups]
            raise PipelineError(
                f"no recipe or group '{name}'{nearest(name, known)}; there are {', '.join(known)}"
            )
    return _rewrite_line(path, "models", f"[{', '.join(dict.fromkeys(names))}]")


def select_searches(path: Path, names: Sequence[str]) -> bool:
    """Put these searches, and no others, in the graph, as `dvc exp run -S search=[...]` would. True when they were others."""
    searches = load_params(path).searches
    for name in names:
        if name not in searches:
            raise PipelineError(
                f"no search '{name}'{nearest(name, searches)}; there are {', '.join(searches)}"
            )
    return _rewrite_line(path, "search", f"[{', '.join(names)}]")


def add_recipe(path: Path, name: str, seed: Mapping[str, Any], comment: str) -> None:
    """Write a recipe at the end of params.yaml, whose last section is `recipes`; every profile has it as it is.

    Raises: PipelineError when there is one of that name, or the file would not be valid.
    """
    params = load_params(path)
    if name in params.recipes or name in params.groups or not re.fullmatch(NAME, name):
        raise PipelineError(
            f"'{name}' is taken, or is not a name of lower-case letters, digits and _; choose another"
        )
    profiles: dict[str, Any] = {
        "seed": dict(seed),
        **{profile: {} for profile in PROFILES if profile != "seed"},
    }
    entry = yaml.safe_dump({name: profiles}, sort_keys=False)
    text = path.read_text().rstrip("\n") + f"\n\n  # {comment}\n" + textwrap.indent(entry, "  ")
    with replacing_file(path) as temporary:
        temporary.write_text(text)
        load_params(temporary)


def _rewrite_line(path: Path, key: str, value: str) -> bool:
    # Not through a YAML writer, which would lose the file's comments.
    before = path.read_text()
    after, found = re.subn(rf"(?m)^{key}: *[^#\n]*?(?= *(#|$))", f"{key}: {value}", before, count=1)
    if not found:
        raise PipelineError(f"{path} has no line `{key}: ...`; add `{key}: {value}`")
    if after == before:
        return False
    with replacing_file(path) as temporary:
        temporary.write_text(after)
    return True
