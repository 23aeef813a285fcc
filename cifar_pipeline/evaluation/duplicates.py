"""Test images that are identical or nearly identical to a training image, or to another test image.

Barz and Denzler (2020, arXiv:1902.00423, ciFAIR) found 891 and 104 of them in CIFAR-100 by hand.
Here they are found by a similarity, in two steps. The first chooses which pairs to compare: for
each test image, the images that correlate most with it at 8×8 pixels, both as it is and mirrored.
The second compares each pair after blur and contrast have been removed, so that two sunsets do not
count as one: the largest normalised cross-correlation of the middle of one image with the other,
over shifts of up to 4 pixels.
"""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa

from cifar_pipeline.dataset.stored import StoredImages, identical_images
from cifar_pipeline.dataset.table import read_table
from cifar_pipeline.evaluation.progress import Steps

SIMILAR = 0.6
"""Chosen by eye on CIFAR-100's contact sheet: from 0.8 up nearly all pairs show one scene, from 0.7
three in four, from 0.6 about half."""
NEIGHBOURS = 20
THUMBNAIL_PIXELS, THUMBNAIL_SIMILAR = 8, 0.7
SHIFT = 4
TEST_IMAGES, TEST_BATCH = 10_000, 500
"""Test images for which the table is read once more, and those that are compared at a time. They
bound the memory."""
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


def find_duplicates(table: Path) -> pa.Table:
    """Pairs of near-duplicates that have a test image, at least `SIMILAR` to each other.

    Every test image is compared with every image, so that the time grows with the product of their
    numbers (benchmarks/results/growth.md). Progress is printed to stderr, since all of CIFAR-100
    takes most of a minute on two cores.

    Args:
        table: Parquet file of the data set.

    Returns:
        A table of `SCHEMA`: a test image (`row_id`) and the other image (`other_row_id`, of
        upstream's `other_split`), most similar first. Identical images have similarity 1. A pair of
        test images appears once, the larger row id first.
    """
    images, is_test = StoredImages(table), _is_test(table)
    test_rows = np.flatnonzero(is_test)
    parts = [test_rows[at : at + TEST_IMAGES] for at in range(0, len(test_rows), TEST_IMAGES)]
    steps = Steps(
        f"finding near-duplicates of {len(test_rows):,} test images", 2 * len(images) * len(parts)
    )
    found: dict[tuple[int, int], tuple[float, bool]] = {}
    for rows in parts:
        for row, other, score, flip in _similar(rows, images, steps):
            key = (max(row, other), min(row, other)) if is_test[other] else (row, other)
            # Of equal scores the unmirrored one, whichever was found first.
            if (score, not flip) > found.get(key, (0.0, False)):
                found[key] = (score, not flip)
    identical = set(_identical(images, is_test))
    found |= dict.fromkeys(identical, (1.0, True))
    columns = {
        "row_id": [row for row, _ in found],
        "other_row_id": [other for _, other in found],
        "other_split": ["test" if is_test[other] else "train" for _, other in found],
        "similarity": [score for score, _ in found.values()],
        "identical": [pair in identical for pair in found],
        "mirrored": [not as_it_is for _, as_it_is in found.values()],
    }
    return pa.table(columns, schema=SCHEMA).sort_by(
        [("similarity", "descending"), ("row_id", "ascending"), ("other_row_id", "ascending")]
    )


def unique_test_rows(duplicates: pa.Table, test_rows: np.ndarray) -> np.ndarray:
    """(N,) bool, false for near-duplicates of a training image or an earlier test image."""
    return ~np.isin(test_rows, duplicates["row_id"].to_numpy())


def similarity_bands(
    table: Path, duplicates: pa.Table, pairs: int = 14
) -> list[tuple[str, np.ndarray]]:
    """Examples of pairs at rising similarity, for judging the threshold by eye.

    Returns:
        A label and a strip of images for each band of similarity: (64, pairs × 32, 3) uint8, the
        test image above the other one, which is mirrored where that is what makes it similar.
    """
    images, similarity = StoredImages(table), duplicates["similarity"].to_numpy()
    edges = np.append(np.arange(SIMILAR, 1.0, 0.1), 1.01)
    bands = []
    for low, high in itertools.pairwise(edges):
        band = np.flatnonzero((similarity >= low - 1e-6) & (similarity < high - 1e-6))
        shown = np.random.default_rng(0).permutation(band)[:pairs]
        strip = np.full((64, pairs * 32, 3), 255, np.uint8)
        above, below = (
            images.take(duplicates[name].to_numpy()[shown]) for name in ("row_id", "other_row_id")
        )
        mirrored = duplicates["mirrored"].to_numpy()[shown]
        below[mirrored] = below[mirrored][:, :, ::-1]
        for place, pair in enumerate(zip(above, below, strict=True)):
            strip[:, place * 32 : (place + 1) * 32] = np.vstack(pair)
        bands.append((f"{low:.1f} to {min(high, 1):.1f}: {len(band):,} pairs", strip))
    return bands


