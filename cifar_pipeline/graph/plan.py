"""The plan: for each stage, the settings and the code that decide what it makes.

`data/plan/<stage>.json` is what a stage depends on beside its inputs, behind every door: DVC has
the file as a dependency, and Dagster's code version is its checksum. The stage `plan` of dvc.yaml
writes them whenever the package, the recipes or params.yaml have changed, and every Dagster run
does so before its first step.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from cifar_pipeline.artifacts import digest_of, dvc_md5, replacing_folder
from cifar_pipeline.graph.code import Code
from cifar_pipeline.graph.stages import Key, Stage, build_stages
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.params import Params

PACKAGE = Path(__file__).parents[1]
STAGE = "plan"


def text_of(stage: Stage, package: Path = PACKAGE) -> str:
    """What the plan says of a stage, as the JSON that is stored."""
    code = _code(package)
    decided_by = code.behind(code.assets()[stage.asset], *stage.code)
    content = {"settings": stage.settings, "code": decided_by}
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def version_of(stage: Stage) -> str:
    """A checksum of what the plan says of a stage: Dagster's code version.

    The files in git that the stage reads count with it, because no asset makes them.
    """
    home = Workspace.current()
    made = home.data.relative_to(home.root).as_posix()
    kept = [home.root / path for path in stage.inputs if not path.startswith(f"{made}/")]
    return digest_of([text_of(stage), *(dvc_md5(path) for path in kept if path.exists())])


def write_plan(params: Params, home: Workspace, package: Path = PACKAGE) -> bool:
    """Write the plan of every stage that DVC knows, unless it is there.

    Returns: True when something was written.
    """
    wanted = {
        home.plan(stage.key).relative_to(home.plans).as_posix(): text_of(stage, package)
        for stage in build_stages(params).values()
        if in_dvc(stage, params)
    }
    if wanted == _written(home):
        return False
    with replacing_folder(home.plans) as new:
        for name, text in wanted.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_text(text, encoding="utf-8")
    return True


def in_dvc(stage: Stage, params: Params) -> bool:
    """Whether DVC versions what the stage makes: all but searches that are out of the graph."""
    return stage.asset != "search" or stage.key[1] in params.searches


def differences(old: str, new: str) -> list[str]:
    """What two plans of a stage differ in: dotted names of settings and definitions."""
    before, after = (_flat(json.loads(text)) for text in (old, new))
    return sorted(key for key in {*before, *after} if before.get(key) != after.get(key))


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        inner = value if isinstance(value, dict) and value else None
        flat |= _flat(inner, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return flat


def _written(home: Workspace) -> dict[str, str]:
    return {
        path.relative_to(home.plans).as_posix(): path.read_text(encoding="utf-8")
        for path in home.plans.rglob("*")
        if path.is_file()
    }


@cache
def _code(package: Path) -> Code:
    return Code(package)


def read_code_again() -> None:
    """Have the next plan say what the code is then; this process may have planned before."""
    _code.cache_clear()


def upstream(stages: dict[Key, Stage], keys: set[Key]) -> set[Key]:
    """`keys` and all that they need."""
    needed = set(keys)
    for key in reversed(stages):  # each stage comes after those that it needs
        if key in needed:
            needed |= set(stages[key].deps)
    return needed


def downstream(stages: dict[Key, Stage], keys: set[Key]) -> set[Key]:
    """`keys` and all that needs them."""
    reached = set(keys)
    for key, stage in stages.items():
        if reached & set(stage.deps):
            reached.add(key)
    return reached
