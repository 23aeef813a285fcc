"""A workspace with everything that the page shows, made without training anything."""

import io
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cifar_pipeline.artifacts import write_json
from cifar_pipeline.dataset.classes import Classes
from cifar_pipeline.dataset.splits import archive_of
from cifar_pipeline.dataset.table import pixels, read_table
from cifar_pipeline.evaluation.duplicates import SCHEMA
from cifar_pipeline.models.saved import Labels
from cifar_pipeline.paths import Workspace
from tests.app.networks import write_neighbours, write_network
from tests.reports.artefacts import THREE_IN_FOUR, write_model, write_predicted

RED, GREEN, BLUE, DARK = (220, 20, 20), (20, 220, 20), (20, 20, 220), (5, 5, 5)
DUPLICATES = [(1003, 7, "train", 0.97, False, True), (1001, 5, "train", 0.8, False, False)]


def photograph(colour, kind="PNG", size=(40, 30)) -> bytes:
    """A file of one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="session")
def everything(prepared, tmp_path_factory) -> Workspace:
    """Two exported models, `first` and `second`, and the predictions of the first. Read only."""
    home = Workspace(tmp_path_factory.mktemp("page"))
    home.data.mkdir()
    for name in ("table", "splits"):
        (home.data / name).symlink_to(prepared.data / name)
    table = read_table(home.table)
    classes = Classes.of(table, "fine")
    labels = Labels(classes.names, classes.coarse_names, classes.coarse_of.tolist())
    for name, colours in (
        ("first", {0: "generated_03", 1: "generated_10", 2: "generated_20"}),
        ("second", {0: "generated_44", 1: "generated_50", 2: "generated_61"}),
    ):
        model = write_network(home.export(name) / "model.onnx", labels, colours)
        write_neighbours(model, np.arange(200), pixels(table)[:200])
    home.all_predictions.mkdir()
    write_predicted(
        home.predictions("first"),
        archive_of(table),
        table["fine_label"].to_numpy()[1000:],
        THREE_IN_FOUR,
    )
    home.model("first").parent.mkdir()
    write_model(home.model("first"))
    home.test_subsets.mkdir()
    columns = zip(*DUPLICATES, strict=True)
    duplicates = pa.table(dict(zip(SCHEMA.names, map(list, columns), strict=True)), schema=SCHEMA)
    pq.write_table(duplicates, home.test_subsets / "duplicates.parquet")
    return home


@pytest.fixture
def home(everything, tmp_path, monkeypatch) -> Workspace:
    """A copy that a test may change, with its table linked, as the current workspace."""
    copy = Workspace(tmp_path / "workspace")
    shutil.copytree(everything.root, copy.root, symlinks=True)
    monkeypatch.setenv("CIFAR_ROOT", str(copy.root))
    return copy


@pytest.fixture
def empty(tmp_path, monkeypatch) -> Workspace:
    """A workspace in which nothing was made yet, as the current one."""
    monkeypatch.setenv("CIFAR_ROOT", str(tmp_path))
    return Workspace(tmp_path)


def write_board(home: Workspace) -> None:
    """A leaderboard's table, and the report that it is of; the pictures take seconds."""
    from cifar_pipeline.reports.standings import COLUMNS

    row = dict.fromkeys(COLUMNS, 0.5) | {
        "model": "first",
        "classes": 100,
        "n": 200,
        "parameters": 12,
        "weights": "none",
        "profile": "smoke",
        "seeds": 1,
    }
    home.leaderboard.mkdir()
    (home.leaderboard / "leaderboard.csv").write_text(
        ",".join(row) + "\n" + ",".join(map(str, row.values())) + "\n"
    )
    write_json(home.leaderboard / "metrics.json", {"top1": {"first": 0.5}, "nll": {"first": 0.5}})
    home.report("first").mkdir(parents=True)
    write_json(home.report("first") / "metrics.json", {"top1": 0.5, "nll": 0.5})
