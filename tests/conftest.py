"""Small real artefacts that the tests generate: an archive in upstream's pickle format, and what
follows from it."""

import os
from pathlib import Path

import pytest

from cifar_pipeline.dataset.build import build_table, write_table
from cifar_pipeline.dataset.generated import legacy_pickle, members
from cifar_pipeline.dataset.packed import write_archive
from cifar_pipeline.dataset.splits import build_splits, write_splits
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.data import SplitSettings
from cifar_pipeline.settings.editing import select_profile
from cifar_pipeline.settings.params import Params
from cifar_pipeline.settings.reading import load_params
from cifar_pipeline.training.allocator import keep_freed_memory
from tests.workspaces import copy_settings

keep_freed_memory()  # as in the product's processes that train
TRAIN_PER_CLASS, TEST_PER_CLASS = 10, 2


@pytest.fixture(autouse=True, scope="session")
def no_settings_of_this_machine():
    """Tests see the repository's settings, not those of whoever runs them."""
    with pytest.MonkeyPatch.context() as environment:
        for name in list(os.environ):
            if name.startswith(("CIFAR_", "DVC_", "DAGSTER_")) and name != "CIFAR_DVC":
                environment.delenv(name)
        yield


@pytest.fixture
def params_file(tmp_path) -> Path:
    """A copy of the repository's settings, recipes included."""
    return copy_settings(tmp_path)


@pytest.fixture
def smoke(params_file) -> Params:
    select_profile(params_file, "smoke")
    return load_params(params_file)


@pytest.fixture(scope="session")
def content():
    """The members of a small archive, before pickling; tests that change them must copy."""
    return members(TRAIN_PER_CLASS, TEST_PER_CLASS, seed=0)


@pytest.fixture
def make_archive(tmp_path, content):
    """Write an archive whose members are changed by keyword: bytes replace a pickle, and None
    leaves the member out."""

    def make(**changes) -> Path:
        pickles = {name: legacy_pickle(member) for name, member in content.items()}
        for name, change in changes.items():
            if change is None:
                del pickles[name]
            else:
                pickles[name] = (
                    change if isinstance(change, bytes) else legacy_pickle(content[name] | change)
                )
        path = tmp_path / "cifar-100-python.tar.gz"
        write_archive(path, pickles)
        return path

    return make


@pytest.fixture(scope="session")
def prepared(tmp_path_factory, content) -> Workspace:
    """A workspace with a small archive, its table and its splits. Read only."""
    home = Workspace(tmp_path_factory.mktemp("prepared"))
    write_archive(home.archive, {name: legacy_pickle(member) for name, member in content.items()})
    table = build_table(home.archive)
    write_table(table, home.table)
    write_splits(build_splits(table, SplitSettings(validation_fraction=0.2, seed=123)), home.splits)
    return home


def pytest_collection_modifyitems(items):
    """The doors go through one copy in order and take longest, so they start first."""
    items.sort(key=lambda item: item.path.name != "test_doors.py")
