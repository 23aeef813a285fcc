"""Short trainings for benchmarks, each in a process of its own, in interleaved rounds."""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from cifar_pipeline.inputs.batches import Images
from cifar_pipeline.settings.recipe import Recipe
from cifar_pipeline.training import fit
from cifar_pipeline.training.allocator import keep_freed_memory
from cifar_pipeline.training.checkpoints import Checkpoints
from cifar_pipeline.training.progress import EpochRecord

Key = TypeVar("Key", bound=tuple[Any, ...])


def random_images(n: int) -> Images:
    """n images of random bytes, which serve because the time of a step does not depend on them."""
    return Images(
        np.arange(n),
        np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), np.uint8),
        np.arange(n) % 100,
    )


def epochs_of(recipe: Recipe, images: int) -> list[EpochRecord]:
    """Train on `random_images` in this process: what was recorded of each epoch."""
    keep_freed_memory()
    records: list[EpochRecord] = []
    with tempfile.TemporaryDirectory() as folder:
        fit.train(
            recipe,
            random_images(images),
            None,
            Checkpoints(Path(folder), "benchmark"),
            lambda record, left: records.append(record),
        )
    return records


def parse_arguments(description: str) -> tuple[int, tuple[str, Recipe] | None]:
    """The number of rounds and, in the process of one training, its form and recipe."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("-n", type=int, default=3)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.child:
        return arguments.n, None
    form, recipe = arguments.child
    return arguments.n, (form, Recipe.model_validate_json(recipe))


def rounds(
    module: str, n: int, trainings: Mapping[Key, tuple[str, Recipe]]
) -> dict[Key, list[list[float]]]:
    """The figures of each of `trainings`, n times.

    They are what `python -m module --child FORM RECIPE` prints on its last line, as a JSON list.
    """
    results: dict[Key, list[list[float]]] = {key: [] for key in trainings}
    for _ in range(n):
        for key, (form, recipe) in trainings.items():
            command = [sys.executable, "-m", module, "--child", form, recipe.model_dump_json()]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            results[key].append(json.loads(done.stdout.splitlines()[-1]))
            print(*key, results[key][-1], file=sys.stderr)
    return results
