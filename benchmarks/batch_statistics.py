"""What dividing a CPU into devices costs in accuracy.

Each device computes BatchNorm's statistics over its own share of the batch only.

Command, with CIFAR_WEIGHTS_EFFICIENTNET_B0 set:
python -m benchmarks.batch_statistics > benchmarks/results/batch_statistics.md

The recipe is `efficientnet_b0` under the profile `laptop`, at 64 pixels, with BatchNorm and all
blocks learning, trained on part of the training images and measured on the validation images. Each
training runs in its own process.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.environment import describe
from benchmarks.ingredients import variant
from benchmarks.trainings import parse_arguments, rounds
from cifar_pipeline.inputs.batches import load_images
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.reading import load_params
from cifar_pipeline.settings.recipe import Recipe
from cifar_pipeline.training.allocator import keep_freed_memory
from cifar_pipeline.training.checkpoints import Checkpoints
from cifar_pipeline.training.fit import train

CHANGES = {
    "train_per_class": 200,
    "freeze_batch_norm": False,
    "progressive": [],
    "image_size": 64,
    "freeze_blocks": 0,
    "epochs": 2,
}
FORMS: dict[str, dict[str, Any]] = {
    "64 on one device": {
        "batch_size": 64,
        "optimizer": {"learning_rate": 1.5e-3},
        "cpu_devices": 1,
    },
    "32 on each of two": {
        "batch_size": 64,
        "optimizer": {"learning_rate": 1.5e-3},
        "cpu_devices": 2,
    },
    "64 on each of two": {
        "batch_size": 128,
        "optimizer": {"learning_rate": 2.1e-3},
        "cpu_devices": 2,
    },
}


def child(recipe: Recipe) -> None:
    """Train and print figures of the last epoch.

    They are the validation and the training accuracy, images/s, and the number of training and of
    validation images.
    """
    keep_freed_memory()
    home = Workspace.current()
    training = load_images(
        home.table, home.splits, "train", per_class=recipe.train_per_class, seed=recipe.seed
    )
    validation = load_images(home.table, home.splits, "validation")
    with tempfile.TemporaryDirectory() as folder:
        last = train(recipe, training, validation, Checkpoints(Path(folder), "benchmark")).history[
            -1
        ]
    print(
        json.dumps(
            [last.val_accuracy, last.accuracy, last.images_per_s, len(training), len(validation)]
        )
    )


def main() -> None:
    n, training = parse_arguments(__doc__)
    if training:
        child(training[1])
        return
    params = load_params(Workspace.current().params).under("laptop")
    base = variant(params.recipe("efficientnet_b0"), CHANGES)
    seeds = range(base.seed, base.seed + n)
    trainings = {
        (form, seed): (form, variant(base, FORMS[form] | {"seed": seed}))
        for seed in seeds
        for form in FORMS
    }
    results = {
        key: figures
        for key, (figures,) in rounds("benchmarks.batch_statistics", 1, trainings).items()
    }

    *_, images, validated = (int(figure) for figure in next(iter(results.values())))
    print(f"# Batch statistics\n\n`python -m benchmarks.batch_statistics -n {n}`, with")
    print(f"`CIFAR_WEIGHTS_EFFICIENTNET_B0` set; {describe()}.")
    print(
        f"{images:,} training images × {base.epochs} epochs, n = {validated:,} validation images;"
    )
    print("images/s are those of the last epoch. The seed also chooses the training images.\n")
    print(
        "| images normalised together | learning rate | seed | validation, % | training, % "
        "| images/s |\n|---|---|---|---|---|---|"
    )
    for (form, seed), (validation, training_accuracy, speed, *_) in results.items():
        rate = FORMS[form]["optimizer"]["learning_rate"]
        accuracies = f"{100 * validation:.1f} | {100 * training_accuracy:.1f}"
        print(f"| {form} | {rate} | {seed} | {accuracies} | {speed:.0f} |")


if __name__ == "__main__":
    main()
