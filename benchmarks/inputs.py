"""How fast batches are made, and whether training waits for them.

python -m benchmarks.inputs [-n 5] > benchmarks/results/inputs.md

The images are random bytes in CIFAR-100's shape, because the work does not depend on what they
show. Rates are images per second of processor time, so that other work on the machine matters
little; shares of `fit` are ratios of neighbouring runs.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import albumentations as A
import cv2
import keras
import numpy as np
import tensorflow as tf

from benchmarks.environment import describe, spread
from cifar_pipeline.inputs.augmentation import Augmenter
from cifar_pipeline.inputs.batches import Images, training_batches
from cifar_pipeline.models.registry import build_classifier, set_phase
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.reading import load_params
from cifar_pipeline.settings.recipe import Recipe
from cifar_pipeline.settings.transforms import Augmentation
from cifar_pipeline.training.optimizers import build_optimizer

PAPER = Augmentation(horizontal_flip=0.5, vertical_flip=0.5, grid_distortion=0.2, elastic=0.2)


class PaperGenerator(keras.utils.PyDataset):
    """K2's generator as its notebook has it: each image resized to 224 pixels, then augmented."""

    def __init__(self, images: Images, batch_size: int) -> None:
        super().__init__()
        self._images, self._batch = images, batch_size
        self._augment = A.Compose(
            [
                A.HorizontalFlip(p=0.5),
                A.VerticalFlip(p=0.5),
                A.GridDistortion(p=0.2),
                A.ElasticTransform(p=0.2),
            ]
        )

    def __len__(self) -> int:
        return len(self._images) // self._batch

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = slice(index * self._batch, (index + 1) * self._batch)
        resized = [
            cv2.resize(image, (224, 224), interpolation=cv2.INTER_CUBIC)
            for image in self._images.pixels[rows]
        ]
        batch = np.stack([self._augment(image=image)["image"] for image in resized])
        return batch, np.eye(100, dtype=np.float32)[self._images.label[rows]]


class PlainDataset(keras.utils.PyDataset):
    """The same batches as the pipeline's, without Grain."""

    def __init__(self, images: Images, recipe: Recipe) -> None:
        super().__init__()
        self._images, self._labels, self._recipe = images, images.one_hot(), recipe
        self._augmenter = Augmenter(recipe.augmentation)
        self._order = np.random.default_rng(0).permutation(len(images))

    def __len__(self) -> int:
        return len(self._images) // self._recipe.batch_size

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self._order[index * self._recipe.batch_size : (index + 1) * self._recipe.batch_size]
        return self._augmenter(self._images.pixels[rows], index), self._labels[rows]


