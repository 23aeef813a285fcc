"""The Python is found and checked before anything is downloaded."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.workspaces import CHECKOUT

FIND = CHECKOUT / "scripts" / "find-python"
OLD = "sys.version_info = (3, 14, 0, 'final', 0); platform.python_version = lambda: '3.14.0'"
WITHOUT_VENV = "sys.modules['ensurepip'] = None"
WITHOUT_SQLITE = "sys.modules['sqlite3'] = None"


def put_python(folder: Path, name: str, change: str | None) -> Path:
    """A command that runs this Python, after a statement that changes what it says of itself."""
    folder.mkdir(exist_ok=True)
    command = folder / name
    if change is None:
        command.write_text("#!/bin/sh\nexit 127\n", encoding="utf-8")
    else:
        # The arguments are -E -s -c and the probe.
        run = f'exec "{sys.executable}" -E -s -c "import sys, platform; {change}; $4"'
        command.write_text(f"#!/bin/sh\n{run}\n", encoding="utf-8")
    command.chmod(0o755)
    return command


def tools(folder: Path) -> str:
    """A PATH with what the scripts call, and without any Python of this machine."""
    folder.mkdir()
    for name in ("bash", "sh", "make", "grep", "sed", "expand"):
        found = next(
            Path(part, name)
            for part in os.environ["PATH"].split(os.pathsep)
            if Path(part, name).exists()
        )
        (folder / name).symlink_to(found)
    return str(folder)


def find(path: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", FIND],
        cwd=cwd,
        env={"PATH": path, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_another_name_is_found_where_python3_is_of_another_version(tmp_path):
    bin_ = tmp_path / "ein ordner ü"
    put_python(bin_, "python3", OLD)
    put_python(bin_, "python3.13", None)  # as pyenv has names whose version is not chosen
    right = put_python(bin_, "python3.12", "pass")
    done = find(f"{bin_}:{tools(tmp_path / 'tools')}", tmp_path)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, str(right), "")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (OLD, "python3 is Python 3.14.0"),
        (
            WITHOUT_VENV,
            f"python3 lacks venv (Debian: apt install python3.{sys.version_info[1]}-venv)",
        ),
        (WITHOUT_SQLITE, "python3 was built without sqlite3"),
        (None, "python3 does not run"),
    ],
)
def test_what_is_wrong_with_a_python_is_said_with_those_that_work(tmp_path, change, said):
    put_python(tmp_path / "bin", "python3", change)
    done = find(f"{tmp_path / 'bin'}:{tools(tmp_path / 'tools')}", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"Found: {said}." in done.stderr
    assert "3.11, 3.12 or 3.13" in done.stderr


def test_a_python_that_is_named_is_the_only_one_tried(tmp_path):
    put_python(tmp_path / "bin", "python3", "pass")
    path = f"{tmp_path / 'bin'}:{tools(tmp_path / 'tools')}"
    done = find(path, tmp_path, PYTHON="python3.99")
    assert done.returncode == 1
    assert "none of python3.99" in done.stderr


def test_make_stops_before_anything_is_made(tmp_path):
    put_python(tmp_path / "bin", "python3", OLD)
    checkout = tmp_path / "checkout"
    shutil.copytree(CHECKOUT / "scripts", checkout / "scripts")
    shutil.copy(CHECKOUT / "Makefile", checkout)
    before = sorted(checkout.rglob("*"))
    done = subprocess.run(
        ["make", "run"],
        cwd=checkout,
        env={"PATH": f"{tmp_path / 'bin'}:{tools(tmp_path / 'tools')}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("No usable Python")
    assert sorted(checkout.rglob("*")) == before


def test_the_same_pythons_are_named_everywhere():
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["requires-python"] == ">=3.11,<3.14"
    script = FIND.read_text(encoding="utf-8")
    assert "(3, 11) <= sys.version_info[:2] <= (3, 13)" in script
    workflow = (CHECKOUT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(workflow)["jobs"]
    for name in ("tests", "instructions"):
        assert jobs[name]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
