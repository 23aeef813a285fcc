"""Memory does not grow with the table: what looks at its images reads a part of them at a time."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from cifar_pipeline.dataset.splits import build_splits, write_splits
from cifar_pipeline.dataset.table import ROW_GROUP, save_table
from cifar_pipeline.settings.data import SplitSettings
from tests.workspaces import CHECKOUT

SOURCE = "Source(kind='generated', train_per_class=1, test_per_class=1)"
SETTINGS = "SplitSettings(validation_fraction=0.2, seed=123)"
STAGES = {
    "the checks of the table": f"check_table(table, {SOURCE})",
    "the checks of the splits": f"check_splits(table, read_splits(splits), {SETTINGS})",
    "a small split": "load_images(table, splits, 'test')",
    "near-duplicates": "find_duplicates(table)",
}
SCRIPT = """
import sys
from pathlib import Path
from cifar_pipeline.dataset.splits import read_splits
from cifar_pipeline.dataset.validation import check_splits, check_table
from cifar_pipeline.evaluation.duplicates import find_duplicates
from cifar_pipeline.inputs.batches import load_images
from cifar_pipeline.settings.data import Source, SplitSettings
from tests.serving.cost import peak_megabytes
table, splits = (Path(sys.argv[1], name) for name in ("table.parquet", "splits.parquet"))
{stage}
print(peak_megabytes())
"""
GROUPS = (2, 6)
IMAGES_MB = (GROUPS[1] - GROUPS[0]) * ROW_GROUP * 3072 / 1e6


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Folders with a table of random images, which is of two row groups or of six, and splits."""
    folders = []
    for groups in GROUPS:
        folder = tmp_path_factory.mktemp("table")
        rows = np.arange(groups * ROW_GROUP)
        labels = pa.array((rows % 100).astype(np.uint8))
        images = np.random.default_rng(0).integers(0, 256, (len(rows), 3072), np.uint8)
        table = pa.table(
            {
                "row_id": pa.array(rows.astype(np.int32)),
                "upstream_split": pa.array(np.where(rows < 200, "test", "train")),
                "fine_label": labels,
                "coarse_label": pa.array((rows % 20).astype(np.uint8)),
                "image": pa.FixedSizeBinaryArray.from_buffers(
                    pa.binary(3072), len(rows), [None, pa.py_buffer(images)]
                ),
            }
        )
        save_table(table, folder / "table.parquet", row_group_size=ROW_GROUP, use_dictionary=False)
        settings = SplitSettings(validation_fraction=0.2, seed=123)
        write_splits(build_splits(table, settings), folder / "splits.parquet")
        folders.append(folder)
    return folders


@pytest.mark.nightly
@pytest.mark.parametrize("stage", STAGES)
def test_memory_is_that_of_a_row_group(tables, stage):
    script = SCRIPT.format(stage=STAGES[stage])
    small, large = (
        float(
            subprocess.run(
                [sys.executable, "-c", script, folder],
                cwd=CHECKOUT,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for folder in tables
    )
    assert large - small < IMAGES_MB / 2