def _is_test(table: Path) -> np.ndarray:
    """(rows,) bool"""
    return np.asarray(read_table(table, ["upstream_split"])["upstream_split"].to_pandas() == "test")


def _similar(
    rows: np.ndarray, images: StoredImages, steps: Steps
) -> Iterator[tuple[int, int, float, bool]]:
    """Test image, other image, similarity and whether one of them is mirrored, for the pairs of
    `rows` that are at least `SIMILAR`."""
    tests = images.take(rows)
    details = _details(tests)
    nearest = [
        (flip, _Nearest(rows, _thumbnails(views)))
        for flip, views in ((False, tests), (True, tests[:, :, ::-1]))
    ]
    for first, block in images:
        thumbnails = _thumbnails(block)
        for _, found in nearest:
            found.look_at(first, thumbnails)
        steps.finish_one()
    candidates = [(flip, *found.pairs()) for flip, found in nearest]
    with ThreadPoolExecutor() as threads:  # OpenCV releases the interpreter's lock
        for first, block in images:
            for flip, places, others in candidates:
                inside = (others >= first) & (others < first + len(block))
                needed, index = np.unique(others[inside], return_inverse=True)
                of_others = _details(block[needed - first])
                pairs = list(zip(places[inside].tolist(), index.tolist(), strict=True))
                scores = threads.map(
                    lambda pair, of_others=of_others, flip=flip: _similarity(
                        details[pair[0]], of_others[pair[1]], flip
                    ),
                    pairs,
                )
                for (place, other), score in zip(pairs, scores, strict=True):
                    if score >= SIMILAR:
                        yield int(rows[place]), int(needed[other]), score, flip
            steps.finish_one()


class _Nearest:
    """The `NEIGHBOURS` images that correlate most with each test image, of all looked at so far.

    Args:
        rows: of the test images.
        queries: (N, 192) thumbnails of the test images, or of their mirror images.
    """

    def __init__(self, rows: np.ndarray, queries: np.ndarray) -> None:
        self._rows, self._queries = rows, queries
        self._others = np.full((len(rows), NEIGHBOURS), -1)
        self._correlation = np.full((len(rows), NEIGHBOURS), -1, np.float32)

    def look_at(self, first: int, thumbnails: np.ndarray) -> None:
        """Take in the images whose rows begin at `first`."""
        for start in range(0, len(self._rows), TEST_BATCH):
            batch = slice(start, start + TEST_BATCH)
            correlation = self._queries[batch] @ thumbnails.T
            # In one dimension numpy finds the few that are true several times as fast.
            similar = np.flatnonzero(correlation >= THUMBNAIL_SIMILAR)
            query, other = np.divmod(similar, len(thumbnails))
            itself = self._rows[batch][query] == first + other
            query, other = query[~itself], other[~itself]
            if len(query):
                self._keep(batch, query, first + other, correlation[query, other])

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Which test image, as its place among `rows`, and the row of the other image."""
        place, rank = np.nonzero(self._others >= 0)
        return place, self._others[place, rank]

    def _keep(
        self, batch: slice, query: np.ndarray, other: np.ndarray, correlation: np.ndarray
    ) -> None:
        known, rank = np.nonzero(self._others[batch] >= 0)
        query = np.concatenate([known, query])
        other = np.concatenate([self._others[batch][known, rank], other])
        correlation = np.concatenate([self._correlation[batch][known, rank], correlation])
        order = np.lexsort((-correlation, query))
        query = query[order]
        rank = np.arange(len(query)) - np.searchsorted(query, query)
        best = rank < NEIGHBOURS
        place, order = (query[best], rank[best]), order[best]
        self._others[batch][place] = other[order]
        self._correlation[batch][place] = correlation[order]


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


def _similarity(image: np.ndarray, other: np.ndarray, flip: bool) -> float:
    middle = image[SHIFT:-SHIFT, SHIFT:-SHIFT]
    if flip:
        middle = np.ascontiguousarray(middle[:, ::-1])
    correlations = cv2.matchTemplate(other, middle, cv2.TM_CCOEFF_NORMED)
    # Rounded because the last digits differ between machines, and limited because OpenCV gives
    # infinity where nothing varies.
    return round(float(min(correlations.max(), 1.0)), 4)


def _identical(images: StoredImages, is_test: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of equal images that have a test image, ordered as `find_duplicates` orders a pair."""
    for group in identical_images(images):
        for row in group[is_test[group]].tolist():
            for other in group.tolist():
                if not is_test[other] or other < row:
                    yield row, other
