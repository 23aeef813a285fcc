"""The hardware and versions that a figure belongs to."""

import platform

from cifar_pipeline.provenance import hardware, library_versions


def describe() -> str:
    """One line of Markdown: processor, cores, Python and library versions."""
    versions = ", ".join(f"{name} {number}" for name, number in library_versions().items())
    return f"{hardware()}; Python {platform.python_version()}, {versions}"


def spread(values: list[float]) -> str:
    """Median and range."""
    ordered = sorted(values)
    return f"{ordered[len(ordered) // 2]:.2f} ({ordered[0]:.2f} to {ordered[-1]:.2f})"
