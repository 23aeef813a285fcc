"""How packages are fetched: pip's settings, for pip and uv alike, and the calls of both.

Only the standard library is used here: this runs before anything is installed.
"""

import ast
import os
import shlex
import ssl
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
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

    def __init__(self, venv: Path) -> None:
        """`venv` has pip, and gets uv."""
        self._bin = venv / "bin"
        self._python = self._bin / "python"
        pip = pip_settings(self._python, os.environ)
        self._env = fetching(os.environ, pip)
        self._no_index = pip.get("no-index", "").lower() in ("1", "true", "yes", "on")

    def install_uv(self, lock: Path) -> None:
        """Install uv itself."""
        options = ("--quiet", "--require-hashes", "--only-binary", ":all:")
        command = (self._python, "-I", "-m", "pip", "install", *options)
        call(*command, "-r", lock, env=self._env)

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
        call(self._bin / "uv", "pip", subcommand, *index, *arguments, env=self._env)
