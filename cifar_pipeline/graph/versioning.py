"""DVC, called as a command, and what it has recorded.

DVC lives in an environment of its own: it and Dagster need different releases of antlr.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cifar_pipeline.artifacts import dvc_md5, file_digest
from cifar_pipeline.errors import REPAIRS, PipelineError
from cifar_pipeline.graph.plan import STAGE as PLAN
from cifar_pipeline.graph.stages import Stage
from cifar_pipeline.paths import Workspace

TIMEOUT_S = 600
LOCK_WAIT_S = 600
"""How long a lock that another DVC holds is waited for: an editor's extension polls, a push of
gigabytes takes minutes, and neither is worth an hour's training."""
LOCKED = "Unable to acquire lock"
"""How DVC says that another one holds its lock, which no command keeps for long."""
SUPPORT = " Having any troubles?"
"""How DVC goes on after an error that it does not know."""
NO_GIT = "is not a git repository"
BUSY = "busy, it is being blocked by"
"""How DVC says that another one runs a stage that reads or writes the same files, for as long as
that stage takes."""


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


@contextmanager
def recording(home: Workspace) -> Iterator[None]:
    """Let nobody else write the plan or record anything inside this block.

    What a step made must be recorded under the plan that it was made by. Steps that end together
    also queue here, rather than at DVC's own lock, which it gives up after seconds.
    """
    with FileLock(home.root / ".dvc" / "tmp" / "cifar-commit.lock", is_singleton=True):
        yield


def commit_stages(
    home: Workspace,
    *stages: str,
    wait_s: float = LOCK_WAIT_S,
    check: Callable[[], None] | None = None,
) -> None:
    """Record what was just made in dvc.lock and DVC's cache; otherwise `dvc repro` would restore
    the old files. DVC leaves alone what its cache has under the right name, so what was damaged
    there is removed and recorded anew.

    Args:
        wait_s: seconds to wait for a lock that another DVC holds.
        check: raises when what was made must not be recorded any more. It is called before each
            attempt, and with it a stage that another DVC runs is waited for as well.

    Raises: PipelineError with DVC's own words when it fails.
    """
    arguments = ("commit", "--force", *stages)
    with recording(home):
        began = time.time()
        run_dvc(home, *arguments, wait_s=wait_s, check=check)
        while damaged := _damaged_objects(home, stages, began):
            for path in damaged:
                path.unlink()
            run_dvc(home, *arguments, wait_s=wait_s, check=check)


def _damaged_objects(home: Workspace, stages: Sequence[str], before: float) -> list[Path]:
    """The files of DVC's cache that hold outputs of `stages`, were there before a time, and have
    not the md5 that they are named by."""
    objects = []
    for stage in stages:
        for out in _lock(home).get("stages", {}).get(stage, {}).get("outs", ()):
            listing = _object(home, out["md5"])
            objects.append(listing)
            if listing.suffix == ".dir" and _is_whole(listing):
                files = json.loads(listing.read_text(encoding="utf-8"))
                objects += [_object(home, file["md5"]) for file in files]
    old = [path for path in objects if path.is_file() and path.stat().st_ctime < before]
    return [path for path in old if not _is_whole(path)]


def _object(home: Workspace, md5: str) -> Path:
    return home.root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]


def _is_whole(path: Path) -> bool:
    """Whether a file of DVC's cache has the md5 that it is named by."""
    return path.is_file() and file_digest(path, "md5") == path.parent.name + path.stem


def stale_stages(home: Workspace) -> dict[str, Any]:
    """What `dvc status` finds changed or missing, by stage."""
    found: dict[str, Any] = json.loads(run_dvc(home, "status", "--json").stdout or "{}")
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


def recorded_stage(home: Workspace, stage: str) -> dict[str, Any]:
    """What dvc.lock has of a stage."""
    found: dict[str, Any] = _lock(home)["stages"][stage]
    return found


def read_outputs(home: Workspace, stage: Stage) -> list[str]:
    """The outputs in dvc.lock that `stage` reads, of whichever stage; not the plan."""
    plan = _relative(home, home.plans)
    return [path for path in recorded_outputs(home) if path != plan and _reads(stage, path)]


