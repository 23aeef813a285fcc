"""Which stages are up to date, and why the others are not."""

from collections.abc import Iterator
from typing import Any

from cifar_pipeline.graph.plan import STAGE, differences, in_dvc, write_plan
from cifar_pipeline.graph.stages import Key, Stage, build_stages
from cifar_pipeline.graph.versioning import (
    cached_text,
    commit_stages,
    plan_is_recorded,
    recorded_dependencies,
    recorded_stages,
    recording,
    stale_stages,
)
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.params import Params

_WORDS = {"deleted": "missing"}
"""Ours for DVC's."""
SHOWN = 3
"""Changed settings or definitions that a reason names."""


def record_plan(params: Params, home: Workspace) -> None:
    """Have the plan say what settings and code are now, and DVC know it."""
    with recording(home):
        write_plan(params, home)
        if not plan_is_recorded(home):
            commit_stages(home, STAGE)


def reasons_to_run(params: Params, home: Workspace) -> dict[Key, list[str]]:
    """The stages that are stale or missing, each with the reasons; the plan must be recorded."""
    found, stages = stale_stages(home), build_stages(params)
    made = {path for stage in stages.values() for path in stage.outputs}
    return {
        key: [*_reasons(stage, found[stage.name], home), *_not_provided(stage, made, home)]
        for key, stage in stages.items()
        if in_dvc(stage, params) and stage.name in found
    }


def _reasons(stage: Stage, found: list[Any], home: Workspace) -> Iterator[str]:
    if stage.name not in recorded_stages(home):
        yield "not made yet"
        return
    outputs: dict[str, str] = {}
    for entry in found:
        if not isinstance(entry, dict):
            yield str(entry)
            continue
        outputs |= entry.get("changed outs", {})
        plan = home.plan(stage.key).relative_to(home.root).as_posix()
        for path, change in entry.get("changed deps", {}).items():
            yield from (
                _plan_changes(stage, home)
                if path == plan
                else [f"{path} is {_WORDS.get(change, change)}"]
            )
    yield from (f"{path} is {_WORDS.get(change, change)}" for path, change in outputs.items())


def _not_provided(stage: Stage, made: set[str], home: Workspace) -> Iterator[str]:
    """What a stage that was never made waits for, and no other stage makes."""
    if stage.name in recorded_stages(home):
        return  # DVC says so
    for path in stage.inputs:
        theirs = any(
            f"{other}/".startswith(f"{path}/") or f"{path}/".startswith(f"{other}/")
            for other in made
        )
        if not theirs and not (home.root / path).exists():
            yield f"{path} is missing, and no stage makes it"


def _plan_changes(stage: Stage, home: Workspace) -> Iterator[str]:
    plan = home.plan(stage.key)
    recorded = recorded_dependencies(home, stage.name)
    md5 = recorded.get(plan.relative_to(home.root).as_posix())
    old = cached_text(home, md5) if md5 else None
    changed = differences(old, plan.read_text(encoding="utf-8")) if old is not None else []
    if not changed:
        yield "settings or code changed"
    for kind in ("settings", "code"):
        names = [name.partition(".")[2] for name in changed if name.startswith(f"{kind}.")]
        if names:
            more = ", ..." if len(names) > SHOWN else ""
            yield f"{kind} changed: {', '.join(names[:SHOWN])}{more}"
