import pytest

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.launch import materialize


def test_records_that_dagster_cannot_read_are_said_in_words(tmp_path, monkeypatch):
    """As on a full disk, and where a data base's server does not answer."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    records = tmp_path / "history" / "runs.db"
    records.parent.mkdir()
    records.write_text("no data base, but long enough to be taken for one" * 100)
    with pytest.raises(PipelineError, match=r"written: file is not a database. They are where"):
        materialize([("table",)])
