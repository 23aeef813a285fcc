"""What must be true of the table and the splits. Each function returns checks; who calls it decides what they block."""

import numpy as np
import pyarrow as pa

from cifar_pipeline.checks import Check
from cifar_pipeline.dataset.splits import SPLITS, archive_of
from cifar_pipeline.dataset.table import COARSE, FINE, pixels
from cifar_pipeline.settings.data import Source, SplitSettings

TOLERANCE = 5e-4
"""Of channel means and deviations, which the settings give with five digits."""


def check_table(table: pa.Table, source: Source) -> list[Check]:
    """Counts, label ranges, hierarchy, class balance and pixel statistics of the whole table."""
    train = np.asarray(table["upstream_split"].to_pandas() == "train")
    fine, coarse = table["fine_label"].to_numpy(), table["coarse_label"].to_numpy()
    rows = {"train": int(train.sum()), "test": int((~train).sum())}
    expected = {"train": FINE * source.train_per_class, "test": FINE * source.test_per_class}
    unique_rows = bool(np.array_equal(table["row_id"].to_numpy(), np.arange(table.num_rows)))
    per_class = {
        name: np.bincount(fine[mask], minlength=FINE)
        for name, mask in (("train", train), ("test", ~train))
    }
    balanced = all((per_class[name] == expected[name] // FINE).all() for name in per_class)
    pairs = np.unique(np.stack([fine, coarse], axis=1), axis=0)
    sizes = np.bincount(pairs[:, 1], minlength=COARSE)
    hierarchical = len(pairs) == len(np.unique(pairs[:, 0])) == FINE and bool(
        (sizes == FINE // COARSE).all()
    )
    return [
        Check("counts", rows == expected and unique_rows, {"rows": rows, "expected": expected}),
        Check(
            "label_ranges",
            int(fine.max()) == FINE - 1 and int(coarse.max()) == COARSE - 1,
            {"fine": int(fine.max()) + 1},
        ),
        Check("hierarchy", hierarchical, {"fine_per_coarse": sizes.tolist()}),
        Check(
            "class_balance",
            balanced,
            {name: f"{counts.min()}..{counts.max()}" for name, counts in per_class.items()},
        ),
        _pixel_statistics(pixels(table)[train], source),
    ]


def _pixel_statistics(images: np.ndarray, source: Source) -> Check:
    # Through the histogram of the 256 values: exact, and without a float copy of all pixels.
    counts = np.stack(
        [np.bincount(images[..., channel].ravel(), minlength=256) for channel in range(3)]
    )
    values = np.arange(256) / 255
    mean = counts @ values / counts.sum(axis=1)
    std = np.sqrt(counts @ values**2 / counts.sum(axis=1) - mean**2)
    details = {"mean": mean.round(5).tolist(), "std": std.round(5).tolist()}
    if source.channel_mean is None or source.channel_std is None:
        return Check("pixel_statistics", bool((std > 0.05).all()), details)
    right = np.allclose(mean, source.channel_mean, atol=TOLERANCE) and np.allclose(
        std, source.channel_std, atol=TOLERANCE
    )
    return Check("pixel_statistics", right, details | {"expected_mean": list(source.channel_mean)})


def check_splits(table: pa.Table, splits: pa.Table, settings: SplitSettings) -> list[Check]:
    """One split a row, test sealed, stratified; identical images across splits are counted, not refused."""
    rows, split = splits["row_id"].to_numpy(), np.asarray(splits["split"].to_pandas())
    fine = table["fine_label"].to_numpy()
    upstream_test = np.asarray(table["upstream_split"].to_pandas() == "test")
    once = len(rows) == table.num_rows and len(np.unique(rows)) == len(rows)
    per_class = {name: np.bincount(fine[rows[split == name]], minlength=FINE) for name in SPLITS}
    train_images = per_class["train"] + per_class["validation"]
    wanted = train_images * settings.validation_fraction
    return [
        Check("no_row_in_two_splits", once, {name: int((split == name).sum()) for name in SPLITS}),
        Check(
            "test_is_upstream_test",
            bool(np.array_equal(np.sort(rows[split == "test"]), np.flatnonzero(upstream_test))),
        ),
        Check(
            "stratified",
            bool((np.abs(per_class["validation"] - wanted) < 1).all()),
            {"validation_per_class": per_class["validation"].tolist()},
        ),
        Check(
            "same_archive",
            archive_of(splits) == archive_of(table),
            {"archive_sha256": archive_of(splits)},
        ),
        _identical_images(table, split),
    ]


def _identical_images(table: pa.Table, split: np.ndarray) -> Check:
    """Pixel-identical images in different splits: an estimate on them is too good, or, under another label, too bad."""
    images, fine = pixels(table).reshape(table.num_rows, -1), table["fine_label"].to_numpy()
    keys = images.view(f"V{images.shape[1]}").ravel()
    groups: dict[bytes, list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault(key.tobytes(), []).append(row)
    counts: dict[str, int] = {
        "groups": 0,
        "test_images_in_training": 0,
        "of_these_under_another_label": 0,
        "validation_images_in_train": 0,
    }
    for rows in (rows for rows in groups.values() if len(rows) > 1):
        counts["groups"] += 1
        training = [row for row in rows if split[row] != "test"]
        fit = [row for row in rows if split[row] == "train"]
        counts["validation_images_in_train"] += len(fit) > 0 and sum(
            split[row] == "validation" for row in rows
        )
        for row in (row for row in rows if split[row] == "test" and training):
            counts["test_images_in_training"] += 1
            counts["of_these_under_another_label"] += fine[row] not in fine[training]
    return Check(
        "identical_across_splits",
        counts["test_images_in_training"] == counts["validation_images_in_train"] == 0,
        counts,
    )
