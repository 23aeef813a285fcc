import numpy as np
import pyarrow as pa
import pytest

from cifar_pipeline.dataset.stored import StoredImages, identical_images
from cifar_pipeline.dataset.table import pixels, read_table, save_table
from cifar_pipeline.errors import PipelineError


@pytest.fixture
def in_groups(prepared, tmp_path):
    """The images of the small table in row groups of 500, 500 and 200; rows 3 and 1100 are equal,
    and so are 4, 5 and 700."""
    images = pixels(read_table(prepared.table)).copy()
    images[1100], images[[5, 700]] = images[3], images[4]
    column = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(3072), len(images), [None, pa.py_buffer(images)]
    )
    save_table(pa.table({"image": column}), tmp_path / "images.parquet", row_group_size=500)
    return images, tmp_path / "images.parquet"


def test_images_are_read_row_group_by_row_group(in_groups):
    images, path = in_groups
    stored = StoredImages(path)
    blocks = list(stored)
    assert [(first, len(block)) for first, block in blocks] == [(0, 500), (500, 500), (1000, 200)]
    assert len(stored) == 3
    assert np.array_equal(np.concatenate([block for _, block in blocks]), images)


@pytest.mark.parametrize("rows", [[], [1199, 0, 500, 499, 500], [7], range(1200)])
def test_images_are_taken_in_the_order_of_their_rows(in_groups, rows):
    images, path = in_groups
    rows = np.array(rows, int)
    assert np.array_equal(StoredImages(path).take(rows), images[rows])


def test_identical_images_are_found_in_all_row_groups(in_groups):
    groups = identical_images(StoredImages(in_groups[1]))
    assert sorted(group.tolist() for group in groups) == [[3, 1100], [4, 5, 700]]


def test_a_file_that_is_missing_or_damaged_is_one_message(in_groups, tmp_path):
    path = in_groups[1]
    with pytest.raises(PipelineError, match="is missing; materialize"):
        StoredImages(tmp_path / "none.parquet")
    save_table(pa.table({"label": [1]}), tmp_path / "other.parquet")
    with pytest.raises(PipelineError, match="it has no column image"):
        StoredImages(tmp_path / "other.parquet")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(PipelineError, match="is damaged"):
        list(StoredImages(path))
