"""Training with memory kept by the process and with glibc's defaults: images/s and page faults.

python -m benchmarks.allocator > benchmarks/results/allocator.md

The weights are random and the images are random bytes, because the time of a step depends on
neither. Each training runs in a process of its own.
"""

import json
import resource
import tempfile
from pathlib import Path

from benchmarks.environment import describe, spread
from benchmarks.ingredients import variant
from benchmarks.trainings import parse_arguments, random_images, rounds
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.reading import load_params
from cifar_pipeline.settings.recipe import Recipe
from cifar_pipeline.training.allocator import keep_freed_memory
from cifar_pipeline.training.checkpoints import Checkpoints
from cifar_pipeline.training.fit import train
from cifar_pipeline.training.progress import EpochRecord

IMAGES = 640
EPOCHS = 3
TRAININGS = (("cnn9", 32), ("efficientnet_b0", 64), ("efficientnet_b0", 128))
CHANGES = {
    "weights": "none",
    "progressive": [],
    "epochs": EPOCHS,
    "float_policy": "float32",
    "freeze_blocks": 0,
    "freeze_batch_norm": False,
    "fit_on": "train_and_validation",
    "validation_per_class": None,
    "schedule": {"restarts": []},
}


def child(memory: str, recipe: Recipe) -> None:
    """Train; print images/s, page faults per image and the kernel's share of the CPU time.

    The first epoch, which traces the network, is left out.
    """
    if memory == "kept":
        keep_freed_memory()
    usage = []

    def report(record: EpochRecord, left: float) -> None:
        usage.append((record.seconds, resource.getrusage(resource.RUSAGE_SELF)))

    with tempfile.TemporaryDirectory() as folder:
        train(recipe, random_images(IMAGES), None, Checkpoints(Path(folder), "benchmark"), report)
    (start, before), (end, after) = usage[0], usage[-1]
    trained = IMAGES * (len(usage) - 1)
    system = (after.ru_stime - before.ru_stime) / (
        after.ru_stime - before.ru_stime + after.ru_utime - before.ru_utime
    )
    print(
        json.dumps(
            [trained / (end - start), (after.ru_minflt - before.ru_minflt) / trained, 100 * system]
        )
    )


def main() -> None:
    n, training = parse_arguments(__doc__)
    if training:
        child(*training)
        return

    params = load_params(Workspace.current().params).under("laptop")
    trainings = {
        (model, size, memory): (
            memory,
            variant(params.recipe(model), CHANGES | {"image_size": size}),
        )
        for model, size in TRAININGS
        for memory in ("defaults", "kept")
    }
    results = rounds("benchmarks.allocator", n, trainings)

    print(f"# The allocator\n\n`{__doc__.splitlines()[2]}`; {describe()}.")
    print(f"n = {n} interleaved rounds, each in its own process; median (range).\n")
    print(
        "| training | memory | images/s | page faults per image | CPU time in the kernel, % |\n"
        "|---|---|---|---|---|"
    )
    for (model, size, memory), rows in results.items():
        rates, faults, system = ([row[column] for row in rows] for column in range(3))
        cells = [f"`{model}` at {size}", memory, *map(spread, (rates, faults, system))]
        print(f"| {' | '.join(cells)} |")
    for model, size in TRAININGS:
        pairs = zip(results[model, size, "kept"], results[model, size, "defaults"], strict=True)
        ratio = spread([kept[0] / defaults[0] for kept, defaults in pairs])
        print(f"\n`{model}` at {size}: {ratio} times the images/s of the defaults.")


if __name__ == "__main__":
    main()
