"""What makes an environment unusable, how packages are fetched, and DVC without git."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from scripts import fetching, set_up
from tests.workspaces import DVC


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder that the scripts take for their checkout."""
    root = tmp_path / "ein ordner ü"
    root.mkdir()
    monkeypatch.setattr(fetching, "ROOT", root)
    monkeypatch.setattr(set_up, "ROOT", root)
    monkeypatch.setattr(set_up, "VENV", root / ".venv")
    monkeypatch.setattr(set_up, "VENV_DVC", Path(DVC).parents[1])
    return root


@pytest.fixture
def environment(root):
    folder = root / ".venv"
    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
    return folder


def replace_interpreter(folder: Path, content: str) -> None:
    python = folder / "bin" / "python"
    python.unlink()
    python.write_text(f"#!/bin/sh\n{content}\n", encoding="utf-8")
    python.chmod(0o755)


def test_an_environment_that_can_be_used(environment):
    assert set_up.fault(environment, "dvc") is None
    (environment / "bin" / "dvc").write_text(f"#!{environment}/bin/python\n", encoding="utf-8")
    assert set_up.fault(environment, "dvc") is None


def test_without_pip(environment):
    assert set_up.fault(environment, "pip", module="pip") == "it has no pip"


def test_another_python(environment):
    replace_interpreter(environment, "echo 3.9")
    ours = f"3.{sys.version_info[1]}"
    assert set_up.fault(environment, "dvc") == f"it has Python 3.9 instead of {ours}"


@pytest.mark.parametrize("content", ["exit 1", "kill -SEGV $$"])
def test_an_interpreter_that_fails(environment, content):
    replace_interpreter(environment, content)
    assert set_up.fault(environment, "dvc") == "it is broken"


def test_an_interpreter_that_is_gone(environment):
    (environment / "bin" / "python").unlink()
    (environment / "bin" / "python").symlink_to("/nowhere/python3")
    assert set_up.fault(environment, "dvc") == "it has no interpreter that runs"
    assert set_up.fault(environment.with_name("nothing"), "dvc")


@pytest.mark.parametrize("parent", ["", "/home/someone"])  # which ends as the right path does
def test_made_in_another_folder(environment, parent):
    elsewhere = f"{parent}{environment}" if parent else "/home/someone/.venv"
    (environment / "bin" / "dvc").write_text(f"#!{elsewhere}/bin/python\n", encoding="utf-8")
    assert set_up.fault(environment, "dvc") == "it was made in another folder"


def test_a_broken_environment_is_replaced_whole(environment, capsys):
    (environment / "bin" / "python").unlink()
    (environment / "left over").touch()
    set_up.make_environment(environment, why="it is broken", with_pip=False)
    assert set_up.fault(environment, "dvc") is None
    assert not (environment / "left over").exists()
    assert capsys.readouterr().out == ".venv is made anew: it is broken.\n"


def test_an_environment_behind_a_link(root, tmp_path):
    disk = tmp_path / "large disk"
    disk.mkdir()
    (root / ".venv").symlink_to(disk)
    set_up.make_environment(root / ".venv", why="", with_pip=False)
    assert (root / ".venv").is_symlink()
    # It is made for the folder where it lies, as its scripts say.
    assert str(disk) in (disk / "bin" / "activate").read_text(encoding="utf-8")
    (disk / "bin" / "dvc").write_text(f"#!{disk}/bin/python\n", encoding="utf-8")
    assert set_up.fault(root / ".venv", "dvc") is None


def test_a_link_to_nowhere_is_said(tmp_path):
    link = tmp_path / ".venv"
    link.symlink_to(tmp_path / "a disk that is not there")
    with pytest.raises(fetching.SetUpError, match="is not there, which does not exist"):
        set_up.make_environment(link, why="", with_pip=False)
    assert not link.exists()


def test_a_file_in_the_way_is_not_touched(tmp_path):
    (tmp_path / ".venv").write_text("notes", encoding="utf-8")
    with pytest.raises(fetching.SetUpError, match="is a file, where a folder is to be made"):
        set_up.make_environment(tmp_path / ".venv", why="", with_pip=False)
    assert (tmp_path / ".venv").read_text(encoding="utf-8") == "notes"


def test_a_folder_that_venv_refuses_is_said(tmp_path):
    with pytest.raises(fetching.SetUpError, match=r"a:b cannot be made: .* separator"):
        set_up.make_environment(tmp_path / "a:b", why="", with_pip=False)


def test_the_build_of_tensorflow_stays(root):
    assert set_up.installed_build() == "cpu"
    set_up.VENV.mkdir()
    for kind in ("gpu", "cpu"):
        set_up.write_stamp(set_up.VENV, f"{kind} unfinished")
        assert set_up.installed_build() == kind


def test_pip_lists_its_settings_by_precedence(tmp_path):
    """The real pip, with a file and a variable."""
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://a.example/simple\ntimeout = 7\nuser = true\n"
        "extra-index-url =\n  https://b.example/simple\n  https://c.example/it's\n"
        "[install]\nindex-url = https://d.example/simple\n[freeze]\ntimeout = 10\n",
        encoding="utf-8",
    )
    env = {"PIP_CONFIG_FILE": str(config), "PIP_CERT": "/a b/ü.pem", "PATH": os.environ["PATH"]}
    settings = fetching.pip_settings(Path(sys.executable), env)
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
def test_pip_and_uv_fetch_from_the_same_places(environ, pip, expected):
    variables = fetching.fetching(environ, pip)
    assert {name: variables.get(name) for name in expected} == expected
    assert variables["PIP_CONFIG_FILE"] == os.devnull  # whose settings are in the variables


@pytest.mark.parametrize("case", ["no git", "data is a link"])
def test_dvc_works_where_it_would_refuse(root, tmp_path, capsys, case):
    """The real DVC runs a stage, and is told once it can work with git again."""
    (root / ".dvc").mkdir()
    (root / ".dvc" / ".gitignore").write_text("/config.local\n/tmp\n/cache\n", encoding="utf-8")
    (root / ".dvc" / "config").write_text("[core]\n    analytics = false\n", encoding="utf-8")
    (root / "dvc.yaml").write_text(
        "stages:\n  one:\n    cmd: echo 1 > data/one\n    outs: [data/one]\n", encoding="utf-8"
    )
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
