"""What the page reads, each file once for all visitors, and again when it has changed."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import streamlit as st

from cifar_pipeline.dataset.classes import Classes
from cifar_pipeline.dataset.table import pixels, read_table
from cifar_pipeline.drawing.pages import render
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.paths import Workspace
from cifar_pipeline.reports.browsing import TestSplit
from cifar_pipeline.reports.files import DUPLICATES
from cifar_pipeline.serving.exported import MODEL, ExportedModel
from cifar_pipeline.serving.neighbours import NEIGHBOURS, Neighbours
from cifar_pipeline.serving.photographs import STRICT, read_preview
from cifar_pipeline.serving.predictor import Prediction, Predictor, Source

Stamp = tuple[str, int, int]
"""Path, time of the last change and size: a file that has changed has another one."""
PREVIEW = 480
KEPT = 24
"""Answers and previews that are remembered while a visitor's page is open, each of up to 700 kB."""
DECODERS = threading.Semaphore(2)
"""Photographs decoded at once, each of which may take 200 MB."""


def stamp(path: Path) -> Stamp:
    """The stamp of a file that may be missing."""
    if not path.is_file():
        return str(path), 0, 0
    found = path.stat()
    return str(path), found.st_mtime_ns, found.st_size


@contextmanager
def plain_errors(home: Workspace, subject: str = "") -> Iterator[None]:
    """Say what is missing or stale where it would have been shown.

    Args:
        subject: whose fault it is, such as a file's name.
    """
    try:
        yield
    except PipelineError as error:
        told = str(error).replace(f"{home.root}/", "")
        say(f"{subject}: {told}" if subject else told)


def say(text: str) -> None:
    """A sentence that may hold anything, such as the name of a visitor's file."""
    st.html(render("app/notice.html.j2", text=text))


def model(home: Workspace, name: str) -> ExportedModel:
    """An exported model."""
    return _model(stamp(home.export(name) / MODEL))


def neighbours(home: Workspace, name: str) -> Neighbours:
    """The training images that a model knows by their features."""
    return _neighbours(stamp(home.export(name) / NEIGHBOURS))


def labels(home: Workspace) -> np.ndarray:
    """(rows,) uint8: the class of every image of the data set."""
    return _table(stamp(home.table))["fine_label"].to_numpy()


def images(home: Workspace) -> np.ndarray:
    """(rows, 32, 32, 3) uint8 of the data set."""
    return _images(stamp(home.table))


def classes(home: Workspace) -> Classes:
    """The 100 classes of the data set."""
    return _classes(stamp(home.table))


def test_split(home: Workspace, name: str) -> TestSplit:
    """The test images with a model's answers."""
    folder = home.model(name)
    files = (home.predictions(name), folder / "provenance.json", folder / "calibration.json")
    duplicates = stamp(home.test_subsets / DUPLICATES)
    return _test_split(name, tuple(map(stamp, files)), stamp(home.table), duplicates)


def prediction(model: ExportedModel, content: bytes) -> Prediction:
    """What a model says of a visitor's file, or why it cannot be read."""
    return _prediction(model, model.sha256, content)


@st.cache_data(max_entries=KEPT, show_spinner=False, scope="session")
def preview(content: bytes) -> np.ndarray:
    """A visitor's photograph, (H, W, 3) uint8 of at most PREVIEW pixels a side.

    Raises: PipelineError when it is too large, is no image, or is damaged.
    """
    with DECODERS:
        return read_preview(content, PREVIEW, STRICT)


@st.cache_data(max_entries=KEPT, show_spinner="asking the model …", scope="session")
def _prediction(_model: ExportedModel, sha256: str, content: bytes) -> Prediction:
    """The checksum of the model's file and the content say what was asked."""
    with DECODERS:
        found = next(Predictor(_model, limits=STRICT).predict([Source("", content)]))
    return replace(found, source=Source("", b""))  # the file itself need not be remembered


@st.cache_resource(max_entries=8, show_spinner="loading the model …")
def _model(file: Stamp) -> ExportedModel:
    return ExportedModel(Path(file[0]), threads=1)  # visitors share the cores


@st.cache_resource(max_entries=8, show_spinner=False)
def _neighbours(file: Stamp) -> Neighbours:
    return Neighbours.read(Path(file[0]))


@st.cache_resource(max_entries=1, show_spinner="loading the images …")
def _images(file: Stamp) -> np.ndarray:
    return pixels(read_table(Path(file[0]), ["image"]))


@st.cache_resource(max_entries=1, show_spinner=False)
def _table(file: Stamp) -> pa.Table:
    return read_table(Path(file[0]), ["fine_label", "coarse_label"])


@st.cache_resource(max_entries=1, show_spinner=False)
def _classes(file: Stamp) -> Classes:
    return Classes.of(_table(file), "fine")


@st.cache_resource(max_entries=8, show_spinner="loading the predictions …")
def _test_split(
    name: str, files: tuple[Stamp, ...], table_file: Stamp, duplicates: Stamp
) -> TestSplit:
    return TestSplit.read(
        Workspace.current(), name, _table(table_file), read_table(Path(duplicates[0]))
    )
