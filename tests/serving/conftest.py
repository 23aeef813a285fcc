"""A small network with random weights, saved as a training saves it, and exported."""

from pathlib import Path

import pytest

from cifar_pipeline.dataset.table import read_table
from cifar_pipeline.paths import Workspace


@pytest.fixture(scope="session")
def served(prepared, tmp_path_factory) -> Workspace:
    """A workspace with data, a model called `cnn9` and its export. Read only."""
    from cifar_pipeline.serving.export import export_model
    from tests.serving.networks import save_model

    home = Workspace(tmp_path_factory.mktemp("served"))
    home.data.mkdir()
    for name in ("table", "splits"):
        (home.data / name).symlink_to(prepared.data / name)
    save_model(home.model("cnn9"), read_table(home.table))
    checks, _ = export_model(
        "cnn9", home.model("cnn9"), home.table, home.splits, home.export("cnn9")
    )
    assert all(check.passed for check in checks), checks
    return home


@pytest.fixture(scope="session")
def exported(served) -> Path:
    """The exported file. Read only."""
    return served.export("cnn9") / "model.onnx"
