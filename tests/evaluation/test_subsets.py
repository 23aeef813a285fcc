import hashlib

import cv2
import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from cifar_pipeline.dataset.table import read_table, save_table
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.evaluation import duplicates
from cifar_pipeline.evaluation.duplicates import (
    NEIGHBOURS,
    SIMILAR,
    find_duplicates,
    similarity_bands,
    unique_test_rows,
)
from cifar_pipeline.evaluation.subsets import find_subsets, read_list
from cifar_pipeline.settings.data import UPSTREAM_SHA256, PublishedList, SubsetSettings

TRAIN, TEST = 40, 8


def scene(seed):
    """An image that resembles no other; as in a photograph, the finer the detail the less of it."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.normal(0, 150 / size, (size, size, 3)).astype(np.float32), (40, 40))
        for size in (3, 6, 12, 24)
    ]
    return np.clip(128 + sum(layers), 0, 255).astype(np.uint8)[4:36, 4:36]


def darker(image):
    return (image * 0.8).astype(np.uint8)


def shifted(image):
    return np.roll(image, (1, -2), axis=(0, 1))


@pytest.fixture
def images():
    """40 training and 8 test images, of which 40 to 43 and 45 are near-duplicates."""
    images = np.stack([scene(seed) for seed in range(TRAIN + TEST)])
    images[40] = images[0]
    images[41] = darker(images[1])
    images[42] = shifted(images[2])
    images[43] = images[3][:, ::-1]
    images[45] = darker(shifted(images[44]))
    return images


@pytest.fixture
def table(images, tmp_path):
    return table_of(images, tmp_path / "table.parquet")


def table_of(images, path, row_group=10):
    """Row groups are small, so that near-duplicates lie in different ones."""
    content = {
        "upstream_split": pa.array(["train"] * TRAIN + ["test"] * TEST),
        "image": pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(3072), len(images), [None, pa.py_buffer(images.tobytes())]
        ),
    }
    save_table(pa.table(content), path, row_group_size=row_group)
    return path


def test_copies_are_found_as_they_are_darker_shifted_and_mirrored(table):
    found = {
        (row["row_id"], row["other_row_id"]): row for row in find_duplicates(table).to_pylist()
    }
    assert set(found) == {(40, 0), (41, 1), (42, 2), (43, 3), (45, 44)}
    assert [found[pair]["identical"] for pair in sorted(found)] == [
        True,
        False,
        False,
        False,
        False,
    ]
    assert [found[pair]["mirrored"] for pair in sorted(found)] == [False, False, False, True, False]
    assert found[45, 44]["other_split"] == "test"
    assert found[40, 0]["similarity"] == 1
    assert all(row["similarity"] >= SIMILAR for row in found.values())


def test_one_of_two_test_images_stays(table):
    unique = unique_test_rows(find_duplicates(table), np.arange(40, 48))
    assert np.arange(40, 48)[unique].tolist() == [44, 46, 47]


def test_identical_images_are_found_whatever_they_show(images, tmp_path):
    """Images without any detail have no correlation to speak of."""
    images[[5, 46, 47]] = 200
    found = find_duplicates(table_of(images, tmp_path / "table.parquet"))
    pairs = {(row["row_id"], row["other_row_id"]) for row in found.to_pylist() if row["identical"]}
    assert pairs == {(40, 0), (46, 5), (47, 5), (47, 46)}


@pytest.mark.parametrize(("row_group", "at_once"), [(48, (8, 8)), (7, (3, 2))])
def test_how_much_is_in_memory_changes_nothing(images, tmp_path, monkeypatch, row_group, at_once):
    expected = find_duplicates(table_of(images, tmp_path / "one.parquet"))
    monkeypatch.setattr(duplicates, "TEST_IMAGES", at_once[0])
    monkeypatch.setattr(duplicates, "TEST_BATCH", at_once[1])
    assert find_duplicates(table_of(images, tmp_path / "other.parquet", row_group)) == expected


def test_of_many_similar_images_the_most_similar_are_found(images, tmp_path):
    """More than are compared in detail, in all row groups."""
    rng = np.random.default_rng(0)
    for row in range(TRAIN):
        noise = rng.normal(0, row / 8, images[47].shape)
        images[row] = np.clip(images[47] + noise, 0, 255).astype(np.uint8)
    found = find_duplicates(table_of(images, tmp_path / "table.parquet")).to_pandas()
    others = found.loc[(found["row_id"] == 47) & ~found["mirrored"], "other_row_id"]
    assert set(range(10)) <= set(others)
    assert len(others) <= NEIGHBOURS


def test_every_band_of_similarity_has_its_pairs(table):
    bands = similarity_bands(table, find_duplicates(table), pairs=3)
    assert [label.split(":")[0] for label, _ in bands] == [
        "0.6 to 0.7",
        "0.7 to 0.8",
        "0.8 to 0.9",
        "0.9 to 1.0",
    ]
    assert all(strip.shape == (64, 96, 3) for _, strip in bands)
    assert sum(int(label.split(": ")[1].split()[0]) for label, _ in bands) == 5


@pytest.fixture
def upstream_table(prepared, tmp_path):
    """The small table, said to have upstream's row order."""
    table = read_table(prepared.table)
    metadata = {**table.schema.metadata, b"archive_sha256": UPSTREAM_SHA256.encode()}
    save_table(table.replace_schema_metadata(metadata), tmp_path / "upstream.parquet")
    return tmp_path / "upstream.parquet"


