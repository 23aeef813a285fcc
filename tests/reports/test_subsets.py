import json

import numpy as np
import pytest

from cifar_pipeline.dataset.splits import archive_of
from cifar_pipeline.dataset.table import read_table
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.evaluation.subsets import SUMMARY_KEYS, read_subsets
from cifar_pipeline.reports.subsets import write_subsets

TEST_ROWS = np.arange(1000, 1200)


def test_the_same_table_gives_the_same_bytes(prepared, subsets, tmp_path):
    write_subsets(prepared.table, {}, tmp_path, tmp_path / "again")
    names = sorted(path.name for path in subsets.iterdir())
    assert names == ["contact_sheet.png", "duplicates.parquet", "subsets.parquet", "summary.json"]
    for name in names:
        assert (subsets / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_what_was_written_is_read(prepared, subsets):
    found = read_subsets(subsets, TEST_ROWS, archive_of(read_table(prepared.table)))
    summary = json.loads((subsets / "summary.json").read_text())
    assert found["no_duplicates"].sum() == summary["in_no_duplicates"]
    assert set(SUMMARY_KEYS) <= set(summary)


def test_subsets_of_other_images_are_refused(prepared, subsets):
    with pytest.raises(PipelineError, match="materialize `test_subsets` again"):
        read_subsets(subsets, TEST_ROWS, "another archive")
    with pytest.raises(PipelineError, match="materialize `test_subsets` again"):
        read_subsets(subsets, TEST_ROWS[1:], archive_of(read_table(prepared.table)))


def test_a_table_that_fails_leaves_the_folder_as_it_was(prepared, tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "kept").touch()
    with pytest.raises(PipelineError, match=r"none\.parquet"):
        write_subsets(tmp_path / "none.parquet", {}, tmp_path, tmp_path / "s")
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["kept"]
