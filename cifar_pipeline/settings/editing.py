"""Editing the settings without losing their comments: profile, models, and new recipes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from cifar_pipeline.artifacts import replacing_file
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.settings.base import NAME
from cifar_pipeline.settings.params import PROFILES
from cifar_pipeline.settings.reading import load_params, recipes_folder
from cifar_pipeline.settings.validation import nearest


def select_profile(path: Path, profile: str) -> bool:
    """Make `profile` the active one in params.yaml, as `dvc exp run -S profile=...` would.

    params.yaml is the only place that says which profile `data/` holds.

    Returns: True when it was another.

    Raises: PipelineError for an unknown profile, and as `load_params` does.
    """
    if profile not in PROFILES:
        raise PipelineError(
            f"there is no profile '{profile}'{nearest(profile, PROFILES)}; "
            f"there are {', '.join(PROFILES)}"
        )
    load_params(path)
    return _rewrite_line(path, "profile", profile)


def select_models(path: Path, models: Sequence[str]) -> bool:
    """Put these recipes, and no others, in the graph; a group stands for its members.

    Returns: True when they were others.

    Raises: PipelineError for an unknown name, and as `load_params` does.
    """
    names = load_params(path).expanded(models)
    return _rewrite_line(path, "models", f"[{', '.join(names)}]")


def select_searches(path: Path, names: Sequence[str]) -> bool:
    """Have DVC version the results of these searches, and of no others.

    Returns: True when they were others.

    Raises: PipelineError for an unknown name, and as `load_params` does.
    """
    params = load_params(path)
    for name in names:
        params.require_search(name)
    return _rewrite_line(path, "searches", f"[{', '.join(names)}]")


@contextmanager
def restoring(path: Path) -> Iterator[None]:
    """Put the file back as it was when the block fails or is interrupted."""
    before = path.read_bytes()
    try:
        yield
    except BaseException:
        if path.read_bytes() != before:
            with replacing_file(path) as temporary:
                temporary.write_bytes(before)
        raise


def add_recipe(path: Path, name: str, paper: Mapping[str, Any], comment: str) -> Path:
    """Write recipes/<name>.yaml, which every profile uses as it is.

    Args:
        path: of params.yaml.
        comment: the header of the new file.

    Returns: the new file.

    Raises: PipelineError when the name is taken, or the file would not be valid.
    """
    params = load_params(path)
    if name in params.recipes or name in params.groups or not re.fullmatch(NAME, name):
        raise PipelineError(
            f"'{name}' is taken, or has other characters than a-z, 0-9 and _; choose another name"
        )
    target = recipes_folder(path) / f"{name}.yaml"
    header = "".join(f"# {line}\n" for line in comment.splitlines())
    content = yaml.safe_dump({"paper": dict(paper)}, sort_keys=False, allow_unicode=True)
    try:
        with replacing_file(target) as temporary:
            temporary.write_text(header + content, encoding="utf-8")
        load_params(path)
    except PipelineError:
        target.unlink()
        raise
    return target


def _rewrite_line(path: Path, key: str, value: str) -> bool:
    # Not through a YAML writer, which would change the layout of the whole file.
    before = path.read_text(encoding="utf-8")
    line = rf"(?m)^{key}: *[^#\n]*?(?= *(#|$))"
    after, found = re.subn(line, f"{key}: {value}", before, count=1)
    if not found:
        raise PipelineError(f"{path} has no line `{key}: ...`; add `{key}: {value}`")
    if after == before:
        return False
    with replacing_file(path) as temporary:
        temporary.write_text(after, encoding="utf-8")
    try:
        load_params(path)
    except PipelineError:
        with replacing_file(path) as temporary:
            temporary.write_text(before, encoding="utf-8")
        raise
    return True
