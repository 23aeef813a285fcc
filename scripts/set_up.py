"""`make setup` and `make lock`: the environments of this checkout, and the locks they come from.

`.venv` holds the product and its tools. `.venv-dvc` holds DVC, because DVC and Dagster need
different releases of antlr (dagster #27487, omegaconf #1218).

Only the standard library is used here: this runs before anything is installed.
"""

import argparse
import ast
import hashlib
import os
import re
import shlex
import ssl
import subprocess
import sys
import time
import venv
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / "requirements"
VENV, VENV_DVC = (ROOT / ".venv").resolve(), (ROOT / ".venv-dvc").resolve()
SIZES = {
    "cpu": "about 650 MB to download and 2.8 GB on disk, two minutes on a fast connection",
    "gpu": "several GB to download, CUDA's libraries among them, and many minutes",
}
PIP_SETTINGS = (
    "cache-dir",
    "cert",
    "client-cert",
    "default-timeout",
    "extra-index-url",
    "find-links",
    "index-url",
    "keyring-provider",
    "no-index",
    "proxy",
    "retries",
    "timeout",
    "trusted-host",
)
"""pip's settings for how packages are fetched. No other setting of the user's takes effect."""
UV_SETTINGS = (
    "UV_CACHE_DIR",
    "UV_CONCURRENT_",
    "UV_CONFIG_FILE",
    "UV_DEFAULT_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_HTTP_",
    "UV_INDEX",
    "UV_INSECURE_HOST",
    "UV_KEYRING_PROVIDER",
    "UV_LINK_MODE",
    "UV_NATIVE_TLS",
    "UV_NO_CACHE",
    "UV_NO_CONFIG",
    "UV_NO_PROGRESS",
    "UV_OFFLINE",
    "UV_SYSTEM_CERTS",
)
"""How the names of the corresponding variables of uv begin."""
STEERING = ("CONDA_", "PIP_", "PYTHON", "UV_", "VIRTUAL_ENV")
"""How the names begin of variables that could make pip, uv or Python use another environment."""
HELP = """\
`make setup` resumes where it stopped. Where PyPI can be reached only through a mirror, set
PIP_INDEX_URL, and PIP_CERT to the file with its certificate, or set both in pip's own
configuration: uv is given what pip reads."""


class SetUpError(Exception):
    """What stands in the way, for the person who started the set-up."""


def say(line: str) -> None:
    print(line, flush=True)


def call(*command: str | Path, env: Mapping[str, str]) -> str:
    """Run a command, show what it writes to stderr, and return what it writes to stdout.

    Raises:
        SetUpError: The command failed.
    """
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=False
        )
    except OSError as error:
        raise SetUpError(f"{command[0]} does not run: {error.strerror}") from None
    if done.returncode != 0:
        failed = shlex.join(map(str, command))
        raise SetUpError(f"this command failed, for the reason above:\n  {failed}\n{HELP}")
    return done.stdout


# --- environments ---------------------------------------------------------------------------------


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
    here = rb"(#!|[\"'])" + re.escape(os.fsencode(python))
    if script.exists() and not re.search(here, script.read_bytes()[:4096]):
        return "it was made in another folder"
    return None


def make_environment(folder: Path, *, why: str, with_pip: bool) -> None:
    """Create a virtual environment, in place of one that cannot be used."""
    if folder.is_file():
        raise SetUpError(f"{folder} is a file, where a folder is to be made; move it away")
    if folder.exists():
        say(f"{folder.name} is made anew: {why}.")
    try:
        venv.EnvBuilder(clear=True, symlinks=True, with_pip=with_pip).create(folder)
    except subprocess.CalledProcessError as error:
        output = (error.output or b"").decode(errors="replace")
        raise SetUpError(f"{sys.executable} cannot make {folder}:\n{output}") from None
    except (OSError, ValueError) as error:  # no room or no right to write; a `:` in the path
        raise SetUpError(f"{folder} cannot be made: {error}") from None


