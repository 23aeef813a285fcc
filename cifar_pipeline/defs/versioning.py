"""DVC, called as a command: it lives in an environment of its own (its antlr and dagster's cannot share one)."""

import os
import shutil
import subprocess
from pathlib import Path

from filelock import FileLock

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.paths import Workspace

TIMEOUT_S = 600


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


def commit_stage(home: Workspace, stage: str) -> None:
    """Record what Dagster just made in dvc.lock and DVC's cache; otherwise `dvc repro` would restore the old files.

    Raises: PipelineError with DVC's own words when it fails.
    """
    # DVC gives up on a lock held by another dvc after seconds; steps that end together must queue instead.
    with FileLock(home.root / ".dvc" / "tmp" / "cifar-commit.lock"):
        done = subprocess.run(
            [dvc_command(), "commit", "--force", "--quiet", stage],
            cwd=home.root,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    if done.returncode:
        raise PipelineError(
            f"`dvc commit --force {stage}` failed: {done.stderr.strip() or done.stdout.strip()}"
        )
