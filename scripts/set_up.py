"""`make setup` and `make lock`: the environments of this checkout, and the locks they come from.

`.venv` holds the product and its tools. `.venv-dvc` holds DVC, because DVC and Dagster need
different releases of antlr (dagster #27487, omegaconf #1218).

Only the standard library is used here: this runs before anything is installed.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
import time
import venv
from dataclasses import dataclass
from pathlib import Path

from scripts.fetching import ROOT, Installer, SetUpError, call

REQUIREMENTS = ROOT / "requirements"
VENV, VENV_DVC = ROOT / ".venv", ROOT / ".venv-dvc"
EXTRAS = ("app", "cluster", "mlflow", "publish", "serve", "wandb")
"""What a checkout has beside one of the builds of TensorFlow."""
SIZES = {
    "cpu": "about 750 MB to download and 3.5 GB on disk, two minutes on a fast connection",
    "gpu": "several GB to download, CUDA's libraries among them, and many minutes",
}


def say(line: str) -> None:
    print(line, flush=True)


@dataclass(frozen=True)
class Environment:
    """A virtual environment: what it is to be, and what is wrong with it."""

    folder: Path
    stamp: str
    """what it is to be made of, after the word for its kind"""
    fault: str | None
    """why it must be made anew"""

    @property
    def missing(self) -> bool:
        return bool(self.fault) or read_stamp(self.folder) != self.stamp


def set_up(build: str) -> None:
    """Make both environments what their locks say. It does nothing, in a moment, if they are.

    Args:
        build: `cpu` or `gpu`, that of TensorFlow.
    """
    begun = time.monotonic()
    lock = REQUIREMENTS / f"{build}.txt"
    product = Environment(
        VENV,
        checksum(build, lock, REQUIREMENTS / "uv.txt", ROOT / "pyproject.toml"),
        fault(VENV, "pip", module="pip") or other_build(build),
    )
    dvc = Environment(VENV_DVC, checksum("dvc", REQUIREMENTS / "dvc.txt"), fault(VENV_DVC, "dvc"))
    missing = [environment for environment in (product, dvc) if environment.missing]
    if missing:
        names = " and ".join(environment.folder.name for environment in missing)
        version = ".".join(map(str, sys.version_info[:3]))
        size = SIZES[build] if product.fault else "what is missing or has changed"
        say(f"Setting up {names} with Python {version}: {size}.")
        for environment in missing:
            folder = environment.folder
            if environment.fault:
                make_environment(folder, why=environment.fault, with_pip=folder == VENV)
            write_stamp(folder, f"{environment.stamp.partition(' ')[0]} unfinished")
        install(missing, lock)
    link_dvc()
    tell_dvc_about_git()
    for environment in missing:
        write_stamp(environment.folder, environment.stamp)
    if missing:
        took = time.monotonic() - begun
        say(f"Ready after {took:.0f} s. `. .venv/bin/activate` gives cifar, dagster and dvc.")


def install(missing: list[Environment], lock: Path) -> None:
    """Install into the environments what their locks name."""
    installer = Installer(VENV)
    say("- uv, the installer")
    installer.install_uv(REQUIREMENTS / "uv.txt")
    folders = [environment.folder for environment in missing]
    if VENV in folders:
        say(f"- TensorFlow, Dagster and the other packages in {lock.relative_to(ROOT)}")
        installer.install(VENV, "--require-hashes", "-r", lock)
        installer.install(VENV, "--no-deps", "--editable", ROOT)
    if VENV_DVC in folders:
        say("- DVC, in an environment of its own")
        installer.install(VENV_DVC, "--require-hashes", "-r", REQUIREMENTS / "dvc.txt")


def fault(folder: Path, command: str, module: str | None = None) -> str | None:
    """Why the virtual environment in a folder cannot be used, or None.

    Args:
        folder: The environment.
        command: A script of it, whose first lines name the folder that it was made in.
        module: A module that the environment must have.
    """
    python = folder / "bin" / "python"
    probe = "import sys; print(*sys.version_info[:2], sep='.')"
    if module:
        probe += f"; import {module}"
    try:
        done = subprocess.run(
            [python, "-I", "-c", probe], capture_output=True, text=True, check=False
        )
    except OSError:
        return "it has no interpreter that runs"
    version, ours = done.stdout.strip(), f"{sys.version_info[0]}.{sys.version_info[1]}"
    if version != ours:
        return f"it has Python {version} instead of {ours}" if version else "it is broken"
    if done.returncode != 0:
        return f"it has no {module}"
    script = folder / "bin" / command
    here = rb"(#!|[\"'])" + re.escape(os.fsencode(folder.resolve() / "bin" / "python"))
    if script.exists() and not re.search(here, script.read_bytes()[:4096]):
        return "it was made in another folder"
    return None


def make_environment(folder: Path, *, why: str, with_pip: bool) -> None:
    """Create a virtual environment, in place of one that cannot be used."""
    if folder.is_file():
        raise SetUpError(f"{folder} is a file, where a folder is to be made; move it away")
    if folder.is_symlink() and not folder.exists():
        target = folder.readlink()
        raise SetUpError(f"{folder} is a link to {target}, which does not exist")
    if folder.exists():
        say(f"{folder.name} is made anew: {why}.")
    try:
        venv.EnvBuilder(clear=True, symlinks=True, with_pip=with_pip).create(folder.resolve())
    except subprocess.CalledProcessError as error:
        output = (error.output or b"").decode(errors="replace")
        raise SetUpError(f"{sys.executable} cannot make {folder}:\n{output}") from None
    except (OSError, ValueError) as error:  # no room or no right to write; a `:` in the path
        raise SetUpError(f"{folder} cannot be made: {error}") from None


def checksum(kind: str, *files: Path) -> str:
    """What an environment is made of, in a line that begins with its kind."""
    content = hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()
    return f"{kind} {content}"


def other_build(build: str) -> str | None:
    """That the environment must be made anew for this build of TensorFlow, if it has another one.

    The builds overwrite each other's files, so that removing one breaks the other.
    """
    there = read_stamp(VENV).partition(" ")[0]
    return "it has the other build of TensorFlow" if there and there != build else None


def installed_build() -> str:
    """The build of TensorFlow that `.venv` has; the CPU's if there is none yet."""
    kind = read_stamp(VENV).partition(" ")[0]
    return kind if kind in SIZES else "cpu"