def own_inputs(home: Workspace, stage: Stage) -> list[str]:
    """What `stage` reads that is there and that no stage in dvc.lock makes."""
    made = recorded_outputs(home)
    return [
        own
        for own in stage.inputs
        if not any(_related(own, output) for output in made) and (home.root / own).exists()
    ]


def cached_text(home: Workspace, md5: str) -> str | None:
    """The content of a text file in DVC's cache; None if it is not there, or damaged."""
    path = _object(home, md5)
    return path.read_text(encoding="utf-8") if _is_whole(path) else None


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


def verified_inputs(home: Workspace, stage: Stage, producers: Sequence[Stage]) -> dict[str, str]:
    """The md5 of each output of `producers` that `stage` reads, each as dvc.lock has it, and of
    what it reads that no stage makes.

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
                    f"--force {output}` to have it back as it was, or {again}"
                )
    made = [output for producer in producers for output in producer.outputs]
    for own in stage.inputs:
        if not any(_related(own, output) for output in made) and (home.root / own).exists():
            found[own] = dvc_md5(home.root / own)
    return found


def _reads(stage: Stage, output: str) -> bool:
    return any(_related(path, output) for path in stage.inputs)


def _related(one: str, other: str) -> bool:
    """Whether one path is the other, or lies in it."""
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def run_dvc(
    home: Workspace,
    *arguments: str,
    wait_s: float = LOCK_WAIT_S,
    check: Callable[[], None] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Call DVC, again and again while another one holds its lock.

    Args:
        wait_s: seconds to wait for a lock that another DVC holds.
        check: raises when there is no use in going on. It is called before each attempt, and with
            it a stage that another DVC runs is waited for as well.

    Raises: PipelineError with DVC's own words when it fails.
    """
    waited_for = (LOCKED, BUSY) if check else (LOCKED,)
    end, told = time.monotonic() + wait_s, False
    while True:
        if check:
            check()
        done = _attempt(home, arguments)
        if not done.returncode:
            return done
        words = " ".join((done.stderr.strip() or done.stdout.strip()).split())
        words = words.partition(SUPPORT)[0]
        if not any(reason in words for reason in waited_for) or time.monotonic() > end:
            repairs = {NO_GIT: "`make setup` lets DVC work without git"}
            repairs |= {os.strerror(number): text for number, text in REPAIRS.items()}
            repair = next((f"; {text}" for found, text in repairs.items() if found in words), "")
            raise PipelineError(f"`dvc {' '.join(arguments)}` failed: {words}{repair}")
        if not told:
            print(
                f"another DVC holds its lock; waiting for up to {wait_s / 60:.0f} min", flush=True
            )
            told = True
        time.sleep(1)


def _attempt(home: Workspace, arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    command = dvc_command()
    try:
        return subprocess.run(
            [command, *arguments],
            cwd=home.root,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except OSError as error:
        raise PipelineError(
            f"DVC cannot be run as {command} in {home.root} ({error.strerror or error}); run "
            "`make setup`, or set CIFAR_DVC to a `dvc` command"
        ) from None
    except subprocess.TimeoutExpired:
        raise PipelineError(
            f"`dvc {' '.join(arguments)}` had not ended after {TIMEOUT_S} s; run it by itself to "
            "see why, then start again"
        ) from None


def _lock(home: Workspace) -> Mapping[str, Any]:
    """The content of dvc.lock.

    Raises: PipelineError when it is damaged, as a merge with conflicts leaves it.
    """
    path = home.root / "dvc.lock"
    if not path.is_file():
        return {}
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = "" if line is None else f" at line {line + 1}"
        raise PipelineError(f"{path} is not YAML{where}; {_REPAIR_LOCK}") from None
    if not isinstance(content, dict) or not isinstance(content.get("stages", {}), dict):
        raise PipelineError(f"{path} does not list stages; {_REPAIR_LOCK}")
    return content


_REPAIR_LOCK = (
    "resolve the conflict if a merge left one, or restore the file with `git checkout dvc.lock`. "
    "Without it, `cifar run` makes everything again"
)


def _relative(home: Workspace, path: Path) -> str:
    return path.relative_to(home.root).as_posix()
