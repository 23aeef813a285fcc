"""Memory of a search, trial after trial: does a process that builds many networks keep growing?

python -m benchmarks.search_memory > benchmarks/results/search_memory.md

TensorFlow keeps what it traced for earlier networks (keras #21090, tensorflow #80895), which
`release_earlier_trainings` frees; Keras' `clear_session` alone does not. The search is that of
`custom_search`, another network in every trial, on images of random bytes, because what a trial
leaves behind depends on its graphs and not on its images. Each search runs in a process of its own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
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
from cifar_pipeline.training import fit
from cifar_pipeline.training.allocator import keep_freed_memory

SEARCH = "custom_search"
IMAGES = 256
SETTLED = 10
"""Trials after which the libraries have made what they make once."""
FORMS = ("as Keras does", "as this project does")


def child(form: str, trials: int) -> list[float]:
    """Memory of this process in MB after each trial."""
    keep_freed_memory()
    if form == FORMS[0]:
        fit.release_earlier_trainings = keras.utils.clear_session
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
    parser.add_argument("--child", choices=FORMS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    trials = arguments.trials
    if arguments.child:
        print(json.dumps(child(arguments.child, trials)))
        return
    used: dict[str, list[float]] = {}
    for form in FORMS:
        command = [sys.executable, "-m", "benchmarks.search_memory", "--trials", str(trials)]
        done = subprocess.run(
            [*command, "--child", form], stdout=subprocess.PIPE, text=True, check=True
        )
        used[form] = json.loads(done.stdout.splitlines()[-1])
    print("# Memory of a search\n")
    print("`python -m benchmarks.search_memory > benchmarks/results/search_memory.md`;")
    print(f"{describe()}. One search each, {trials} trials of two epochs on {IMAGES} images.\n")
    print(f"| resident memory, MB, after trial | {' | '.join(FORMS)} |\n|---|---|---|")
    for trial in sorted({0, *range(SETTLED - 1, trials, SETTLED), trials - 1}):
        print(f"| {trial + 1} | {' | '.join(f'{used[form][trial]:.0f}' for form in FORMS)} |")
    growth = [np.polyfit(range(SETTLED, trials), used[form][SETTLED:], 1)[0] for form in FORMS]
    slopes = " | ".join(f"{slope:.1f}" for slope in growth)
    print(f"| growth a trial after the {SETTLED}th, by least squares | {slopes} |")


if __name__ == "__main__":
    main()
