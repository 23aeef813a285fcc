"""Where the time of a training step goes, by kind of operation.

python -m benchmarks.operations > benchmarks/results/operations.md

Each network trains on one device, all its layers, with the optimiser and the precision of its
`laptop` recipe, on images of random bytes. TensorFlow's profiler follows the second epoch, because
the first one traces. Shares are of the time that the operations took, each on one thread or more,
so they do not depend on how many ran at once. Each profile is taken in a process of its own, with
two rates of the machine: the product of two large float32 matrices, and adding a number to a large
array, which waits for memory alone.
"""

import argparse
import json
import math
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import keras
import tensorflow as tf
from tensorflow.tsl.profiler.protobuf import xplane_pb2

from benchmarks.environment import describe, spread
from benchmarks.ingredients import variant
from benchmarks.trainings import random_images
from cifar_pipeline.models.registry import build_classifier
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.reading import load_params
from cifar_pipeline.settings.recipe import Recipe
from cifar_pipeline.training.allocator import keep_freed_memory
from cifar_pipeline.training.checkpoints import Checkpoints
from cifar_pipeline.training.fit import train
from cifar_pipeline.training.progress import EpochRecord

NETWORKS = (("efficientnet_b0", 64), ("efficientnetv2_b0", 64), ("cnn9", 32), ("resnet9", 32))
STEPS = 5
CHANGES = {
    "weights": "none",
    "progressive": [],
    "freeze_batch_norm": False,
    "freeze_blocks": 0,
    "epochs": 2,
    "fit_on": "train_and_validation",
    "train_per_class": None,
    "validation_per_class": None,
    "early_stopping": None,
    "cpu_devices": 1,
    "mixing": None,
}
KINDS = (
    ("optimiser", r"/(adam_w|adam|sgd|muon)(_\d+)?/"),
    ("depthwise convolution, {}", r":\w*Depthwise"),
    ("product of matrices (dense layers, 1×1 convolutions), {}", r":\w*MatMul"),
    ("convolution, {}", r":\w*Conv2D"),
    ("BatchNorm, {}", r"FusedBatchNorm|_bn|batch_?norm|moments"),
    ("resizing and colours", r"Resize|rescaling|normalization"),
    ("activations and other arithmetic, {}", r"gradient_tape|classifier"),
)
"""Kinds of operations, with what tells them by name and type; the first that matches counts."""
NAMED = re.compile(r"^(StatefulPartitionedCall|while)/.*:\w+$")


def kind_of(operation: str) -> str:
    """The kind of an operation that the profiler calls `path/of/layers:Type`."""
    way = "backwards" if "gradient_tape" in operation else "forwards"
    for kind, pattern in KINDS:
        if re.search(pattern, operation, re.IGNORECASE):
            return kind.format(way)
    return "input and other"


def profile(recipe: Recipe) -> dict[str, float]:
    """Seconds of each kind in `STEPS` steps, and images/s of them as `images/s`."""
    images = STEPS * recipe.batch_size
    ended: list[EpochRecord] = []
    with tempfile.TemporaryDirectory() as log, tempfile.TemporaryDirectory() as checkpoints:

        def follow(record: EpochRecord, left: float) -> None:
            ended.append(record)
            if record.epoch == 1:
                options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=2)
                tf.profiler.experimental.start(log, options)
            else:
                tf.profiler.experimental.stop()

        train(
            recipe, random_images(images), None, Checkpoints(Path(checkpoints), "profile"), follow
        )
        (file,) = Path(log).rglob("*.xplane.pb")
        seconds = Counter(dict(_operations(file.read_bytes())))
    return dict(seconds) | {"images/s": images / (ended[1].seconds - ended[0].seconds)}


def _operations(content: bytes) -> Iterator[tuple[str, float]]:
    space = xplane_pb2.XSpace()
    space.ParseFromString(content)
    taken: Counter[str] = Counter()
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name = plane.event_metadata[event.metadata_id].name
                if NAMED.match(name):
                    taken[kind_of(name)] += event.duration_ps / 1e12
    yield from taken.items()


