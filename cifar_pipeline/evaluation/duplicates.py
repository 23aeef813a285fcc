"""Test images that are identical or nearly identical to a training image, or to another test image.

Barz and Denzler (2020, arXiv:1902.00423, ciFAIR) found 891 and 104 of them in CIFAR-100 by hand.
Here they are found by a similarity, in two steps. The first chooses which pairs to compare: for
each test image, the images that correlate most with it at 8×8 pixels, both as it is and mirrored.
The second compares each pair after blur and contrast have been removed, so that two sunsets do not
count as one: the largest normalised cross-correlation of the middle of one image with the other,
over shifts of up to 4 pixels.
"""

import itertools
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pyarrow as pa

from cifar_pipeline.dataset.table import pixels
from cifar_pipeline.evaluation.progress import Steps

SIMILAR = 0.6
"""Chosen by eye on CIFAR-100's contact sheet: from 0.8 up nearly all pairs show one scene, from 0.7
three in four, from 0.6 about half."""
NEIGHBOURS = 20
THUMBNAIL_PIXELS, THUMBNAIL_SIMILAR = 8, 0.7
SHIFT = 4
TEST_BATCH = 500
SCHEMA = pa.schema(
    [
        ("row_id", pa.int32()),
        ("other_row_id", pa.int32()),
        ("other_split", pa.string()),
        ("similarity", pa.float32()),
        ("identical", pa.bool_()),
        ("mirrored", pa.bool_()),
    ]
)


def find_duplicates(table: pa.Table) -> pa.Table:
    """Pairs of near-duplicates that have a test image, at least `SIMILAR` to each other.

    Progress is printed to stderr, since all of CIFAR-100 takes most of a minute on two cores.

    Returns:
        A table of `SCHEMA`: a test image (`row_id`) and the other image (`other_row_id`, of
        upstream's `other_split`), most similar first. Identical images have similarity 1. A pair of
        test images appears once, the larger row id first.
    """
    images = pixels(table)
    is_test = np.asarray(table["upstream_split"].to_pandas() == "test")
    test_rows = np.flatnonzero(is_test)
    batches = range(0, len(test_rows), TEST_BATCH)
    steps = Steps(f"finding near-duplicates of {len(test_rows):,} test images", len(batches) + 1)
    thumbnails, details = _thumbnails(images), _details(images)
    mirrored = _thumbnails(images[test_rows][:, :, ::-1])
    steps.finish_one()
    found: dict[tuple[int, int], tuple[float, bool]] = {}
    with ThreadPoolExecutor() as threads:  # OpenCV releases the interpreter's lock
        for start in batches:
            rows = test_rows[start : start + TEST_BATCH]
            for flip, queries in (
                (False, thumbnails[rows]),
                (True, mirrored[start : start + TEST_BATCH]),
            ):
                pairs = _candidates(rows, queries, thumbnails)
                scores = threads.map(
                    lambda pair, flip=flip: _similarity(details[pair[0]], details[pair[1]], flip),
                    pairs,
                )
                for (row, other), score in zip(pairs, scores, strict=True):
                    key = (max(row, other), min(row, other)) if is_test[other] else (row, other)
                    if score >= SIMILAR and score > found.get(key, (0.0, False))[0]:
                        found[key] = (score, flip)
            steps.finish_one()
    for key in _identical(images, is_test):
        found[key] = (1.0, False)
    identical = [bool((images[row] == images[other]).all()) for row, other in found]
    columns = {
        "row_id": [row for row, _ in found],
        "other_row_id": [other for _, other in found],
        "other_split": ["test" if is_test[other] else "train" for _, other in found],
        "similarity": [score for score, _ in found.values()],
        "identical": identical,
        "mirrored": [flip for _, flip in found.values()],
    }
    return pa.table(columns, schema=SCHEMA).sort_by(
        [("similarity", "descending"), ("row_id", "ascending"), ("other_row_id", "ascending")]
    )


