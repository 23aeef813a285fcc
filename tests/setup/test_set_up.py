"""`make setup` from nothing, in a small checkout: real tools, small packages from a local index."""

import hashlib
import http.server
import os
import shutil
import stat
import subprocess
import sys
import threading
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.workspaces import CHECKOUT

METADATA = "Metadata-Version: 2.1\nName: {}\nVersion: 1\n"
WHEEL = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
BACKEND = f'''
"""A build backend without dependencies, and the wheel that it builds."""
import zipfile


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name, info = "tiny_product-1-py3-none-any.whl", "tiny_product-1.dist-info"
    with zipfile.ZipFile(wheel_directory + "/" + name, "w") as wheel:
        wheel.writestr("tiny_product.py", "")
        wheel.writestr(info + "/METADATA", {METADATA.format("tiny-product")!r})
        wheel.writestr(info + "/WHEEL", {WHEEL!r})
        wheel.writestr(info + "/RECORD", "")
    return name
'''
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "tiny-product"
version = "1"
"""
FOREIGN = {
    "CONDA_PREFIX": "/nowhere/conda",
    "PIP_TARGET": "/nowhere/target",
    "PIP_USER": "1",
    "PYTHONHOME": "/nowhere/home",
    "PYTHONPATH": "/nowhere/modules",
    "UV_PYTHON": "3.9",
    "UV_SYSTEM_PYTHON": "1",
    "VIRTUAL_ENV": "/nowhere/venv",
}
"""Variables of the user's that would install elsewhere, or stop Python from starting."""


def tiny_wheel(folder: Path, name: str) -> Path:
    """A wheel with a module and a command that says which Python runs it."""
    path = folder / f"{name}-1-py3-none-any.whl"
    info = f"{name}-1.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", "import sys\n\n\ndef main():\n    print(sys.prefix)\n")
        wheel.writestr(f"{info}/METADATA", METADATA.format(name))
        wheel.writestr(f"{info}/WHEEL", WHEEL)
        wheel.writestr(f"{info}/entry_points.txt", f"[console_scripts]\n{name} = {name}:main\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


def wheel_of_uv(folder: Path) -> Path:
    """uv's own wheel again, from its installed files."""
    uv = distribution("uv")
    tag = next(
        line.partition(": ")[2]
        for line in str(uv.read_text("WHEEL")).splitlines()
        if line.startswith("Tag: ")
    )
    path = folder / f"uv-{uv.version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file in uv.files or ():
            inside = str(file)
            if file.name in ("uv", "uvx"):
                inside = f"uv-{uv.version}.data/scripts/{file.name}"
            elif ".." in file.parts or file.name in ("INSTALLER", "REQUESTED", "direct_url.json"):
                continue
            if inside.endswith(".pyc"):
                continue
            entry = zipfile.ZipInfo(inside)
            entry.external_attr = (stat.S_IFREG | 0o755) << 16
            content = b"" if file.name == "RECORD" else Path(str(file.locate())).read_bytes()
            wheel.writestr(entry, content)
    return path


class Index:
    """A package index on this machine (PEP 503), which remembers who asked for what.

    Attributes:
        locks: By the name of a package, the line that pins it.
    """

    def __init__(self, folder: Path, wheels: list[Path]) -> None:
        self.asked: list[tuple[str, str]] = []
        self.locks: dict[str, str] = {}
        for wheel in wheels:
            name, version = wheel.name.split("-")[:2]
            page = folder / "simple" / name / "index.html"
            page.parent.mkdir(parents=True)
            page.write_text(f'<a href="/{wheel.name}">{wheel.name}</a>', encoding="utf-8")
            content = hashlib.sha256(wheel.read_bytes()).hexdigest()
            self.locks[name] = f"{name}=={version} --hash=sha256:{content}\n"
        index = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                agent = self.headers.get("User-Agent", "").partition("/")[0]
                index.asked.append((agent, self.path))

        def handle(*arguments):
            return Handler(*arguments, directory=str(folder))

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handle)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/simple/"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("index")
    wheels = [tiny_wheel(folder, "tiny"), tiny_wheel(folder, "dvc"), wheel_of_uv(folder)]
    index = Index(folder, wheels)
    yield index
    index.close()


class Small:
    """A checkout with the real Makefile and scripts, and locks of small packages."""

    def __init__(self, root: Path, index: Index, home: Path) -> None:
        self.root, self._index, self._home = root, index, home
        shutil.copytree(CHECKOUT / "scripts", root / "scripts")
        shutil.copy(CHECKOUT / "Makefile", root)
        for folder in ("requirements", ".git"):
            (root / folder).mkdir()
        (root / "backend.py").write_text(BACKEND, encoding="utf-8")
        (root / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
        for name, package in (("cpu", "tiny"), ("dvc", "dvc"), ("uv", "uv")):
            lock = root / "requirements" / f"{name}.txt"
            lock.write_text(index.locks[package], encoding="utf-8")

    def make(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        pip = self._home / ".config" / "pip" / "pip.conf"
        pip.parent.mkdir(parents=True, exist_ok=True)
        pip.write_text(f"[global]\nindex-url = {self._index.url}\nuser = true\n", encoding="utf-8")
        folder = self._home / "bin"
        folder.mkdir(exist_ok=True)
        if not (folder / "python3").exists():
            # The interpreter that made this environment, as a newcomer has it.
            (folder / "python3").symlink_to(Path(sys._base_executable))
        return subprocess.run(
            ["make", *arguments],
            cwd=self.root,
            env={
                "HOME": str(self._home),
                "PATH": f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin",
                "UV_CACHE_DIR": str(self._home / "cache"),
                **variables,
            },
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.mark.slow
def test_from_nothing_then_nothing_then_moved(tmp_path, index):
    small = Small(tmp_path / "ein ordner ü" / "a checkout", index, tmp_path)

    done = small.make("setup", PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="0")
    assert done.returncode == 2
    assert "3.5 GB" in done.stdout
    assert "Set-up stopped: this command failed" in done.stderr
    assert "PIP_INDEX_URL, and PIP_CERT" in done.stderr
    assert "Traceback" not in done.stderr

    done = small.make("setup", **FOREIGN)
    assert done.returncode == 0, done.stderr
    assert "Setting up .venv and .venv-dvc with Python 3." in done.stdout
    assert "made anew" not in done.stdout  # the environments are there, and empty
    assert ". .venv/bin/activate" in done.stdout
    # Only pip's own configuration names the index; uv was told of it.
    asked = {("pip", "/simple/uv/"), ("uv", "/simple/tiny/"), ("uv", "/simple/dvc/")}
    assert asked <= set(index.asked)
    shown = subprocess.run(
        ["bash", "-c", ". .venv/bin/activate && tiny && dvc && python -c 'import tiny_product'"],
        cwd=small.root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.splitlines() == [str(small.root / ".venv"), str(small.root / ".venv-dvc")]

    index.asked.clear()
    done = small.make("setup")
    assert (done.returncode, done.stdout, done.stderr, index.asked) == (0, "", "", [])

    small.root = small.root.rename(small.root.with_name("another place"))
    done = small.make("setup")
    assert done.returncode == 0, done.stderr
    assert ".venv is made anew: it was made in another folder." in done.stdout
    assert ".venv-dvc is made anew: it was made in another folder." in done.stdout
    dvc = small.root / ".venv" / "bin" / "dvc"
    shown = subprocess.run([dvc], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == str(small.root / ".venv-dvc")