def operations_per_image(recipe: Recipe) -> float:
    """Multiplications and additions of convolutions and products for one image: forwards, for the
    gradient of the inputs and for that of the weights."""
    products = 0
    for layer in build_classifier(recipe, (0.5, 0.5, 0.5)).model._flatten_layers():
        kernel = getattr(layer, "kernel", None)
        if isinstance(layer, keras.layers.Layer) and kernel is not None:
            products += math.prod(layer.output.shape[1:-1]) * math.prod(kernel.shape)
    return 3 * 2 * products


def rate(work: float, compute: Callable[[], tf.Tensor]) -> float:
    """`work` per second of `compute`, the best of ten, in units of 10⁹."""
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        compute().numpy()
        seconds.append(time.perf_counter() - start)
    return work / min(seconds) / 1e9


def machine() -> dict[str, float]:
    """GFLOP/s of a product of matrices, and GB/s read and written by adding to an array."""
    n = 3072
    matrix, long = tf.random.normal((n, n)), tf.zeros(2**27)
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(matrix, matrix)[0]))
    added = tf.function(lambda: tf.reduce_sum((long + 1.0)[:1]))
    return {"GFLOP/s": rate(2 * n**3, product), "GB/s": rate(2 * 4 * 2**27, added)}


def child(recipe: Recipe) -> dict[str, dict[str, float]]:
    """All that is measured of one network in this process."""
    keep_freed_memory()
    work = operations_per_image(recipe)
    seconds = profile(recipe)
    images = seconds.pop("images/s")
    step = {"images/s": images, "GFLOP/s": images * work / 1e9}
    return {"seconds": seconds, "step": step, "machine": machine()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=3)
    rounds = parser.parse_args().n
    laptop = load_params(Workspace.current().params).under("laptop")
    command = "python -m benchmarks.operations"
    print(f"# A step by operation\n\n`{command} -n {rounds} > benchmarks/results/operations.md`;")
    print(f"{describe()}.")
    print(f"n = {rounds} profiles of {STEPS} steps, each in its own process; median (range).\n")
    for name, size in NETWORKS:
        recipe = variant(laptop.recipe(name), CHANGES | {"image_size": size})
        child_of = [sys.executable, *command.split()[1:], "--child"]
        measured = []
        for _ in range(rounds):
            done = subprocess.run(
                [*child_of, recipe.model_dump_json()], stdout=subprocess.PIPE, text=True, check=True
            )
            measured.append(json.loads(done.stdout.splitlines()[-1]))
            print(name, measured[-1], file=sys.stderr)
        _print_network(name, size, recipe.batch_size, measured)


def _print_network(
    name: str, size: int, batch: int, measured: list[dict[str, dict[str, float]]]
) -> None:
    used = [one["step"]["GFLOP/s"] / one["machine"]["GFLOP/s"] for one in measured]
    print(f"## `{name}` at {size} pixels, batches of {batch}\n")
    for part, unit in (("step", "images/s"), ("step", "GFLOP/s"), ("machine", "GFLOP/s")):
        what = "a product of large matrices" if part == "machine" else "the step"
        print(f"- {what}: {spread([one[part][unit] for one in measured])} {unit}")
    print(f"- adding to a large array: {spread([one['machine']['GB/s'] for one in measured])} GB/s")
    print(f"- the step's arithmetic, as a part of that product's: {spread(used)}\n")
    print("| operations | % of their time |\n|---|---|")
    shares: dict[str, list[float]] = {}
    for one in measured:
        for kind, seconds in one["seconds"].items():
            shares.setdefault(kind, []).append(100 * seconds / sum(one["seconds"].values()))
    for kind, values in sorted(shares.items(), key=lambda item: -median(item[1])):
        print(f"| {kind} | {spread(values)} |")
    print()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(child(Recipe.model_validate_json(sys.argv[2]))))
    else:
        main()