def tf_data(images: Images, recipe: Recipe) -> Iterable[Any]:
    """The same with tf.data, whose workers are threads that wait for Python's lock."""
    augmenter, labels = Augmenter(recipe.augmentation), images.one_hot()

    def prepare(rows: Any) -> Any:
        batch = tf.numpy_function(
            lambda r: augmenter(images.pixels[r], int(r[0])), [rows], tf.uint8
        )
        return batch, tf.gather(labels, rows)

    rows = (
        tf.data.Dataset.range(len(images))
        .shuffle(len(images), seed=0)
        .batch(recipe.batch_size, drop_remainder=True)
    )
    return rows.map(prepare, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(8)


def per_cpu_second(batches: Iterable[Any], seconds: float) -> float:
    """Images per second of this process' processor time."""
    iterator = iter(batches)
    next(iterator)
    start, wall, images = time.process_time(), time.monotonic(), 0
    while time.monotonic() - wall < seconds:
        images += len(next(iterator)[1])
    return images / (time.process_time() - start)


def per_second(batches: Iterable[Any], seconds: float) -> float:
    """Images per second of wall-clock time, after the workers have started."""
    iterator = iter(batches)
    next(iterator)
    start, images = time.monotonic(), 0
    while time.monotonic() - start < seconds:
        images += len(next(iterator)[1])
    return images / (time.monotonic() - start)


def endless(batches: Any) -> Iterator[Any]:
    while True:
        yield from (batches[index] for index in range(len(batches)))


def fit_rates(recipe: Recipe, images: Images, steps: int) -> tuple[float, float]:
    """Images/s of `fit` on the pipeline's batches, and on one batch that is always in memory."""
    model = build_classifier(recipe, (0.5, 0.5, 0.5)).trainer
    model.compile(
        optimizer=build_optimizer(recipe.optimizer, recipe.schedule, 1000, recipe.epochs),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    model.optimizer.build(model.trainable_variables)
    set_phase(model, recipe.phase_at(recipe.epochs))
    one = next(iter(training_batches(images, recipe)))
    kept = tf.data.Dataset.from_tensors(one).repeat()

    def rate(data: Any) -> float:
        clock = Clock()
        model.fit(
            data, steps_per_epoch=steps + 2, epochs=1, verbose=0, shuffle=False, callbacks=[clock]
        )
        return steps * recipe.batch_size / clock.seconds

    rate(kept)  # traces
    return rate(training_batches(images, recipe)), rate(kept)


class Clock(keras.callbacks.Callback):
    """Time from the end of the second step to the end of the last."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        now = time.monotonic()
        if batch == 1:
            self._start = now
        self.seconds = now - getattr(self, "_start", now)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()

    rng = np.random.default_rng(0)
    images = Images(
        np.arange(20_000),
        rng.integers(0, 256, (20_000, 32, 32, 3), np.uint8),
        np.arange(20_000) % 100,
    )
    params = load_params(Workspace.current().params).under("laptop")
    laptop = params.recipe("efficientnetv2_b0")
    native = laptop.model_copy(update={"augmentation": PAPER, "mixing": None})
    unmixed = laptop.model_copy(update={"mixing": None})
    makers: dict[str, Callable[[], Iterable[Any]]] = {
        "the paper's generator: resize to 224, then augment": lambda: endless(
            PaperGenerator(images, 8)
        ),
        "the paper's transforms at 32 pixels, Grain": lambda: training_batches(images, native),
        "`laptop`, EfficientNetV2-B0, Grain": lambda: training_batches(images, laptop),
        "the same without CutMix, Grain": lambda: training_batches(images, unmixed),
        "the same without CutMix, Keras' PyDataset": lambda: endless(PlainDataset(images, unmixed)),
        "the same without CutMix, tf.data": lambda: tf_data(images, unmixed),
    }
    rates: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(arguments.n):
        for name, make in makers.items():
            rates[name].append(per_cpu_second(make(), arguments.seconds))
    paper = rates[next(iter(makers))]

    print(f"# Inputs\n\n`python -m benchmarks.inputs -n {arguments.n}`; {describe()}.")
    print(f"n = {arguments.n} interleaved rounds of {arguments.seconds:g} s; median (range).\n")
    print(
        "| batches from | images per second of one core | ratio to the paper's, same round |\n"
        "|---|---|---|"
    )
    for name, values in rates.items():
        ratios = [value / base for value, base in zip(values, paper, strict=True)]
        print(f"| {name} | {spread(values)} | {spread(ratios)} |")
    with_workers = []
    for _ in range(arguments.n):
        batches = training_batches(images, laptop, workers=2)
        with_workers.append(per_second(batches, arguments.seconds))
    print("\nTwo worker processes deliver the `laptop` recipe's batches at")
    print(f"{spread(with_workers)} images per second of wall-clock time.")
    needed = 5000 / sorted(rates["`laptop`, EfficientNetV2-B0, Grain"])[arguments.n // 2]
    print(f"\n5,000 images/s of the `laptop` recipe need {needed:.2f} cores, that is,")
    print(f"{int(needed) + 1} worker processes.\n")

    print(
        "| `fit` | on the pipeline's batches | on one batch in memory | share |\n|---|---|---|---|"
    )
    quick = params.under("quick")
    cases = {
        "`cnn9` at 32 pixels": params.recipe("cnn9"),
        "`efficientnet_b0` at 64 pixels": quick.recipe("efficientnet_b0").model_copy(
            update={"weights": "none"}
        ),
    }
    for name, recipe in cases.items():
        pairs = list(islice((fit_rates(recipe, images, 12) for _ in iter(int, 1)), arguments.n))
        ours, kept = zip(*pairs, strict=True)
        cells = (name, spread(list(ours)), spread(list(kept)), spread([a / b for a, b in pairs]))
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
