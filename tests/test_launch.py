import os
import subprocess

import pytest

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.launch import materialize
from tests.workspaces import JOB


def test_records_that_dagster_cannot_read_are_said_in_words(tmp_path, monkeypatch):
    """As on a full disk, and where a data base's server does not answer."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    records = tmp_path / "history" / "runs.db"
    records.parent.mkdir()
    records.write_text("no data base, but long enough to be taken for one" * 100)
    with pytest.raises(PipelineError, match=r"written: file is not a database. They are where"):
        materialize([("table",)])


def said_by_job(root):
    home = {"CIFAR_ROOT": str(root), "DAGSTER_HOME": str(root)}
    done = subprocess.run(
        (*JOB, "table_job"), env=os.environ | home, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


def test_settings_that_are_refused_are_said_in_words_by_dagsters_command(tmp_path):
    (tmp_path / "params.yaml").write_text("profile: [")
    assert f"Error: {tmp_path / 'params.yaml'} is not YAML" in said_by_job(tmp_path)


def test_what_the_machine_refuses_before_the_first_step_is_said_in_words(params_file, tmp_path):
    (tmp_path / "data").write_text("where a folder has to be")
    assert "data: File exists; a file is where a folder has to be" in said_by_job(tmp_path).replace(
        "'", ""
    )
