"""A checkout in which everything is recorded, for tests of what happens around it."""

import json
import shutil

import pytest

from cifar_pipeline.dataset.build import build_table, write_table
from cifar_pipeline.dataset.generated import generate_archive
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.reading import load_params
from cifar_pipeline.summary import SHOWN
from tests.graph.recorded import Recorded
from tests.workspaces import DVC

KEPT = ("params.yaml", "recipes", "data", "dvc.lock")


@pytest.fixture(scope="package")
def recorded(tmp_path_factory):
    """A real archive and table, small files for everything else, and DVC knows them all."""
    copy = Recorded(tmp_path_factory.mktemp("recorded"))
    copy.complete()
    home = Workspace(copy.root)
    source = load_params(home.params).source()
    generate_archive(
        home.archive,
        train_per_class=source.train_per_class,
        test_per_class=source.test_per_class,
        seed=source.seed,
    )
    write_table(build_table(home.archive), home.table)
    for path in copy.root.glob("data/reports/*/metrics.json"):
        path.write_text(json.dumps(dict.fromkeys(SHOWN, 0.5) | {"n": 500, "images": "generated"}))
    copy.dvc("commit", "--force")
    before = copy.root.with_name("before")
    for name in KEPT:
        copied(copy.root / name, before / name)
    return copy, before


@pytest.fixture
def home(recorded, monkeypatch):
    """The workspace of that checkout, which every test finds alike."""
    copy, before = recorded
    monkeypatch.setenv("CIFAR_ROOT", str(copy.root))
    monkeypatch.setenv("CIFAR_DVC", DVC)
    yield Workspace.current()
    for name in KEPT:
        copied(before / name, copy.root / name)


def copied(source, target):
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
