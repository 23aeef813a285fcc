"""Memory of a search, trial after trial: does a process that builds many networks keep growing?

python -m benchmarks.search_memory > benchmarks/results/search_memory.md

TensorFlow is known to keep what it traced for earlier networks (keras #21090, tensorflow #80895).
The search is that of `custom_search`, another network in every trial, on images of random bytes,
because what a trial leaves behind depends on its graphs and not on its images.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import psutil
from optuna import Study
from optuna.trial import FrozenTrial

from benchmarks.environment import describe
from benchmarks.trainings import random_images
from cifar_pipeline.paths import Workspace
from cifar_pipeline.search.study import Data, SearchRun
from cifar_pipeline.settings.reading import load_params
from cifar_pipeline.settings.search import Draws
from cifar_pipeline.training.allocator import keep_freed_memory

SEARCH = "custom_search"
IMAGES = 256
SETTLED = 10
"""Trials after which the libraries have made what they make once."""


def resident_mb(trials: int) -> list[float]:
    """Memory of this process in MB after each trial."""
    keep_freed_memory()
    params = load_params(Workspace.current().params)
    search = params.search_around(SEARCH).model_copy(
        update={
            "draws": Draws(trials=trials, folds=1, epochs=2, batch_size=64),
            "grid": None,
            "prune": False,
        }
    )
    process, used = psutil.Process(), []

    def note(study: Study, trial: FrozenTrial) -> None:
        used.append(process.memory_info().rss / 1e6)

    images = random_images(IMAGES)
    with tempfile.TemporaryDirectory() as folder:
        SearchRun(
            params.recipe(SEARCH),
            search,
            Data(images, images),
            origin="benchmark",
            folder=Path(folder),
            on_trial=note,
        ).run()
    return used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=40)
    used = resident_mb(parser.parse_args().trials)
    number = np.arange(len(used))[SETTLED:]
    growth, _ = np.polyfit(number, used[SETTLED:], 1)
    print("# Memory of a search\n")
    print("`python -m benchmarks.search_memory > benchmarks/results/search_memory.md`;")
    print(f"{describe()}. One search, {len(used)} trials of two epochs on {IMAGES} images.\n")
    print("| trial | resident memory, MB |\n|---|---|")
    for trial in sorted({0, *range(SETTLED - 1, len(used), SETTLED), len(used) - 1}):
        print(f"| {trial + 1} | {used[trial]:.0f} |")
    print(f"\nFrom the {SETTLED}th trial on it grows by {growth:.1f} MB a trial (a straight line,")
    print("least squares).")


if __name__ == "__main__":
    main()
