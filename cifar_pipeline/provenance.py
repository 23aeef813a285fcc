"""What an artefact was made with: libraries, settings, hardware, and the code's revision."""

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
    "opencv-python-headless",
    "grain",
    "scipy",
)

NUMERIC = (
    "KERAS_BACKEND",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "TF_ENABLE_ONEDNN_OPTS",
    "TF_ENABLE_ZENDNN_OPTS",
    "TF_DETERMINISTIC_OPS",
    "TF_CUDNN_DETERMINISTIC",
    "TF_CUDNN_USE_AUTOTUNE",
    "TF_USE_CUBLASLT",
    "TF_FP16_MATMUL_USE_FP32_COMPUTE",
    "TF_USE_DEEP_CONV2D",
    "TF_XLA_FLAGS",
    "XLA_FLAGS",
    "NVIDIA_TF32_OVERRIDE",
    "OPENCV_CPU_DISABLE",
    "OPENCV_IPP",
    "NPY_DISABLE_CPU_FEATURES",
)
"""Environment variables that choose between ways of computing the same thing, which round
differently."""

THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
"""Environment variables that divide the work as a machine's number of cores does."""


def library_versions() -> dict[str, str]:
    """The versions of the installed libraries that decide what an artefact holds."""
    installed = {}
    for name in LIBRARIES:
        try:
            installed[name] = version(name)
        except ModuleNotFoundError:
            continue
    return installed


def numeric_settings() -> dict[str, str]:
    """Settings of this process that change how results are rounded."""
    return _set_in_environment(NUMERIC)


def thread_settings() -> dict[str, str]:
    """Settings of this process that differ between machines for good reasons, as cores do."""
    return _set_in_environment(THREADS)


def _set_in_environment(names: tuple[str, ...]) -> dict[str, str]:
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def hardware() -> str:
    """System, processor and cores of this machine, in a line."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    processor = models[0] if models else platform.processor()
    return f"{platform.system()} {platform.machine()}, {processor}, {os.cpu_count()} cores"


def code_revision() -> str:
    """The last commit that changed this package, with `-dirty` if files differ from it.

    `unknown` outside a git checkout.
    """
    package = Path(__file__).parent
    try:
        commit, changes = (
            subprocess.run(
                ["git", *command, "--", "."],  # noqa: S607
                cwd=package,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                check=False,
            ).stdout.strip()
            for command in (["log", "-1", "--format=%h", "--abbrev=12"], ["status", "--porcelain"])
        )
    except FileNotFoundError:
        return "unknown"
    return (commit or "unknown") + ("-dirty" if commit and changes else "")
