"""What the tests of reports share: drawing a report takes seconds, so it is done once."""

import shutil
from pathlib import Path

import pytest

from cifar_pipeline.dataset.classes import Classes
from cifar_pipeline.dataset.table import read_table
from cifar_pipeline.reports.report import write_report
from cifar_pipeline.reports.subsets import write_subsets
from tests.reports.artefacts import THREE_IN_FOUR, inputs_in


@pytest.fixture(scope="session")
def subsets(prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("subsets") / "test_subsets"
    write_subsets(prepared.table, {}, folder, folder)
    return folder


@pytest.fixture(scope="session")
def classes(prepared):
    return Classes.of(read_table(prepared.table), "fine")


@pytest.fixture(scope="session")
def labels(prepared):
    return read_table(prepared.table)["fine_label"].to_numpy()[1000:]


@pytest.fixture(scope="session")
def coarse_labels(prepared):
    return read_table(prepared.table)["coarse_label"].to_numpy()[1000:]


@pytest.fixture
def inputs(prepared, subsets, labels, tmp_path):
    """Of a model that is right three times in four."""
    return inputs_in(tmp_path, prepared.table, subsets, labels, THREE_IN_FOUR)


@pytest.fixture(scope="session")
def shared_inputs(prepared, subsets, labels, tmp_path_factory):
    """What `inputs` is. Read only."""
    folder = tmp_path_factory.mktemp("inputs")
    return inputs_in(folder, prepared.table, subsets, labels, THREE_IN_FOUR)


@pytest.fixture(scope="session")
def made(shared_inputs, tmp_path_factory):
    """The report on what `inputs` holds. Read only."""
    folder = tmp_path_factory.mktemp("made")
    write_report("some_model", shared_inputs, folder / "report")
    return folder / "report"


@pytest.fixture
def report(made, tmp_path):
    """A copy of `made` that a test may change."""
    return Path(shutil.copytree(made, tmp_path / "report"))
