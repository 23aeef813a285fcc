"""What an artefact was made with: versions of libraries, hardware, and the code's revision."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

LIBRARIES = (
    "keras",
    "tensorflow-cpu",
    "tensorflow",
    "numpy",
    "pandas",
    "pyarrow",
    "scikit-learn",
    "albumentations",
)


def library_versions() -> dict[str, str]:
    """The versions that decide what an artefact holds, of those libraries that are installed."""
    installed = {}
    for name in LIBRARIES:
        try:
            installed[name] = version(name)
        except ModuleNotFoundError:
            continue
    return installed


def hardware() -> str:
    """System, processor and cores of this machine, in a line."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{platform.system()} {platform.machine()}, {models[0] if models else platform.processor()}, {os.cpu_count()} cores"


def code_revision() -> str:
    """The last commit that changed this package, `-dirty` where files differ from it; `unknown` outside a git checkout."""
    package = Path(__file__).parent
    try:
        commit, changes = (
            subprocess.run(
                ["git", *command, "--", "."],
                cwd=package,
                capture_output=True,
                text=True,
                check=False,
            ).stdout.strip()  # noqa: S607
            for command in (["log", "-1", "--format=%h", "--abbrev=12"], ["status", "--porcelain"])
        )
    except FileNotFoundError:
        return "unknown"
    return (commit or "unknown") + ("-dirty" if commit and changes else "")
