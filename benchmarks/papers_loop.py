"""Khanna's training loop (K2), as her notebook has it, beside this pipeline's recipes.

Command:
python -m benchmarks.papers_loop --history data/models/efficientnetv2_b0/history.csv
> benchmarks/results/papers_loop.md

The figures are images/s and the hours to 80% of validation accuracy. The weights are random and
the images are random bytes, because the time of a step depends on neither.
"""

import argparse
import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.environment import describe, spread
from benchmarks.inputs import Clock, PaperGenerator
from cifar_pipeline.inputs.batches import Images, training_batches
from cifar_pipeline.models.registry import build_classifier, set_phase
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.reading import load_params
from cifar_pipeline.settings.recipe import Recipe
from cifar_pipeline.training.optimizers import build_optimizer

TRAIN_IMAGES = 40_000
PAPER_EPOCHS = 15
CLAIMED = "15 epochs to 82.30% of validation in 6.52 h on a K80"


def paper_model() -> keras.Model:
    """EfficientNet-B0 at 224 pixels, every layer trainable, as published but for its weights."""
    base = keras.applications.EfficientNetB0(
        include_top=False, weights=None, input_shape=(224, 224, 3)
    )
    x = keras.layers.GlobalAveragePooling2D()(base.output)
    model = keras.Model(
        base.input, keras.layers.Dense(100, activation="softmax")(keras.layers.Dropout(0.5)(x))
    )
    model.compile(
        keras.optimizers.Adam(1e-4),
        "categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    return model


def pipeline_model(recipe: Recipe) -> keras.Model:
    model = build_classifier(recipe, (0.5, 0.5, 0.5)).trainer
    model.compile(
        optimizer=build_optimizer(recipe.optimizer, recipe.schedule, 1000, recipe.epochs),
        loss=keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=recipe.label_smoothing
        ),
        metrics=["accuracy"],
        jit_compile=False,
    )
    return model


@dataclass(frozen=True)
class Loop:
    """A model and a maker of fresh batches, so that none are ready before the clock starts."""

    model: keras.Model
    batches: Callable[[], Any]
    batch_size: int
    steps: int


def rate(loop: Loop, steps: int) -> float:
    """Images/s of `fit`, the making of batches included."""
    clock = Clock()
    loop.model.fit(
        loop.batches(),
        steps_per_epoch=steps + 2,
        epochs=1,
        verbose=0,
        shuffle=False,
        callbacks=[clock],
    )
    return steps * loop.batch_size / clock.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=3)
    parser.add_argument(
        "--history", type=Path, required=True, help="of a `laptop` training of efficientnetv2_b0"
    )
    arguments = parser.parse_args()

    rng = np.random.default_rng(0)
    images = Images(
        np.arange(5000), rng.integers(0, 256, (5000, 32, 32, 3), np.uint8), np.arange(5000) % 100
    )
    params = load_params(Workspace.current().params)
    paper = params.under("paper").recipe("efficientnet_b0").model_copy(update={"weights": "none"})
    laptop = params.under("laptop").recipe("efficientnetv2_b0")
    laptop = laptop.model_copy(update={"weights": "none"})
    phases = {laptop.phase_at(epoch).size: laptop.phase_at(epoch) for epoch in range(laptop.epochs)}

    loops: dict[str, Loop] = {
        "K2 as written": Loop(paper_model(), lambda: PaperGenerator(images, 8), 8, 20),
        "`paper`, efficientnet_b0": Loop(
            pipeline_model(paper), lambda: training_batches(images, paper), 8, 20
        ),
    }
    for size, phase in phases.items():
        model = pipeline_model(laptop)
        set_phase(model, phase)
        loops[f"`laptop`, efficientnetv2_b0 at {size}"] = Loop(
            model, lambda: training_batches(images, laptop), laptop.batch_size, 12
        )
    for loop in loops.values():
        rate(loop, steps=1)  # traces
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(arguments.n):
        for name, loop in loops.items():
            rates[name].append(rate(loop, loop.steps))

    print("# The paper's loop beside ours\n")
    print("K2 is EfficientNet-B0 in Khanna's report, one of")
    print("[the five reports](../../docs/ledger.md#the-five-reports).\n")
    print(f"`python -m benchmarks.papers_loop --history {arguments.history}`; {describe()}.")
    print(
        f"n = {arguments.n} interleaved rounds; median (range).\n\n| loop | images/s |\n|---|---|"
    )
    for name, values in rates.items():
        print(f"| {name} | {spread(values)} |")
    hours = {}
    print(f"\nTheir {PAPER_EPOCHS} epochs ({CLAIMED}) would take on this machine,")
    print("**extrapolated** from images/s:")
    for name in list(loops)[:2]:
        hours[name] = PAPER_EPOCHS * TRAIN_IMAGES / sorted(rates[name])[arguments.n // 2] / 3600
        print(f"{name} {hours[name]:.1f} h; ", end="")
    print("this is the time to 82.30%; the report does not say when they passed 80%.")
    with arguments.history.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    reached = [row for row in rows if float(row["val_accuracy"]) >= 0.8]
    if reached:
        ours = float(reached[0]["seconds"]) / 3600
        first, whole = reached[0], float(rows[-1]["seconds"])
        factor = hours["K2 as written"] * 3600 / whole
        print(f"`laptop` passed 80% of validation accuracy after epoch {first['epoch']}, at")
        print(f"{ours:.2f} h (**measured**). Its whole training took {whole / 3600:.2f} h,")
        print(f"1/{factor:.0f} of theirs.")
    else:
        print("`laptop` did not reach 80% of validation.")


if __name__ == "__main__":
    main()