def read_stamp(folder: Path) -> str:
    path = folder / ".set-up"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def write_stamp(folder: Path, stamp: str) -> None:
    (folder / ".set-up").write_text(stamp, encoding="utf-8")


def link_dvc() -> None:
    """Give `.venv` the command `dvc`, so that one folder on the PATH is enough."""
    link, command = VENV / "bin" / "dvc", VENV_DVC / "bin" / "dvc"
    target = os.path.relpath(command.resolve(), link.parent.resolve())
    if not (link.is_symlink() and str(link.readlink()) == target):
        link.unlink(missing_ok=True)
        link.symlink_to(target)


def tell_dvc_about_git() -> None:
    """Let DVC work without git outside a git checkout, and where `data` is a link out of it.

    DVC refuses both otherwise. The setting is in .dvc/config.local, which git ignores; a note
    beside it says that it is not the user's own.
    """
    note = ROOT / ".dvc" / "tmp" / "without-git"
    reason = None
    if (ROOT / "data").is_symlink():
        reason = "`data` is a symbolic link, which DVC does not follow out of a git checkout"
    elif not any((folder / ".git").exists() for folder in (ROOT, *ROOT.parents)):
        reason = "this folder is not a git checkout"
    if bool(reason) == note.exists():
        return
    change = ("core.no_scm", "true") if reason else ("--unset", "core.no_scm")
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    call(VENV_DVC / "bin" / "dvc", "config", "--quiet", "--local", *change, env=env)
    if reason:
        note.parent.mkdir(exist_ok=True)
        note.touch()
        say(f"DVC works without git here, except for `dvc exp` and `dvc diff`: {reason}.")
    else:
        note.unlink()
        say("DVC works with git again.")


def lock_all() -> None:
    """Pin again, after a change of pyproject.toml or requirements/*.in."""
    installer = Installer(VENV)
    for kind in SIZES:
        chosen = [option for extra in (kind, *EXTRAS) for option in ("--extra", extra)]
        options = (*chosen, "--group", "dev")
        installer.lock(ROOT / "pyproject.toml", REQUIREMENTS / f"{kind}.txt", *options)
    for name in ("dvc", "uv", "serve"):
        installer.lock(REQUIREMENTS / f"{name}.in", REQUIREMENTS / f"{name}.txt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "what",
        nargs="?",
        choices=[*SIZES, "lock"],
        help="a build of TensorFlow, or `lock`; default: the one that is installed, or else `cpu`",
    )
    what = parser.parse_args().what
    try:
        lock_all() if what == "lock" else set_up(what or installed_build())
    except SetUpError as error:
        sys.exit(f"Set-up stopped: {error}")
    except KeyboardInterrupt:
        sys.exit("Set-up was interrupted; `make setup` resumes where it stopped.")


if __name__ == "__main__":
    main()