def checksum(kind: str, *files: Path) -> str:
    """What an environment is made of, in a line that begins with its kind."""
    content = hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()
    return f"{kind} {content}"


# --- how packages are fetched ---------------------------------------------------------------------


def pip_settings(python: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """What pip reads on how packages are fetched, from the user's variables and from files.

    In pip, `[install]` overrides `[global]`, and a variable overrides both.
    """
    # `user = true` in one of the files would show that of the user alone.
    env = {k: v for k, v in environ.items() if not k.startswith("PYTHON")} | {"PIP_USER": "0"}
    listed = call(python, "-I", "-m", "pip", "config", "list", env=env)
    entries = dict(line.split("=", 1) for line in listed.splitlines() if "=" in line)
    return {
        key: str(ast.literal_eval(entries[f"{section}.{key}"]))
        for key in PIP_SETTINGS
        for section in ("global", "install", ":env:")
        if f"{section}.{key}" in entries
    }


def fetching(environ: Mapping[str, str], pip: Mapping[str, str]) -> dict[str, str]:
    """The variables with which pip and uv fetch from the same places, trusting the same servers.

    Args:
        environ: The user's variables.
        pip: pip's settings, whether from variables or from its files.
    """
    variables = {k: v for k, v in environ.items() if not k.startswith(STEERING)}
    variables |= {k: v for k, v in environ.items() if k.startswith(UV_SETTINGS)}
    pip_own = dict(pip)
    uv_index = environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL")
    if uv_index:
        pip_own.setdefault("index-url", uv_index)
    uv_own = {
        "HTTP_PROXY": pip.get("proxy"),
        "HTTPS_PROXY": pip.get("proxy"),
        "SSL_CLIENT_CERT": pip.get("client-cert"),
        "UV_DEFAULT_INDEX": None if uv_index else pip.get("index-url"),
        "UV_FIND_LINKS": ",".join(pip.get("find-links", "").split()),
        "UV_HTTP_TIMEOUT": pip.get("timeout") or pip.get("default-timeout"),
        "UV_INDEX": " ".join(pip.get("extra-index-url", "").split()),
        # Every file must have the hash in the lock, so that it does not matter which index has it.
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_INSECURE_HOST": " ".join(pip.get("trusted-host", "").split()),
    }
    named = (
        environ.get(name) for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
    )
    certificates = pip.get("cert") or next(filter(None, named), None)
    if certificates:
        pip_own["cert"] = certificates
        uv_own["SSL_CERT_DIR" if Path(certificates).is_dir() else "SSL_CERT_FILE"] = certificates
    elif has_certificates():
        uv_own["UV_SYSTEM_CERTS"] = "true"  # what pip does since 24.2
    for name, value in uv_own.items():
        if value:
            variables.setdefault(name, value)
    variables |= {f"PIP_{k.upper().replace('-', '_')}": v for k, v in pip_own.items()}
    return variables | {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def has_certificates() -> bool:
    """Whether the operating system has a store of certificates."""
    paths = ssl.get_default_verify_paths()
    folder = Path(paths.capath) if paths.capath else None
    return sys.platform == "darwin" or bool(
        paths.cafile or (folder and folder.is_dir() and any(folder.iterdir()))
    )


class Installer:
    """pip to fetch uv, and uv for the rest, which takes it a fraction of pip's time."""

    def __init__(self) -> None:
        self._python = VENV / "bin" / "python"
        pip = pip_settings(self._python, os.environ)
        self._env = fetching(os.environ, pip)
        self._no_index = pip.get("no-index", "").lower() in ("1", "true", "yes", "on")

    def install_uv(self) -> None:
        """Install uv itself."""
        options = ("--quiet", "--require-hashes", "--only-binary", ":all:")
        command = (self._python, "-I", "-m", "pip", "install", *options)
        call(*command, "-r", REQUIREMENTS / "uv.txt", env=self._env)

    def install(self, folder: Path, *what: str | Path) -> None:
        """Install into the environment in a folder.

        Bytecode is compiled at once: every step is a process, and each would spend seconds on
        TensorFlow's sources where it may not write beside them.
        """
        into = ("--python", folder / "bin" / "python", "--compile-bytecode")
        # On a terminal uv shows its progress; elsewhere it would list every package.
        quiet = () if sys.stderr.isatty() else ("--quiet",)
        self._uv("install", *into, *quiet, *what)

    def lock(self, source: Path, target: Path, *options: str) -> None:
        """Pin the requirements of a file for all platforms and all Pythons that are supported."""
        fixed = ("--universal", "--python-version", "3.11", "--generate-hashes")
        unsaid = ("--no-emit-index-url", "--no-header", "--quiet")
        # The lock quotes the paths, which must not be those of this machine.
        paths = (source.relative_to(ROOT), "-o", target.relative_to(ROOT))
        self._uv("compile", *options, *fixed, *unsaid, *paths)

    def _uv(self, subcommand: str, *arguments: str | Path) -> None:
        index = ("--no-index",) if self._no_index else ()
        call(VENV / "bin" / "uv", "pip", subcommand, *index, *arguments, env=self._env)


# --- what `make` calls ----------------------------------------------------------------------------


def set_up(kind: str) -> None:
    """Make both environments what their locks say. It does nothing, in a moment, if they are.

    Args:
        kind: `cpu` or `gpu`, the build of TensorFlow.
    """
    begun = time.monotonic()
    lock, project = REQUIREMENTS / f"{kind}.txt", ROOT / "pyproject.toml"
    stamps = {
        VENV: checksum(kind, lock, REQUIREMENTS / "uv.txt", project),
        VENV_DVC: checksum("dvc", REQUIREMENTS / "dvc.txt"),
    }
    faults = {VENV: fault(VENV, "pip", module="pip"), VENV_DVC: fault(VENV_DVC, "dvc")}
    before = {folder: read_stamp(folder) for folder in stamps}
    if before[VENV] and before[VENV].split()[0] != kind:
        # The builds overwrite each other's files, so that removing one breaks the other.
        faults[VENV] = faults[VENV] or "it has the other build of TensorFlow"
    missing = [folder for folder in stamps if faults[folder] or before[folder] != stamps[folder]]
    if missing:
        names = " and ".join(folder.name for folder in missing)
        version = ".".join(map(str, sys.version_info[:3]))
        size = SIZES[kind] if faults[VENV] else "what is missing or has changed"
        say(f"Setting up {names} with Python {version}: {size}.")
        for folder in missing:
            if why := faults[folder]:
                make_environment(folder, why=why, with_pip=folder == VENV)
            write_stamp(folder, f"{stamps[folder].split()[0]} unfinished")
        installer = Installer()
        say("- uv, the installer")
        installer.install_uv()
        if VENV in missing:
            say(f"- TensorFlow, Dagster and the other packages in {lock.relative_to(ROOT)}")
            installer.install(VENV, "--require-hashes", "-r", lock)
            installer.install(VENV, "--no-deps", "--editable", ROOT)
        if VENV_DVC in missing:
            say("- DVC, in an environment of its own")
            installer.install(VENV_DVC, "--require-hashes", "-r", REQUIREMENTS / "dvc.txt")
    link_dvc()
    tell_dvc_about_git()
    for folder in missing:
        write_stamp(folder, stamps[folder])
    if missing:
        took = time.monotonic() - begun
        say(f"Ready after {took:.0f} s. `. .venv/bin/activate` gives cifar, dagster and dvc.")


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
    target = os.path.relpath(command, link.parent)
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
    installer = Installer()
    for kind in SIZES:
        extra = ("--extra", kind, "--group", "dev")
        installer.lock(ROOT / "pyproject.toml", REQUIREMENTS / f"{kind}.txt", *extra)
    for name in ("dvc", "uv"):
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
