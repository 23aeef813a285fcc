"""What must be true of the archive, the table and the splits.

Each function returns checks; who calls it decides what they block.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa

from cifar_pipeline.checks import Check
from cifar_pipeline.dataset.packed import MEMBERS, describe, read_members
from cifar_pipeline.dataset.splits import SPLITS, archive_of
from cifar_pipeline.dataset.stored import StoredImages, identical_images
from cifar_pipeline.dataset.table import COARSE, FINE, read_labels
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.settings.data import Source, SplitSettings

TOLERANCE = 5e-4
"""Of channel means and deviations, fractions of 1 that the settings give with five digits."""

OTHER_ARCHIVE = (
    "The archive is not the one that `sources` in params.yaml describes. Unset CIFAR_ARCHIVE and "
    "CIFAR_ARCHIVE_SHA256, or set them to a copy of upstream's, and materialize `archive` again."
)
SPLIT_AGAIN = "Materialize `splits` again, with `dvc repro -f splits` or in the Dagster UI."


def check_archive(archive: Path) -> Check:
    """That the file is an archive, whole, with CIFAR-100's three members."""
    details = {"bytes": archive.stat().st_size}
    limit = f"a tar archive, gzipped or not, of {', '.join(MEMBERS)}"
    try:
        for _ in read_members(archive):
            pass
    except PipelineError as error:
        kind, repair = describe(archive)
        found = f"{kind}, of which {error}" if kind else f"a file of which {error}"
        repair = f"{repair[0].upper()}{repair[1:]}." if repair else OTHER_ARCHIVE
        return Check("readable", False, details, found, limit, repair)
    return Check("readable", True, details, f"an archive of {', '.join(MEMBERS)}", limit)