def listed(folder, text):
    (folder / "list").write_text(text)
    return PublishedList(path="list", sha256=hashlib.sha256(text.encode()).hexdigest())


@pytest.mark.parametrize("text", ["[0, 10000]", "a", "[1.5]", "[[1]]", "{}", ""])
def test_what_is_not_a_list_of_indices_is_refused(tmp_path, text):
    with pytest.raises(PipelineError, match="is not a list of row indices"):
        read_list(tmp_path, listed(tmp_path, text), UPSTREAM_SHA256, 10_000)


def test_a_list_needs_upstreams_row_order(tmp_path):
    found = listed(tmp_path, "[1]")
    with pytest.raises(PipelineError, match="which the archive 0123 does not have"):
        read_list(tmp_path, found, "0123", 10_000)
    with pytest.raises(PipelineError, match="cannot be read"):
        read_list(tmp_path / "none", found, UPSTREAM_SHA256, 10_000)
    (tmp_path / "list").write_text("[2]")
    with pytest.raises(PipelineError, match=f"expects {found.sha256}; correct either"):
        read_list(tmp_path, found, UPSTREAM_SHA256, 10_000)


def test_the_subset_that_is_found_keeps_its_name():
    with pytest.raises(ValidationError, match="give the list another name, such as `cifair`"):
        SubsetSettings(lists={"duplicates": PublishedList(path="a", sha256="b")})


@pytest.mark.parametrize("text", ["[0, 3]", "0\n3  # a comment\n\n"])
def test_a_published_list_is_a_subset_more(upstream_table, tmp_path, text):
    found = find_subsets(upstream_table, {"label_errors": listed(tmp_path, text)}, tmp_path)
    rows, member = (
        found.membership[name].to_numpy(zero_copy_only=False)
        for name in ("row_id", "no_label_errors")
    )
    assert rows[~member].tolist() == [1000, 1003]
    assert found.counts["in_no_label_errors"] == found.summary["in_no_label_errors"] == 198


def test_a_list_that_leaves_no_image_is_refused(upstream_table, tmp_path):
    lists = {"label_errors": listed(tmp_path, str(list(range(200))))}
    with pytest.raises(PipelineError, match="no test image is left in the subset no_label_errors"):
        find_subsets(upstream_table, lists, tmp_path)
