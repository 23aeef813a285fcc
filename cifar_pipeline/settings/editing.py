"""Editing the settings without losing their comments: profile, models, and new recipes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import Node, SequenceNode

from cifar_pipeline.artifacts import replacing_file
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.settings.base import NAME, NOT_A_NAME
from cifar_pipeline.settings.params import PROFILES
from cifar_pipeline.settings.reading import load_params, missing, recipes_folder
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
    return _rewrite(path, "profile", profile)


def select_models(path: Path, models: Sequence[str]) -> bool:
    """Put these recipes, and no others, in the graph; a group stands for its members.

    Returns: True when they were others.

    Raises: PipelineError for an unknown name, and as `load_params` does.
    """
    names = load_params(path).expanded(models)
    return _rewrite(path, "models", f"[{', '.join(names)}]")


def select_searches(path: Path, names: Sequence[str]) -> bool:
    """Have DVC version the results of these searches, and of no others.

    Returns: True when they were others.

    Raises: PipelineError for an unknown name, and as `load_params` does.
    """
    params = load_params(path)
    for name in names:
        params.require_search(name)
    return _rewrite(path, "searches", f"[{', '.join(names)}]")


@contextmanager
def restoring(path: Path) -> Iterator[None]:
    """Undo what this block selects in params.yaml when it fails or is interrupted.

    Whatever else a person has edited in the meantime, which may be hours, stays.

    Raises: PipelineError when the file is missing.
    """
    before = _text_of(path)
    try:
        yield
    except BaseException:
        with suppress(PipelineError, YAMLError):  # somebody is editing it, or has removed it
            text = _text_of(path)
            for key in ("profile", "models", "searches"):
                (start, end), (old_start, old_end) = _place(text, key), _place(before, key)
                text = text[:start] + before[old_start:old_end] + text[end:]
            _write(path, text)
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
    if not re.fullmatch(NAME, name):
        raise PipelineError(f"{name!r} {NOT_A_NAME}")
    if name in params.recipes or name in params.groups:
        kind = "recipe" if name in params.recipes else "group"
        raise PipelineError(f"there is a {kind} '{name}' already; choose another name")
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


def _rewrite(path: Path, key: str, value: str) -> bool:
    # Not through a YAML writer, which would change the layout of the whole file.
    before = _text_of(path)
    start, end = _place(before, key)
    after = f"{before[:start]}: {value}{before[end:]}"
    if after == before:
        return False
    _write(path, after)
    try:
        load_params(path)
    except PipelineError:
        _write(path, before)
        raise
    return True


def _place(text: str, key: str) -> tuple[int, int]:
    """Where the value of a key of the whole file is, with the colon before it.

    Raises: PipelineError when there is no such key.
    """
    for name, node in YAML(typ="safe", pure=True).compose(text).value:
        if name.value == key:
            return name.end_mark.index, _end(node)
    raise PipelineError(f"params.yaml has no `{key}`; add a line `{key}: ...`")


def _end(node: Node) -> int:
    # A list of one item a line ends, for the parser, where the next key begins.
    is_block = isinstance(node, SequenceNode) and not node.flow_style
    end: int = _end(node.value[-1]) if is_block else node.end_mark.index
    return end


def _text_of(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")  # with the ends of lines that it has
    except FileNotFoundError:
        raise missing(path) from None


def _write(path: Path, text: str) -> None:
    if text != _text_of(path):
        with replacing_file(path) as temporary:
            temporary.write_bytes(text.encode("utf-8"))
