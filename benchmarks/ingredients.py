"""What each ingredient of a `laptop` recipe brings, on validation images.

Commands, with CIFAR_WEIGHTS_... set:
python -m benchmarks.ingredients --work FOLDER > benchmarks/results/ingredients.md
python -m benchmarks.ingredients --model efficientnet_b0 --work FOLDER \
  > benchmarks/results/ingredients_b0.md

Each row leaves out or changes one thing. All of them train on the same part of the training images,
so that a row takes minutes, and are measured on the same validation images. An interrupted run
resumes where it was stopped.
"""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

from benchmarks.environment import describe
from cifar_pipeline.artifacts import dvc_md5, write_json
from cifar_pipeline.inputs.batches import load_images
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.optimization import Schedule
from cifar_pipeline.settings.reading import load_params
from cifar_pipeline.settings.recipe import Recipe
from cifar_pipeline.training.checkpoints import Checkpoints
from cifar_pipeline.training.fit import train

V2_B0: dict[str, dict[str, Any]] = {
    "all of it": {},
    "64 pixels throughout": {"progressive": [], "image_size": 64},
    "128 pixels throughout": {"progressive": []},
    "without CutMix": {"mixing": None},
    "no augmentation": {
        "mixing": None,
        "augmentation": {
            "zoom": 0.0,
            "color": 0.0,
            "horizontal_flip": 0.0,
            "shift_x": 0.0,
            "shift_y": 0.0,
        },
    },
    "constant learning rate": {"schedule": Schedule(name="constant")},
    "BatchNorm trained": {"freeze_batch_norm": False},
    "without label smoothing": {"label_smoothing": 0.0},
}
B0: dict[str, dict[str, Any]] = {
    "all of it": {},
    "half the learning rate": {"optimizer": {"learning_rate": 3e-4}},
    "twice the learning rate": {"optimizer": {"learning_rate": 1.2e-3}},
    "four blocks frozen": {"freeze_blocks": 4},
    "BatchNorm trained": {"freeze_batch_norm": False},
}
STUDIES: dict[str, tuple[list[dict[str, int]], dict[str, dict[str, Any]]]] = {
    "efficientnetv2_b0": ([{"size": 64, "epochs": 2}, {"size": 96, "epochs": 1}], V2_B0),
    "efficientnet_b0": ([{"size": 96, "epochs": 1}], B0),
}
"""Each recipe's shorter progression, and what is changed of it."""


def variant(base: Recipe, changes: dict[str, Any]) -> Recipe:
    """The base recipe, at most one nested level changed."""
    content = base.model_dump()
    for key, value in changes.items():
        if isinstance(value, dict):
            content[key] |= value
        else:
            content[key] = value
    return Recipe.model_validate(content)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for finished rows and checkpoints"
    )
    parser.add_argument("--per-class", type=int, default=50)
    parser.add_argument("--model", choices=STUDIES, default="efficientnetv2_b0")
    arguments = parser.parse_args()
    home = Workspace.current()
    laptop = load_params(home.params).under("laptop").recipe(arguments.model)
    steps, variants = STUDIES[arguments.model]
    changes = {"progressive": steps, "train_per_class": arguments.per_class, "epochs": 4}
    base = Recipe.model_validate(laptop.model_dump() | changes)
    recipes = {name: variant(base, changes) for name, changes in variants.items()}
    training = load_images(
        home.table, home.splits, "train", per_class=arguments.per_class, seed=base.seed
    )
    validation = load_images(
        home.table, home.splits, "validation", per_class=base.validation_per_class, seed=base.seed
    )
    rows = []
    inputs = [dvc_md5(home.table), dvc_md5(home.splits)]
    for name, recipe in recipes.items():
        identity = hashlib.sha256(
            json.dumps([recipe.model_dump(mode="json"), inputs]).encode()
        ).hexdigest()
        done = arguments.work / f"{identity}.json"
        if not done.is_file():
            checkpoints = Checkpoints(arguments.work / identity, identity)
            history = train(recipe, training, validation, checkpoints).history
            last = history[-1]
            write_json(
                done,
                {
                    "accuracy": last.val_accuracy,
                    "train": last.accuracy,
                    "minutes": last.seconds / 60,
                },
            )
            checkpoints.remove()
        rows.append((name, json.loads(done.read_text(encoding="utf-8"))))
    n = len(validation)
    best = rows[0][1]["accuracy"]
    noise = 196 * (2 * best * (1 - best) / n) ** 0.5
    print("# What each ingredient brings\n")
    options = f"--model {arguments.model} --per-class {arguments.per_class}"
    print(f"`python -m benchmarks.ingredients {options}`; {describe()}.")
    seen = f"{len(training):,} training images × {base.epochs} epochs"
    print(f"`{arguments.model}`, {seen}; figures are")
    print(
        f"those of the last epoch on n = {n:,} validation images, with one seed. A difference below"
    )
    print(f"{noise:.1f} points is within the noise of the images alone.\n")
    print(
        "| recipe | validation accuracy | difference | training accuracy, augmented | minutes |\n"
        "|---|---|---|---|---|"
    )
    for name, row in rows:
        gain = f"{100 * (row['accuracy'] - best):+.1f}"
        cells = (name, f"{row['accuracy']:.1%}", gain, f"{row['train']:.1%}")
        print(f"| {' | '.join(cells)} | {row['minutes']:.1f} |")


if __name__ == "__main__":
    main()
