"""DVC, called as a command, and what it has recorded.

DVC lives in an environment of its own: it and Dagster need different releases of antlr.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock
from ruamel.yaml import YAML

from cifar_pipeline.artifacts import dvc_md5
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.graph.plan import STAGE as PLAN
from cifar_pipeline.graph.stages import Stage
from cifar_pipeline.paths import Workspace

TIMEOUT_S = 600
LOCK_WAIT_S = 600
"""How long a lock that another DVC holds is waited for: an editor's extension polls, a push of
gigabytes takes minutes, and neither is worth an hour's training."""
LOCKED = "Unable to acquire lock"


def under_dvc() -> bool:
    """Whether `dvc repro` runs this process; it commits the outputs itself."""
    return bool(os.environ.get("DVC_STAGE"))


def dvc_command() -> str:
    """`$CIFAR_DVC`, the checkout's own `.venv-dvc`, or the one on the PATH.

    Raises: PipelineError when there is none.
    """
    own = Path(__file__).parents[2] / ".venv-dvc" / "bin" / "dvc"
    command = os.environ.get("CIFAR_DVC") or (str(own) if own.exists() else shutil.which("dvc"))
    if not command:
        raise PipelineError("there is no `dvc` command; run `make setup`, or set CIFAR_DVC to one")
    return command


def commit_stages(home: Workspace, *stages: str, wait_s: float = LOCK_WAIT_S) -> None:
    """Record what was just made in dvc.lock and DVC's cache; otherwise `dvc repro` would restore
    the old files.

    Args:
        wait_s: seconds to wait for a lock that another DVC holds.

    Raises: PipelineError with DVC's own words when it fails.
    """
    # Steps that end together queue here, rather than at DVC's own lock, which it gives up after
    # seconds.
    with FileLock(home.root / ".dvc" / "tmp" / "cifar-commit.lock"):
        _dvc(home, "commit", "--force", *stages, wait_s=wait_s)


def stale_stages(home: Workspace) -> dict[str, Any]:
    """What `dvc status` finds changed or missing, by stage."""
    found: dict[str, Any] = json.loads(_dvc(home, "status", "--json").stdout or "{}")
    return found


def recorded_outputs(home: Workspace) -> dict[str, str]:
    """The md5 of every output in dvc.lock, by path."""
    return {
        out["path"]: out["md5"]
        for stage in _lock(home).get("stages", {}).values()
        for out in stage.get("outs", ())
        if "md5" in out
    }


def recorded_dependencies(home: Workspace, stage: str) -> dict[str, str]:
    """The md5 of every dependency that a stage had when it was last recorded, by path."""
    recorded = _lock(home).get("stages", {}).get(stage, {})
    return {dep["path"]: dep["md5"] for dep in recorded.get("deps", ()) if "md5" in dep}


def recorded_stages(home: Workspace) -> set[str]:
    """The stages in dvc.lock."""
    return set(_lock(home).get("stages", {}))


def cached_text(home: Workspace, md5: str) -> str | None:
    """The content of a text file in DVC's cache; None if it is not there."""
    path = home.root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
    return path.read_text(encoding="utf-8") if path.is_file() else None


def plan_is_recorded(home: Workspace) -> bool:
    """Whether dvc.lock has the plan as it is, made from the code and settings as they are."""
    recorded = recorded_dependencies(home, PLAN)
    return (
        bool(recorded)
        and recorded_outputs(home).get(_relative(home, home.plans)) == dvc_md5(home.plans)
        and all(
            (home.root / path).exists() and dvc_md5(home.root / path) == md5
            for path, md5 in recorded.items()
        )
    )


def verified_inputs(home: Workspace, stage: Stage, producers: Iterable[Stage]) -> dict[str, str]:
    """The md5 of each output of `producers` that `stage` reads, each as dvc.lock has it.

    Raises: PipelineError when one is missing, was never recorded, or was changed since.
    """
    recorded, found = recorded_outputs(home), {}
    for producer in producers:
        for output in producer.outputs:
            if not _reads(stage, output):
                continue
            path, again = home.root / output, f"materialize `{'/'.join(producer.key)}` again"
            if not path.exists() and stage.takes_what_is_there:
                continue
            if not path.exists():
                raise PipelineError(f"{path} is missing; {again}, or run `dvc pull`")
            if output not in recorded:
                raise PipelineError(f"{path} is not recorded in dvc.lock; {again}")
            found[output] = dvc_md5(path)
            if found[output] != recorded[output]:
                raise PipelineError(
                    f"{path} was changed since `{'/'.join(producer.key)}` made it: its md5 is "
                    f"{found[output]}, and dvc.lock has {recorded[output]}. Run `dvc checkout "
                    f"{output}` to have it back as it was, or {again}"
                )
    return found


def _reads(stage: Stage, output: str) -> bool:
    return any(
        path == output or path.startswith(f"{output}/") or output.startswith(f"{path}/")
        for path in stage.inputs
    )


def _dvc(
    home: Workspace, *arguments: str, wait_s: float = LOCK_WAIT_S
) -> subprocess.CompletedProcess[str]:
    command, end, told = dvc_command(), time.monotonic() + wait_s, False
    while True:
        done = subprocess.run(
            [command, *arguments],
            cwd=home.root,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
        if not done.returncode:
            return done
        words = " ".join((done.stderr.strip() or done.stdout.strip()).split())
        if LOCKED not in words or time.monotonic() > end:
            raise PipelineError(f"`dvc {' '.join(arguments)}` failed: {words}")
        if not told:
            print(
                f"another DVC holds its lock; waiting for up to {wait_s / 60:.0f} min", flush=True
            )
            told = True
        time.sleep(1)


def _lock(home: Workspace) -> Mapping[str, Any]:
    path = home.root / "dvc.lock"
    if not path.is_file():
        return {}
    content: Mapping[str, Any] | None = YAML(typ="safe", pure=True).load(
        path.read_text(encoding="utf-8")
    )
    return content or {}


def _relative(home: Workspace, path: Path) -> str:
    return path.relative_to(home.root).as_posix()
