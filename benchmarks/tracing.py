"""How long TensorFlow traces a training before its first step: as this project starts it, and as Keras does by itself.

python -m benchmarks.tracing > benchmarks/results/tracing.md

Recipes of `laptop`, at one size, with random weights and images of random bytes. Each training is a process of its own. Its tracing is the
time by which its first epoch is longer than the others.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.environment import describe, spread
from benchmarks.ingredients import variant
from cifar_pipeline.inputs.batches import Images
from cifar_pipeline.params import load_params
from cifar_pipeline.paths import Workspace
from cifar_pipeline.recipes import Recipe
from cifar_pipeline.training import fit, optimizers
from cifar_pipeline.training.allocator import keep_freed_memory
from cifar_pipeline.training.checkpoints import Checkpoints
from cifar_pipeline.training.progress import EpochRecord

IMAGES = 640
EPOCHS = 3
TRAININGS = (("efficientnet_b0", 64),)
FORMS = ("as Keras does", "as here")
CHANGES = {
    "weights": "none",
    "progressive": [],
    "epochs": EPOCHS,
    "fit_on": "train_and_validation",
    "validation_per_class": None,
    "schedule": {"restarts": [{"after": 1, "rate": 0.3}]},
}


def child(form: str, recipe: Recipe) -> None:
    """Train, and print the seconds of tracing and the images/s of the epochs after the first."""
    if form == "as Keras does":  # metrics made inside the step, and the schedule asked for every variable that decays
        of_parts = optimizers._for_parts

        def asking_for_each(kind: Any, factors: Any) -> Any:
            return type(kind.__name__, (of_parts(kind, factors),), {"apply": kind.apply})

        patch.object(fit, "_build_metrics", lambda trainer: None).start()
        patch.object(optimizers, "_for_parts", asking_for_each).start()
    keep_freed_memory()
    rng = np.random.default_rng(0)
    images = Images(np.arange(IMAGES), rng.integers(0, 256, (IMAGES, 32, 32, 3), np.uint8), np.arange(IMAGES) % 100)
    records: list[EpochRecord] = []
    with tempfile.TemporaryDirectory() as folder:
        fit.train(recipe, images, None, Checkpoints(Path(folder), "benchmark"), lambda record, left: records.append(record))
    an_epoch = (records[-1].seconds - records[0].seconds) / (EPOCHS - 1)
    print(json.dumps([records[0].seconds - an_epoch, IMAGES / an_epoch]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=3)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child[0], Recipe.model_validate_json(arguments.child[1]))
        return

    params = load_params(Workspace.current().params).model_copy(update={"profile": "laptop"})
    results: dict[tuple[str, int, str], list[list[float]]] = {}
    for _ in range(arguments.n):
        for model, size in TRAININGS:
            recipe = variant(params.recipe(model), CHANGES | {"image_size": size})
            for form in FORMS:
                command = [sys.executable, "-m", "benchmarks.tracing", "--child", form, recipe.model_dump_json()]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                results.setdefault((model, size, form), []).append(json.loads(done.stdout.splitlines()[-1]))
                print(model, size, form, results[model, size, form][-1], file=sys.stderr)

    print(f"# Tracing\n\n`{__doc__.splitlines()[2]}`; {describe()}.")
    print(f"n = {arguments.n} interleaved rounds, each a process; median (range). Ratios are of the same round.\n")
    print("| training | made | tracing, s | ratio | images/s after it | ratio |\n|---|---|---|---|---|---|")
    for (model, size, form), rows in results.items():
        first = results[model, size, FORMS[0]]
        cells = []
        for column in range(2):
            cells += [[row[column] for row in rows], [row[column] / own[column] for row, own in zip(rows, first, strict=True)]]
        print(f"| `{model}` at {size} | {form} | {' | '.join(map(spread, cells))} |")


if __name__ == "__main__":
    main()
