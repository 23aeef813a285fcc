"""What makes an environment unusable, how packages are fetched, and DVC without git."""

import importlib.util
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from types import ModuleType

import pytest

from tests.workspaces import CHECKOUT, DVC


def load(root: Path) -> ModuleType:
    """scripts/set_up.py as it is in a checkout at `root`."""
    script = root / "scripts" / "set_up.py"
    script.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(CHECKOUT / "scripts" / "set_up.py", script)
    spec = importlib.util.spec_from_file_location("set_up", script)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def set_up(tmp_path):
    return load(tmp_path / "ein ordner ü")


@pytest.fixture
def environment(tmp_path):
    folder = tmp_path / "ein ordner ü" / ".venv"
    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
    return folder


def replace_interpreter(folder: Path, content: str) -> None:
    python = folder / "bin" / "python"
    python.unlink()
    python.write_text(f"#!/bin/sh\n{content}\n", encoding="utf-8")
    python.chmod(0o755)


def test_an_environment_that_can_be_used(set_up, environment):
    assert set_up.fault(environment, "dvc") is None
    (environment / "bin" / "dvc").write_text(f"#!{environment}/bin/python\n", encoding="utf-8")
    assert set_up.fault(environment, "dvc") is None


def test_without_pip(set_up, environment):
    assert set_up.fault(environment, "pip", module="pip") == "it has no pip"


def test_another_python(set_up, environment):
    replace_interpreter(environment, "echo 3.9")
    ours = f"3.{sys.version_info[1]}"
    assert set_up.fault(environment, "dvc") == f"it has Python 3.9 instead of {ours}"


@pytest.mark.parametrize("content", ["exit 1", "kill -SEGV $$"])
def test_an_interpreter_that_fails(set_up, environment, content):
    replace_interpreter(environment, content)
    assert set_up.fault(environment, "dvc") == "it is broken"


def test_an_interpreter_that_is_gone(set_up, environment):
    (environment / "bin" / "python").unlink()
    (environment / "bin" / "python").symlink_to("/nowhere/python3")
    assert set_up.fault(environment, "dvc") == "it has no interpreter that runs"
    assert set_up.fault(environment.with_name("nothing"), "dvc")


@pytest.mark.parametrize("parent", ["", "/home/someone"])  # which ends as the right path does
def test_made_in_another_folder(set_up, environment, parent):
    elsewhere = f"{parent}{environment}" if parent else "/home/someone/.venv"
    (environment / "bin" / "dvc").write_text(f"#!{elsewhere}/bin/python\n", encoding="utf-8")
    assert set_up.fault(environment, "dvc") == "it was made in another folder"


def test_a_broken_environment_is_replaced_whole(set_up, environment, capsys):
    (environment / "bin" / "python").unlink()
    (environment / "left over").touch()
    set_up.make_environment(environment, why="it is broken", with_pip=False)
    assert set_up.fault(environment, "dvc") is None
    assert not (environment / "left over").exists()
    assert capsys.readouterr().out == ".venv is made anew: it is broken.\n"


def test_a_link_to_nowhere_gets_its_folder(tmp_path):
    root = tmp_path / "checkout"
    root.mkdir()
    (root / ".venv").symlink_to(tmp_path / "large disk" / "environment")
    set_up = load(root)
    set_up.make_environment(set_up.VENV, why="it does not exist", with_pip=False)
    assert (root / ".venv" / "bin" / "python").exists()


def test_a_file_in_the_way_is_not_touched(set_up, tmp_path):
    (tmp_path / ".venv").write_text("notes", encoding="utf-8")
    with pytest.raises(set_up.SetUpError, match="is a file, where a folder is to be made"):
        set_up.make_environment(tmp_path / ".venv", why="", with_pip=False)
    assert (tmp_path / ".venv").read_text(encoding="utf-8") == "notes"


def test_a_folder_that_venv_refuses_is_said(set_up, tmp_path):
    with pytest.raises(set_up.SetUpError, match=r"a:b cannot be made: .* separator"):
        set_up.make_environment(tmp_path / "a:b", why="", with_pip=False)


def test_the_build_of_tensorflow_stays(set_up):
    assert set_up.installed_build() == "cpu"
    set_up.VENV.mkdir()
    for kind in ("gpu", "cpu"):
        set_up.write_stamp(set_up.VENV, f"{kind} unfinished")
        assert set_up.installed_build() == kind


