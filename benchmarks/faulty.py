"""Faults that a machine or a person brings about, each in a workspace that was whole before."""

import http.server
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from cifar_pipeline.artifacts import dvc_md5, file_digest, remove
from cifar_pipeline.graph.versioning import recorded_outputs
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.editing import select_models
from tests.workspaces import DVC, Copy, change_yaml

MODEL = "cnn9"
EPOCHS = 4
KEPT = ("data", ".dvc", "dvc.lock", "params.yaml", "recipes")
AS_A_USER = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
"""Permissions bind root too without these two capabilities."""
LIMIT_S = 900

Fault = Callable[["Faulty"], AbstractContextManager[None]]
"""What is wrong while the block runs; some faults stay after it."""


class Faulty(Copy):
    """A copy of the checkout in which everything was made, that is put back before each fault.

    A small training set and few epochs keep a run short.
    """

    def __init__(self, root: Path) -> None:
        self.root, self._before = root, root.with_name("before")
        self.home = Workspace(root)
        self.log = root.with_name("last.log")
        if not self._before.exists():
            shutil.rmtree(root, ignore_errors=True)
            super().__init__(root, models=[MODEL])
            change_yaml(self.home.params, _shorten_data)
            select_models(self.home.params, [MODEL])
            change_yaml(self.recipe, lambda content: content["smoke"].update(epochs=EPOCHS))
            self.commit("--all")
            self.command("cifar", "run")
            first = self.files()
            self.command("cifar", "run", "--force")
            same = [path for path, digest in self.files().items() if first.get(path) == digest]
            self.commit("--all", "dvc.lock")
            self._before.mkdir()
            for name in KEPT:
                _copy(root / name, self._before / name)
            Path(self._before, "same.txt").write_text("\n".join(same), encoding="utf-8")
        before = Faulty._view(self._before)
        self.undisturbed = before.files()
        self.same = set(Path(self._before, "same.txt").read_text(encoding="utf-8").splitlines())

    @classmethod
    def _view(cls, root: Path) -> "Faulty":
        view = cls.__new__(cls)
        view.root, view.home = root, Workspace(root)
        return view

    @property
    def recipe(self) -> Path:
        return self.root / "recipes" / f"{MODEL}.yaml"

    def restore(self) -> None:
        for name in KEPT:
            remove(self.root / name)
            _copy(self._before / name, self.root / name)

    def outputs(self) -> dict[str, str]:
        """md5 of every output of a stage in dvc.lock, by path; without the plan."""
        recorded = recorded_outputs(self.home)
        return {path: md5 for path, md5 in recorded.items() if path != "data/plan"}

    def files(self) -> dict[str, str]:
        """sha256 of every file of an artefact, by path."""
        found = {}
        for output in self.outputs():
            place = self.root / output
            for path in [place] if place.is_file() else sorted(place.rglob("*")):
                if path.is_file():
                    found[path.relative_to(self.root).as_posix()] = file_digest(path, "sha256")
        return found

    def difference(self) -> str:
        """In what the artefacts, or what DVC has of them, differ from an undisturbed run's; empty
        if they are equal."""
        now = self.files()
        if now.keys() != self.undisturbed.keys():
            return f"files {sorted(now.keys() ^ self.undisturbed.keys())}"
        if changed := [path for path in self.same if now[path] != self.undisturbed[path]]:
            return f"bytes of {sorted(changed)}"
        for output, md5 in self.outputs().items():
            if dvc_md5(self.root / output) != md5:
                return f"dvc.lock and {output}"
            for path in cached(self, output):
                name = f"{path.parent.name}{path.name}".removesuffix(".dir")
                if not path.is_file() or file_digest(path, "md5") != name:
                    return f"DVC's cache of {output}"
        return ""

    def command(
        self, *words: str, obeying: bool = False, **environment: str
    ) -> tuple[int | None, str]:
        """Exit status and output of a command of the user's; None: it did not end.

        Args:
            obeying: whether permissions bind the command.
        """
        with self.started(*words, obeying=obeying, **environment) as process:
            try:
                said, _ = process.communicate(timeout=LIMIT_S)
                return process.returncode, said
            except subprocess.TimeoutExpired:
                return None, "it did not end"

    @contextmanager
    def started(
        self, *words: str, obeying: bool = False, **environment: str
    ) -> Iterator[subprocess.Popen[str]]:
        """A command that runs; it ends with the block."""
        python = (sys.executable, "-m")
        meant = {
            "cifar": (*python, "cifar_pipeline"),
            "job": (*python, "dagster", "job", "execute", "-m", "cifar_pipeline.definitions", "-j"),
            "dvc": (DVC,),
        }[words[0]]
        with subprocess.Popen(
            [*(AS_A_USER if obeying else ()), *meant, *words[1:]],
            cwd=self.root,
            env=self.environment | {"PYTHONWARNINGS": "ignore:Function"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            try:
                yield process
            finally:
                process.terminate()


def _shorten_data(content: dict[str, Any]) -> None:
    content["profile"] = "smoke"
    content["floors"]["smoke"][MODEL] = 0.0
    content["sources"]["generated"].update(train_per_class=10, test_per_class=2)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target)


# Files


def flip(path: Path) -> None:
    """Change one bit in the middle of a file, even a protected one."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    _write(path, bytes(content))


def empty(path: Path) -> None:
    _write(path, b"")


def _write(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


@contextmanager
def damaged(how: Callable[[Path], None], path: str, faulty: Faulty) -> Iterator[None]:
    how(faulty.root / path)
    yield


def cached(faulty: Faulty, output: str) -> list[Path]:
    """The objects of an output in DVC's cache; of a folder, its listing first."""
    cache, md5 = faulty.root / ".dvc/cache/files/md5", faulty.outputs()[output]
    if not md5.endswith(".dir"):
        return [cache / md5[:2] / md5[2:]]
    place = faulty.root / output
    inside = [dvc_md5(path) for path in sorted(place.rglob("*")) if path.is_file()]
    return [cache / each[:2] / each[2:] for each in (md5, *inside)]


# The machine


@contextmanager
def full(folder: str, free: int, faulty: Faulty) -> Iterator[None]:
    """Put a folder on a disk of its own with `free` bytes, rounded down to pages."""
    place, aside = faulty.root / folder, faulty.root.with_name("aside")
    place.mkdir(exist_ok=True, parents=True)
    size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    place.rename(aside)
    place.mkdir()
    limit = 4 * size + 2**25
    subprocess.run(("mount", "-t", "tmpfs", "-o", f"size={limit}", "none", place), check=True)
    try:
        shutil.copytree(aside, place, symlinks=True, dirs_exist_ok=True)
        left = shutil.disk_usage(place).free - free
        Path(place, "filler").write_bytes(bytes(left - left % 4096))
        try:
            yield
        finally:
            Path(place, "filler").unlink()
            shutil.rmtree(aside)
            shutil.copytree(place, aside, symlinks=True)
    finally:
        # A watcher may still read there, for the moment that it takes to see that its run is over.
        subprocess.run(("umount", "--lazy", place), check=True)
        place.rmdir()
        aside.rename(place)


@contextmanager
def forbidden(path: str, permissions: int, faulty: Faulty) -> Iterator[None]:
    """Take permissions away from a file, or from a folder and all that is in it, while the block
    runs."""
    place = faulty.root / path
    before = {each: each.stat().st_mode for each in (place, *place.rglob("*"))}
    for each, mode in reversed(before.items()):
        each.chmod(mode & ~permissions)
    try:
        yield
    finally:
        for each, mode in before.items():
            if each.exists():
                each.chmod(mode)


class CutServer(http.server.BaseHTTPRequestHandler):
    """Closes the connection early, as often as it is told to."""

    protocol_version = "HTTP/1.1"
    content = b""
    cuts = 0
    ranges = True

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "") if self.ranges else ""
        start = int(asked.removeprefix("bytes=").rstrip("-") or 0)
        body = self.content[start:]
        self.send_response(206 if asked else 200)
        if asked:
            whole = len(self.content)
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if type(self).cuts:
            type(self).cuts -= 1
            body = body[: len(body) // 3]
            self.close_connection = True
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(content: bytes, cuts: int, *, ranges: bool = True) -> Iterator[str]:
    """The address of an archive whose first answers are cut."""
    handler = type("Server", (CutServer,), {"content": content, "cuts": cuts, "ranges": ranges})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/cifar-100-python.tar.gz"
        finally:
            server.shutdown()
