"""The hardware and versions that a figure belongs to."""

import os
import platform
from pathlib import Path

from cifar_pipeline.artifacts import library_versions


def describe() -> str:
    """One line of Markdown: processor, cores, Python and library versions."""
    cpuinfo = Path("/proc/cpuinfo")
    models = (
        [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        if cpuinfo.exists()
        else []
    )
    versions = ", ".join(f"{name} {number}" for name, number in library_versions().items())
    return f"{models[0] if models else platform.processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}"


def spread(values: list[float]) -> str:
    """Median and range."""
    ordered = sorted(values)
    return f"{ordered[len(ordered) // 2]:.2f} ({ordered[0]:.2f} to {ordered[-1]:.2f})"