def check_table(path: Path, source: Source) -> list[Check]:
    """Counts, label ranges, hierarchy, class balance and pixel statistics of the whole table.

    Args:
        path: of the table's Parquet file.
    """
    table = read_labels(path)
    train = np.asarray(table["upstream_split"].to_pandas() == "train")
    fine, coarse = table["fine_label"].to_numpy(), table["coarse_label"].to_numpy()
    rows = {"train": int(train.sum()), "test": int((~train).sum())}
    expected = {"train": FINE * source.train_per_class, "test": FINE * source.test_per_class}
    numbered = bool(np.array_equal(table["row_id"].to_numpy(), np.arange(table.num_rows)))
    per_class = {
        name: np.bincount(fine[mask], minlength=FINE)
        for name, mask in (("train", train), ("test", ~train))
    }
    balanced = all((per_class[name] == expected[name] // FINE).all() for name in per_class)
    ranges = {
        name: f"{counts.min()}" + (f" to {counts.max()}" if np.ptp(counts) else "")
        for name, counts in per_class.items()
    }
    pairs = np.unique(np.stack([fine, coarse], axis=1), axis=0)
    sizes = np.bincount(pairs[:, 1], minlength=COARSE)
    classes = len(np.unique(pairs[:, 0]))
    hierarchical = len(pairs) == classes == FINE and bool((sizes == FINE // COARSE).all())
    return [
        Check(
            "counts",
            rows == expected and numbered,
            {"rows": rows, "expected": expected},
            f"{rows['train']:,} training and {rows['test']:,} test images, with row ids that "
            + ("count up" if numbered else "do not count up"),
            f"{expected['train']:,} and {expected['test']:,}, with row ids that count up from 0",
            OTHER_ARCHIVE,
        ),
        Check(
            "label_ranges",
            int(fine.max()) == FINE - 1 and int(coarse.max()) == COARSE - 1,
            {"fine": int(fine.max()) + 1},
            f"fine labels up to {fine.max()} and coarse labels up to {coarse.max()}",
            f"{FINE - 1} and {COARSE - 1}",
            OTHER_ARCHIVE,
        ),
        Check(
            "hierarchy",
            hierarchical,
            {"fine_per_coarse": sizes.tolist()},
            f"{classes} fine classes in {len(pairs)} pairs with a superclass, {sizes.min()} to "
            f"{sizes.max()} a superclass",
            f"{FINE} fine classes in {FINE} pairs, {FINE // COARSE} a superclass",
            OTHER_ARCHIVE,
        ),
        Check(
            "class_balance",
            balanced,
            ranges,
            f"{ranges['train']} training and {ranges['test']} test images a class",
            f"{source.train_per_class} and {source.test_per_class}",
            OTHER_ARCHIVE,
        ),
        _pixel_statistics(StoredImages(path), train, source),
    ]


def _pixel_statistics(images: StoredImages, train: np.ndarray, source: Source) -> Check:
    # Through the histogram of the 256 values: exact, and without a float copy of all pixels.
    counts = np.zeros((3, 256), np.int64)
    for first, block in images:
        seen = block[train[first : first + len(block)]]
        for channel in range(3):
            counts[channel] += np.bincount(seen[..., channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    mean = counts @ values / counts.sum(axis=1)
    std = np.sqrt(counts @ values**2 / counts.sum(axis=1) - mean**2)
    details = {"mean": mean.round(5).tolist(), "std": std.round(5).tolist()}
    found = f"means {details['mean']} and deviations {details['std']}"
    if source.channel_mean is None or source.channel_std is None:
        varied = bool((std > 0.05).all())
        return Check(
            "pixel_statistics", varied, details, found, "deviations above 0.05", OTHER_ARCHIVE
        )
    wanted_mean, wanted_std = list(source.channel_mean), list(source.channel_std)
    right = np.allclose(mean, wanted_mean, rtol=0, atol=TOLERANCE) and np.allclose(
        std, wanted_std, rtol=0, atol=TOLERANCE
    )
    return Check(
        "pixel_statistics",
        right,
        details | {"expected_mean": wanted_mean},
        found,
        f"means {wanted_mean} and deviations {wanted_std}, each within {TOLERANCE:g}",
        OTHER_ARCHIVE,
    )


def check_splits(path: Path, splits: pa.Table, settings: SplitSettings) -> list[Check]:
    """One split a row, test sealed, stratified; identical images are counted, not refused.

    Args:
        path: of the table's Parquet file.
    """
    table = read_labels(path)
    rows, split = splits["row_id"].to_numpy(), np.asarray(splits["split"].to_pandas())
    fine = table["fine_label"].to_numpy()
    upstream_test = np.flatnonzero(table["upstream_split"].to_pandas() == "test")
    test_rows = np.sort(rows[split == "test"])
    distinct = len(np.unique(rows))
    per_class = {name: np.bincount(fine[rows[split == name]], minlength=FINE) for name in SPLITS}
    wanted = (per_class["train"] + per_class["validation"]) * settings.validation_fraction
    deviation = float(np.abs(per_class["validation"] - wanted).max())
    return [
        Check(
            "no_row_in_two_splits",
            len(rows) == table.num_rows == distinct,
            {name: int((split == name).sum()) for name in SPLITS},
            f"{len(rows):,} entries of {distinct:,} different rows",
            f"one entry for each of the table's {table.num_rows:,} rows",
            SPLIT_AGAIN,
        ),
        Check(
            "test_is_upstream_test",
            bool(np.array_equal(test_rows, upstream_test)),
            {},
            f"{len(np.setdiff1d(test_rows, upstream_test)):,} test rows that are not upstream's, "
            f"{len(np.setdiff1d(upstream_test, test_rows)):,} of upstream's missing",
            f"exactly upstream's {len(upstream_test):,} test rows",
            SPLIT_AGAIN,
        ),
        Check(
            "stratified",
            deviation < 1,
            {"validation_per_class": per_class["validation"].tolist()},
            f"a class whose validation images differ by {deviation:.1f} from its share",
            f"{settings.validation_fraction:.1%} of each class, to less than one image",
            SPLIT_AGAIN,
        ),
        Check(
            "same_archive",
            archive_of(splits) == archive_of(table),
            {"archive_sha256": archive_of(splits)},
            f"splits of the archive {archive_of(splits):.12}",
            f"the table's, {archive_of(table):.12}",
            SPLIT_AGAIN,
        ),
        _identical_images(identical_images(StoredImages(path)), fine, split),
    ]


def _identical_images(groups: list[np.ndarray], fine: np.ndarray, split: np.ndarray) -> Check:
    """Pixel-identical images in different splits.

    An accuracy on them is too good, or, where they have another label, too bad.
    """
    counts: dict[str, int] = {
        "groups": 0,
        "test_images_in_training": 0,
        "of_these_under_another_label": 0,
        "validation_images_in_train": 0,
    }
    for rows in groups:
        counts["groups"] += 1
        training = [row for row in rows if split[row] != "test"]
        fit = [row for row in rows if split[row] == "train"]
        counts["validation_images_in_train"] += len(fit) > 0 and sum(
            split[row] == "validation" for row in rows
        )
        for row in (row for row in rows if split[row] == "test" and training):
            counts["test_images_in_training"] += 1
            counts["of_these_under_another_label"] += fine[row] not in fine[training]
    in_training, in_train = counts["test_images_in_training"], counts["validation_images_in_train"]
    return Check(
        "identical_across_splits",
        in_training == in_train == 0,
        counts,
        f"{in_training} test images that are also training images, {in_train} validation images "
        "that are also in train",
        "none; CIFAR-100 itself has some",
        "Compare the accuracy without near-duplicates, which every report gives.",
    )