def test_pip_lists_its_settings_by_precedence(set_up, tmp_path):
    """The real pip, with a file and a variable."""
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://a.example/simple\ntimeout = 7\nuser = true\n"
        "extra-index-url =\n  https://b.example/simple\n  https://c.example/it's\n"
        "[install]\nindex-url = https://d.example/simple\n[freeze]\ntimeout = 10\n",
        encoding="utf-8",
    )
    env = {"PIP_CONFIG_FILE": str(config), "PIP_CERT": "/a b/ü.pem", "PATH": os.environ["PATH"]}
    settings = set_up.pip_settings(Path(sys.executable), env)
    assert settings.pop("extra-index-url").split() == [
        "https://b.example/simple",
        "https://c.example/it's",
    ]
    assert {key: settings[key] for key in ("index-url", "timeout", "cert")} == {
        "index-url": "https://d.example/simple",
        "timeout": "7",
        "cert": "/a b/ü.pem",
    }
    assert "user" not in settings


@pytest.mark.parametrize(
    ("environ", "pip", "expected"),
    [
        (
            {},
            {"index-url": "https://m/simple", "extra-index-url": "a\nb", "find-links": "/w\n/x"},
            {"UV_DEFAULT_INDEX": "https://m/simple", "UV_INDEX": "a b", "UV_FIND_LINKS": "/w,/x"},
        ),
        (
            {"UV_INDEX_URL": "https://m"},
            {},
            {"PIP_INDEX_URL": "https://m", "UV_DEFAULT_INDEX": None},
        ),
        (
            {"UV_DEFAULT_INDEX": "https://u"},
            {"index-url": "https://p"},
            {"PIP_INDEX_URL": "https://p", "UV_DEFAULT_INDEX": "https://u"},
        ),
        ({}, {"cert": "/c.pem"}, {"PIP_CERT": "/c.pem", "SSL_CERT_FILE": "/c.pem"}),
        (
            {"REQUESTS_CA_BUNDLE": "/c.pem"},
            {},
            {"PIP_CERT": "/c.pem", "SSL_CERT_FILE": "/c.pem", "UV_SYSTEM_CERTS": None},
        ),
        ({"SSL_CERT_FILE": "/c.pem"}, {}, {"PIP_CERT": "/c.pem", "SSL_CERT_FILE": "/c.pem"}),
        ({}, {"cert": "/"}, {"SSL_CERT_DIR": "/", "SSL_CERT_FILE": None}),
        (
            {},
            {"trusted-host": "a b:8080", "proxy": "http://p:1", "default-timeout": "90"},
            {"UV_INSECURE_HOST": "a b:8080", "HTTPS_PROXY": "http://p:1", "UV_HTTP_TIMEOUT": "90"},
        ),
        (
            {"PIP_USER": "1", "UV_PYTHON": "3.9", "UV_CACHE_DIR": "/c", "CONDA_PREFIX": "/conda"},
            {},
            {"PIP_USER": None, "UV_PYTHON": None, "UV_CACHE_DIR": "/c", "CONDA_PREFIX": None},
        ),
    ],
)
def test_pip_and_uv_fetch_from_the_same_places(set_up, environ, pip, expected):
    variables = set_up.fetching(environ, pip)
    assert {name: variables.get(name) for name in expected} == expected
    assert variables["PIP_CONFIG_FILE"] == os.devnull  # whose settings are in the variables


@pytest.mark.parametrize("case", ["no git", "data is a link"])
def test_dvc_works_where_it_would_refuse(tmp_path, capsys, case):
    """The real DVC runs a stage, and is told once it can work with git again."""
    root = tmp_path / "ein ordner ü"
    set_up = load(root)
    (root / ".dvc").mkdir()
    (root / ".dvc" / ".gitignore").write_text("/config.local\n/tmp\n/cache\n", encoding="utf-8")
    (root / ".dvc" / "config").write_text("[core]\n    analytics = false\n", encoding="utf-8")
    (root / "dvc.yaml").write_text(
        "stages:\n  one:\n    cmd: echo 1 > data/one\n    outs: [data/one]\n", encoding="utf-8"
    )
    (root / ".venv-dvc").symlink_to(Path(DVC).parents[1])
    set_up.VENV_DVC = Path(DVC).parents[1]
    if case == "data is a link":
        subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
        (tmp_path / "large disk").mkdir()
        (root / "data").symlink_to(tmp_path / "large disk")
    else:
        (root / "data").mkdir()

    def dvc(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [DVC, *arguments], cwd=root, capture_output=True, text=True, check=False
        )

    assert dvc("repro").returncode != 0  # what set-up is for
    set_up.tell_dvc_about_git()
    assert capsys.readouterr().out.startswith("DVC works without git here")
    done = dvc("repro")
    assert done.returncode == 0, done.stderr
    set_up.tell_dvc_about_git()
    assert capsys.readouterr().out == ""

    if case == "data is a link":
        (root / "data").unlink()
    else:
        subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    set_up.tell_dvc_about_git()
    assert capsys.readouterr().out == "DVC works with git again.\n"
    assert "no_scm" not in (root / ".dvc" / "config.local").read_text(encoding="utf-8")