def unique_test_rows(duplicates: pa.Table, test_rows: np.ndarray) -> np.ndarray:
    """(N,) bool, false for near-duplicates of a training image or an earlier test image."""
    return ~np.isin(test_rows, duplicates["row_id"].to_numpy())


def similarity_bands(
    table: pa.Table, duplicates: pa.Table, pairs: int = 14
) -> list[tuple[str, np.ndarray]]:
    """Examples of pairs at rising similarity, for judging the threshold by eye.

    Returns:
        A label and a strip of images for each band of similarity: (64, pairs × 32, 3) uint8, the
        test image above the other one, which is mirrored where that is what makes it similar.
    """
    images, similarity = pixels(table), duplicates["similarity"].to_numpy()
    edges = np.append(np.arange(SIMILAR, 1.0, 0.1), 1.01)
    bands = []
    for low, high in itertools.pairwise(edges):
        band = np.flatnonzero((similarity >= low - 1e-6) & (similarity < high - 1e-6))
        shown = np.random.default_rng(0).permutation(band)[:pairs]
        strip = np.full((64, pairs * 32, 3), 255, np.uint8)
        for place, index in enumerate(shown):
            row, other, flip = (
                duplicates[name][int(index)].as_py()
                for name in ("row_id", "other_row_id", "mirrored")
            )
            below = images[other][:, ::-1] if flip else images[other]
            strip[:, place * 32 : (place + 1) * 32] = np.vstack([images[row], below])
        bands.append((f"{low:.1f} to {min(high, 1):.1f}: {len(band):,} pairs", strip))
    return bands


def _thumbnails(images: np.ndarray) -> np.ndarray:
    """(N, 192) float32 of zero mean and unit length, whose dot products are correlations."""
    size = (THUMBNAIL_PIXELS, THUMBNAIL_PIXELS)
    small = np.stack([cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images])
    vectors = small.reshape(len(images), -1).astype(np.float32)
    vectors -= vectors.mean(axis=1, keepdims=True)
    return vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-6)


def _details(images: np.ndarray) -> np.ndarray:
    """The images without blur and contrast, as uint8 (a quarter of the memory of floats)."""
    details = np.empty_like(images)
    for index, image in enumerate(images):
        detail = image.astype(np.float32)
        detail -= cv2.GaussianBlur(detail, (0, 0), 1.5)
        contrast = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), 4)) + 4
        details[index] = np.rint(np.clip(128 + 40 * detail / contrast, 0, 255))
    return details


def _candidates(
    rows: np.ndarray, queries: np.ndarray, thumbnails: np.ndarray
) -> list[tuple[int, int]]:
    correlation = queries @ thumbnails.T
    correlation[np.arange(len(rows)), rows] = -1  # an image is not its own duplicate
    count = min(NEIGHBOURS, len(thumbnails) - 1)
    nearest = np.argpartition(-correlation, count, axis=1)[:, :count]
    near = np.take_along_axis(correlation, nearest, axis=1) >= THUMBNAIL_SIMILAR
    return [(int(rows[query]), int(nearest[query, place])) for query, place in np.argwhere(near)]


def _similarity(image: np.ndarray, other: np.ndarray, flip: bool) -> float:
    middle = image[SHIFT:-SHIFT, SHIFT:-SHIFT]
    if flip:
        middle = np.ascontiguousarray(middle[:, ::-1])
    correlations = cv2.matchTemplate(other, middle, cv2.TM_CCOEFF_NORMED)
    # Rounded because the last digits differ between machines, and limited because OpenCV gives
    # infinity where nothing varies.
    return round(float(min(correlations.max(), 1.0)), 4)


def _identical(images: np.ndarray, is_test: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of equal images that have a test image, ordered as `find_duplicates` orders a pair."""
    groups: dict[bytes, list[int]] = {}
    for row, image in enumerate(images):
        groups.setdefault(image.tobytes(), []).append(row)
    pairs = []
    for rows in (rows for rows in groups.values() if len(rows) > 1):
        for row in (row for row in rows if is_test[row]):
            pairs += [(row, other) for other in rows if not is_test[other] or other < row]
    return pairs
