"""How a step's inputs and outputs travel, through DVC's remote, where machines share no folder.

The driver, where the run was started, hands a node the files that say what to make (`pack`). The
node pulls a step's inputs by their md5 and pushes what it made (`pull_inputs`, `push`), all data
before the record that names it. The driver alone writes its dvc.lock (`record`), so that however
many nodes there are, they never wait for one another's locks.
"""

import os
import shutil
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from cifar_pipeline.artifacts import replacing_file
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.graph.stages import Stage
from cifar_pipeline.graph.versioning import (
    own_inputs,
    read_outputs,
    recorded_stage,
    recording,
    run_dvc,
    under_dvc,
)
from cifar_pipeline.paths import Workspace

VARIABLE = "CIFAR_DATA_PLANE"
"""Environment variable: `dvc` where the nodes of a cluster do not share the workspace's folder."""
ON_NODE = "CIFAR_HANDED_OVER"
"""Environment variable: set for a step that runs in a workspace that was handed over."""
HANDED_OVER = ("params.yaml", "recipes", "dvc.yaml", "dvc.lock", ".dvc/config", "data/plan")
"""What a node needs in order to make a stage as this workspace would."""
WITHOUT_GIT = "[core]\n    no_scm = true\n"


def is_dvc() -> bool:
    """Whether nodes do not share the workspace's folder.

    Raises: PipelineError when the variable has another value.
    """
    value = os.environ.get(VARIABLE, "")
    if value not in ("", "dvc"):
        raise PipelineError(
            f"{VARIABLE} is `{value}`; it is `dvc`, or unset where all nodes see the workspace"
        )
    return value == "dvc"


def is_handed_over() -> bool:
    """Whether this process is a step in a workspace that was handed over."""
    return bool(os.environ.get(ON_NODE))


def check_driver() -> None:
    """Raises: PipelineError when `dvc repro` runs this, since it locks what a node's step needs."""
    if under_dvc():
        raise PipelineError(
            f"`dvc repro` cannot record what nodes made elsewhere; use `cifar run` with {VARIABLE}"
        )


def pack(home: Workspace, stage: Stage, folder: Path) -> None:
    """Copy into a new folder what makes it a workspace in which `stage` can be made.

    What people brought themselves, such as photographs, is copied; what other stages made is not.
    """
    with recording(home):
        for name in (*HANDED_OVER, *own_inputs(home, stage)):
            source, target = home.root / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            elif source.is_file():
                shutil.copy2(source, target)
    (folder / ".dvc" / "config.local").write_text(WITHOUT_GIT, encoding="utf-8")
    # Two steps must not have the same folder on one node, which Ray names by its content.
    (folder / "stage").write_text(stage.name, encoding="utf-8")


def pull_inputs(home: Workspace, stage: Stage) -> None:
    """Have what `stage` reads, as dvc.lock names it, and nothing else."""
    if wanted := read_outputs(home, stage):
        run_dvc(home, "pull", *wanted)


def push(home: Workspace, stage: Stage) -> dict[str, Any]:
    """Send what `stage` made, and was recorded here.

    Returns: its entry in dvc.lock.

    Raises: PipelineError when not all of it arrived; then nothing may be recorded elsewhere.
    """
    run_dvc(home, "push", stage.name)
    return recorded_stage(home, stage.name)


def record(home: Workspace, stage: str, entry: dict[str, Any]) -> None:
    """Write a stage's entry, as a node pushed it, into dvc.lock, and have its outputs here."""
    path, yaml = home.root / "dvc.lock", YAML()
    with recording(home):
        text = path.read_text(encoding="utf-8") if path.is_file() else "schema: '2.0'\nstages: {}\n"
        content = yaml.load(text)
        content["stages"][stage] = entry
        with replacing_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            yaml.dump(content, file)
        run_dvc(home, "pull", "--force", stage)
