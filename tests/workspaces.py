"""Copies of the checkout, for tests that run the product's own commands in them."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from cifar_pipeline.settings.editing import select_models, select_profile

CHECKOUT = Path(__file__).parents[1]
DVC = os.environ.get("CIFAR_DVC") or str(CHECKOUT / ".venv-dvc" / "bin" / "dvc")
JOB = (sys.executable, "-m", "dagster", "job", "execute", "-m", "cifar_pipeline.definitions", "-j")


def copy_settings(folder: Path) -> Path:
    """Copy the repository's params.yaml and recipes into `folder`; return the new params.yaml.

    Recipes that git does not know are somebody's own, and no test is about them.
    """
    listed = subprocess.run(
        ("git", "ls-files", "-z", "params.yaml", "recipes"),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / name, folder / name)
    undo_selection(folder / "params.yaml")
    return folder / "params.yaml"


def change_yaml(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Rewrite a YAML file as `change` leaves its content."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


def undo_selection(params_file: Path) -> None:
    """Select what the repository selects: `make run` in this checkout may have changed it."""
    text = params_file.read_text(encoding="utf-8")
    for line in (
        "profile: quick",
        "models: [cnn9, efficientnet_b0]",
        "searches: []",
        "photographs: []",
    ):
        text = re.sub(rf"(?m)^{line.partition(':')[0]}: .*$", line, text, count=1)
    params_file.write_text(text, encoding="utf-8")


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Copy:
    """A fresh copy of the checkout's files, in a git repository of its own.

    Recipes that git does not know, and dvc.lock, which says what this checkout's data/ holds, are
    left out.

    Args:
        models: the recipes in the graph; those of the repository by default.
    """

    def __init__(self, root: Path, *, profile: str = "smoke", models: Sequence[str] = ()) -> None:
        self.root = root
        listed = self._git(CHECKOUT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        for name in set(filter(None, listed.split("\0"))) - {"dvc.lock"}:
            if (CHECKOUT / name).is_file() and not name.startswith("recipes/"):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(CHECKOUT / name, root / name)
        params = copy_settings(root)
        select_profile(params, profile)
        if models:
            select_models(params, models)
        self._git(root, "init", "--quiet")
        self.commit("--all")

    @property
    def environment(self) -> dict[str, str]:
        """As `make` sets it, for this copy."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("CIFAR_", "DVC_", "DAGSTER_"))
        }
        return kept | {
            "PYTHONPATH": str(self.root),
            "DAGSTER_HOME": str(self.root / "dagster_home"),
            "CIFAR_DVC": DVC,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }

    def run(
        self, *command: str, check: bool = True, **environment: str | None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the copy; a variable given as None is unset."""
        merged = {
            name: value
            for name, value in {**self.environment, **environment}.items()
            if value is not None
        }
        done = subprocess.run(
            command,
            cwd=self.root,
            env=merged,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        if check:
            assert done.returncode == 0, (
                f"{' '.join(command)}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
            )
        return done

    def job(
        self, name: str, *arguments: str, check: bool = True, **environment: str | None
    ) -> subprocess.CompletedProcess[str]:
        # As in dvc.yaml: Dagster announces a successor of this command.
        quiet = {"PYTHONWARNINGS": "ignore:Function"}
        return self.run(*JOB, name, *arguments, check=check, **quiet, **environment)

    def dvc(self, *arguments: str) -> str:
        return self.run(DVC, *arguments).stdout

    def commit(self, *what: str) -> None:
        self._git(self.root, "add", *what)
        self._git(
            self.root,
            "-c",
            "user.name=test",
            "-c",
            "user.email=test@localhost",
            "commit",
            "--quiet",
            "--message",
            "copy",
        )

    def change(self, old: str, new: str) -> None:
        """Change params.yaml once."""
        path = self.root / "params.yaml"
        before = path.read_text()
        assert old in before
        path.write_text(before.replace(old, new, 1))

    @staticmethod
    def _git(folder: Path, *arguments: str) -> str:
        return subprocess.run(
            ("git", *arguments), cwd=folder, capture_output=True, text=True, check=True
        ).stdout
