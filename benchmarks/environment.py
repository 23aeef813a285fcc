"""The hardware and versions that a figure belongs to."""

import platform
from statistics import median

from cifar_pipeline.provenance import hardware, library_versions


def describe() -> str:
    """One line of Markdown: processor, cores, Python and library versions."""
    versions = ", ".join(f"{name} {number}" for name, number in library_versions().items())
    return f"{hardware()}; Python {platform.python_version()}, {versions}"


def spread(values: list[float]) -> str:
    """Median and range."""
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
