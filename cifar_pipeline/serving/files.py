"""Which image files a user means by names of files, folders and patterns."""

import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.serving.photographs import PATIENT
from cifar_pipeline.serving.predictor import Source

STDIN = "-"
SAID_WHY_NOT = frozenset({".heic", ".heif", ".svg", ".eps"})
"""Endings of photographs and drawings that are not read; an error says how to convert them."""


@dataclass(frozen=True)
class Found:
    """The files that were named."""

    sources: list[Source]
    left_out: int
    """files in folders that have no image's ending"""


def find_photographs(arguments: Iterable[str]) -> Found:
    """Each file once, in the order in which they were named, and by name within a folder.

    A file that does not exist is among them, so that it costs an error of its own.

    Args:
        arguments: files; folders, for the images in them and in their subfolders; patterns such
            as `holiday/**/*.jpg`; and `-` for an image on standard input.

    Raises: PipelineError for an empty name or an address on the web, or when standard input is
        named twice.
    """
    arguments = list(arguments)
    for argument in arguments:
        if not argument:
            raise PipelineError("one of the photographs has an empty name; name a file or a folder")
        if re.match(r"[a-z][a-z0-9+.-]+://", argument, flags=re.IGNORECASE):
            raise PipelineError(
                f"{argument} is an address, and nothing is fetched; download the photograph and "
                "name the file"
            )
    if arguments.count(STDIN) > 1:
        raise PipelineError(f"`{STDIN}` is named twice, and standard input holds one image")
    sources: dict[str, Source] = {}
    left_out = 0
    for argument in arguments:
        if argument == STDIN:
            content = sys.stdin.buffer.read(PATIENT.bytes + 1)
            sources[argument] = Source(argument, content)
            continue
        for path in _matches(argument):
            images = [path]
            if path.is_dir():
                files = list(_files_in(path))
                images = [file for file in files if file.suffix.lower() in _endings()]
                left_out += len(files) - len(images)
            sources |= {str(image): Source(_shown(image), image) for image in images}
    return Found(list(sources.values()), left_out)


def _matches(argument: str) -> list[Path]:
    """What a pattern means where no shell has expanded it; any other argument means itself."""
    path = Path(argument)
    if path.exists() or not glob.has_magic(argument):
        return [path]
    # Not `Path.glob`, which takes no absolute pattern.
    matches = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207
    return [Path(match) for match in matches] or [path]


def _shown(path: Path) -> str:
    """The name of a file as Unicode, which a name need not be."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _files_in(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))


def _endings() -> frozenset[str]:
    from PIL import Image  # noqa: PLC0415  # knowing all kinds takes 0.1 s

    known = Image.registered_extensions()
    return SAID_WHY_NOT | {ending for ending, kind in known.items() if kind in Image.OPEN}
