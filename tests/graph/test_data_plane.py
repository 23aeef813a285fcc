"""What a node is handed, without a node."""

import pytest

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.graph import data_plane
from cifar_pipeline.graph.stages import Stage
from cifar_pipeline.paths import Workspace

LOCK = """\
schema: '2.0'
stages:
  table:
    cmd: make table
    outs:
    - path: data/table/t.parquet
      md5: 0123456789abcdef0123456789abcdef
"""


def test_a_node_is_handed_what_people_brought_and_not_what_stages_made(tmp_path):
    home, stage = (
        tmp_path / "home",
        Stage(
            ("photo_predictions", "mine"),
            (),
            inputs=("data/photographs/mine", "data/table/t.parquet"),
        ),
    )
    for name in (*stage.inputs[:1], "data/table", ".dvc", "data/plan"):
        (home / name).mkdir(parents=True)
    (home / "dvc.lock").write_text(LOCK)
    (home / ".dvc" / "config.local").write_text("secret")
    (home / "data/photographs/mine/a.jpg").write_bytes(b"a")
    (home / "data/table/t.parquet").write_bytes(b"t")
    (home / ".dvc/config").write_text("")
    folder = tmp_path / "handed over"
    data_plane.pack(Workspace(home), stage, folder)
    assert (folder / "data/photographs/mine/a.jpg").read_bytes() == b"a"
    assert (folder / "dvc.lock").read_text() == LOCK
    assert not (folder / "data/table").exists()
    assert "secret" not in (folder / ".dvc/config.local").read_text()


def test_another_value_of_the_variable_is_an_error(monkeypatch):
    monkeypatch.setenv(data_plane.VARIABLE, "DVC")
    with pytest.raises(PipelineError, match="CIFAR_DATA_PLANE is `DVC`; it is `dvc`, or unset"):
        data_plane.is_dvc()


def test_dvc_repro_is_refused(monkeypatch):
    monkeypatch.setenv("DVC_STAGE", "table")
    with pytest.raises(PipelineError, match="use `cifar run`"):
        data_plane.check_driver()
