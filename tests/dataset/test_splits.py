import numpy as np
import pyarrow as pa
import pytest

from cifar_pipeline.dataset.build import build_table, write_table
from cifar_pipeline.dataset.splits import (
    archive_of,
    build_splits,
    read_splits,
    split_rows,
    stratified_subset,
    write_splits,
)
from cifar_pipeline.dataset.table import read_table, save_table
from cifar_pipeline.dataset.validation import check_splits, check_table
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.settings.data import Source, SplitSettings

SETTINGS = SplitSettings(validation_fraction=0.2, seed=123)
SOURCE = Source(kind="generated", train_per_class=10, test_per_class=2)


def failing(checks):
    return {check.name for check in checks if not check.passed}


def replaced(table, column, values):
    index = table.schema.get_field_index(column)
    return table.set_column(
        index, table.schema.field(column), pa.array(values, table.schema.field(column).type)
    )


def test_sizes_and_strata(prepared):
    table, splits = read_table(prepared.table), read_table(prepared.splits)
    labels = table["fine_label"].to_numpy()
    for split, per_class in (("train", 8), ("validation", 2), ("test", 2)):
        assert (np.bincount(labels[split_rows(splits, split)], minlength=100) == per_class).all()
    assert failing(check_table(prepared.table, SOURCE)) == set()
    assert failing(check_splits(prepared.table, splits, SETTINGS)) == set()


def test_the_seed_decides(prepared):
    table = read_table(prepared.table)
    other = SplitSettings(validation_fraction=0.2, seed=124)
    assert build_splits(table, SETTINGS).equals(build_splits(table, SETTINGS))
    assert not build_splits(table, SETTINGS).equals(build_splits(table, other))


def test_a_share_that_leaves_a_class_empty_is_refused(prepared):
    with pytest.raises(PipelineError, match="validation_fraction"):
        build_splits(read_table(prepared.table), SplitSettings(validation_fraction=0.01, seed=0))


def test_a_row_in_two_splits_is_found(prepared):
    splits = read_table(prepared.splits)
    rows = splits["row_id"].to_numpy().copy()
    rows[0] = rows[1]
    assert "no_row_in_two_splits" in failing(
        check_splits(prepared.table, replaced(splits, "row_id", rows), SETTINGS)
    )


def test_a_test_row_in_training_is_found(prepared):
    splits = read_table(prepared.splits)
    names = splits["split"].to_pylist()
    names[-1] = "train"
    changed = pa.table(
        {"row_id": splits["row_id"], "split": pa.array(names)}
    ).replace_schema_metadata(splits.schema.metadata)
    assert {"test_is_upstream_test"} <= failing(check_splits(prepared.table, changed, SETTINGS))


def test_identical_images_across_splits_are_counted(make_archive, content, tmp_path):
    """One test image copied from training under another label, one under its own."""
    data = content["test"][b"data"].copy()
    train = content["train"]
    own = train[b"fine_labels"].index(content["test"][b"fine_labels"][0])
    other = next(
        row
        for row, label in enumerate(train[b"fine_labels"])
        if label != content["test"][b"fine_labels"][1]
    )
    data[0], data[1] = train[b"data"][own], train[b"data"][other]
    table = build_table(make_archive(test={b"data": data}))
    write_table(table, tmp_path / "table.parquet")
    check = next(
        check
        for check in check_splits(
            tmp_path / "table.parquet", build_splits(table, SETTINGS), SETTINGS
        )
        if check.name == "identical_across_splits"
    )
    assert not check.passed
    assert check.details["test_images_in_training"] == 2
    assert check.details["of_these_under_another_label"] == 1


@pytest.mark.parametrize(
    ("column", "change", "check"),
    [
        (
            "fine_label",
            lambda values: np.where(values == 99, 98, values),
            {"label_ranges", "class_balance", "hierarchy"},
        ),
        (
            "coarse_label",
            lambda values: np.where(np.arange(len(values)) == 0, (values + 1) % 20, values),
            {"hierarchy"},
        ),
        ("row_id", lambda values: np.where(values == 5, 6, values), {"counts"}),
    ],
)
def test_a_wrong_table_is_found(prepared, tmp_path, column, change, check):
    table = read_table(prepared.table)
    wrong = replaced(table, column, change(table[column].to_numpy()))
    save_table(wrong, tmp_path / "table.parquet")
    assert failing(check_table(tmp_path / "table.parquet", SOURCE)) == check


def test_wrong_counts_and_pixels_are_found(prepared):
    wrong = SOURCE.model_copy(
        update={
            "train_per_class": 11,
            "channel_mean": (0.5, 0.4, 0.4),
            "channel_std": (0.2, 0.2, 0.2),
        }
    )
    assert failing(check_table(prepared.table, wrong)) == {
        "counts",
        "class_balance",
        "pixel_statistics",
    }


def test_every_failed_check_says_what_was_found_the_limit_and_the_repair(prepared):
    table, splits = prepared.table, read_table(prepared.splits)
    wrong = SOURCE.model_copy(update={"train_per_class": 11})
    checks = check_table(table, wrong) + check_splits(table, splits, SETTINGS)
    assert all(check.found and check.limit and check.repair for check in checks)
    assert checks[0].message("Rows are counted.") == (
        "counts: Rows are counted. Found 1,000 training and 200 test images, with row ids that "
        "count up, expected 1,100 and 200, with row ids that count up from 0. " + checks[0].repair
    )


def test_a_subset_is_stratified_and_seeded():
    labels = np.repeat(np.arange(100), 8)
    rows = np.arange(800) + 1000
    subset = stratified_subset(rows, labels, 3, seed=1)
    assert (np.bincount(labels[subset - 1000]) == 3).all()
    assert np.array_equal(subset, stratified_subset(rows, labels, 3, seed=1))
    assert not np.array_equal(subset, stratified_subset(rows, labels, 3, seed=2))
    with pytest.raises(PipelineError, match="asks for 9 images a class, class 0 has 8"):
        stratified_subset(rows, labels, 9, seed=1)


def test_a_flipped_bit_is_told_or_changes_nothing(prepared, tmp_path):
    """Nothing else than our own error, and never other splits."""
    path = tmp_path / "splits.parquet"
    write_splits(read_splits(prepared.splits), path)
    whole, splits = path.read_bytes(), read_splits(path)
    told = 0
    for place in range(0, len(whole), 23):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        path.write_bytes(flipped)
        try:
            read = read_splits(path)
        except PipelineError:
            told += 1
        else:
            assert read.equals(splits) or archive_of(read) != archive_of(splits)
    assert told > 0.8 * len(whole) / 23
