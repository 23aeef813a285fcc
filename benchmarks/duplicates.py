"""Time and memory needed to find the near-duplicates of all test images, and how many there are.

python -m benchmarks.duplicates > benchmarks/results/duplicates.md
"""

import argparse
import resource
import time

import numpy as np

from benchmarks.environment import describe, spread
from cifar_pipeline.dataset.table import read_labels
from cifar_pipeline.evaluation.duplicates import SIMILAR, find_duplicates, unique_test_rows
from cifar_pipeline.paths import Workspace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=3)
    arguments = parser.parse_args()
    path = Workspace.current().table
    table = read_labels(path)
    seconds = []
    for _ in range(arguments.n):
        start = time.perf_counter()
        found = find_duplicates(path)
        seconds.append(time.perf_counter() - start)
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    pairs = found.to_pandas()
    test_rows = np.flatnonzero(np.asarray(table["upstream_split"].to_pandas() == "test"))
    labels = table["fine_label"].to_numpy()
    print(f"# Near-duplicates\n\n`{__doc__.splitlines()[2]}`; {describe()}.\n")
    print(f"{len(test_rows):,} test images against all {table.num_rows:,}: {spread(seconds)} s,")
    print(f"n = {arguments.n}; peak memory {gigabytes:.2f} GB.\n")
    print(
        "| similarity | near-duplicates of a training image (ciFAIR: 891) "
        "| near-duplicates of an earlier test image (ciFAIR: 104) |\n|---|---|---|"
    )
    for least in (SIMILAR, 0.7, 0.8, 0.9):
        counts = [
            pairs[(pairs["similarity"] >= least) & (pairs["other_split"] == split)][
                "row_id"
            ].nunique()
            for split in ("train", "test")
        ]
        print(f"| {least} or more | {counts[0]} | {counts[1]} |")
    other_label = (labels[pairs["row_id"]] != labels[pairs["other_row_id"]]).sum()
    identical, mirrored = int(pairs["identical"].sum()), int(pairs["mirrored"].sum())
    unique = int(unique_test_rows(found, test_rows).sum())
    print(
        f"\nThere are {len(pairs):,} pairs: {identical} are identical, {mirrored} are mirrored and"
    )
    print(
        f"{other_label} have different labels. {unique:,} test images have no near-duplicate among"
    )
    print("the training images and the test images before them.")


if __name__ == "__main__":
    main()
