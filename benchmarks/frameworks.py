"""This project's training step beside what its users would pick instead.

python -m benchmarks.frameworks --torch PYTHON > benchmarks/results/frameworks.md

EfficientNet-B0, batches of 64, every layer trained by AdamW, on images of random bytes that begin
at 32 pixels: images/s of the epochs after the first, in which TensorFlow traces. `--torch` is an
interpreter of an environment of its own that has torch and timm. Each training runs in its own
process.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass

from benchmarks.environment import describe, spread
from benchmarks.ingredients import variant
from benchmarks.trainings import epochs_of
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.reading import load_params
from cifar_pipeline.settings.recipe import Recipe

BATCH = 64
EPOCHS = 3
SIZES = {64: 640}
"""Pixels, and the images of an epoch."""
CHANGES = {
    "weights": "none",
    "progressive": [],
    "freeze_batch_norm": False,
    "freeze_blocks": 0,
    "batch_size": BATCH,
    "epochs": EPOCHS,
    "fit_on": "train_and_validation",
    "validation_per_class": None,
    "mixing": None,
    "augmentation": dict.fromkeys(("horizontal_flip", "shift_x", "shift_y", "zoom", "color"), 0.0),
}


@dataclass(frozen=True)
class Form:
    """One way of training the network."""

    name: str
    recipe: tuple[tuple[str, object], ...] = ()
    """for this project's step: changes of the recipe"""
    timm: tuple[str, ...] | None = None
    """for PyTorch: the switches of timm_step.py"""


FORMS = (
    Form("this project"),
    Form("this project, bfloat16", recipe=(("float_policy", "mixed_bfloat16"),)),
    Form("timm", timm=("--float32",)),
    Form("timm, bfloat16", timm=()),
)


def child(recipe: Recipe, images: int) -> float:
    """Train by this project's step: images/s of the epochs after the first."""
    records = epochs_of(recipe, images)
    return images * (EPOCHS - 1) / (records[-1].seconds - records[0].seconds)


def measure(form: Form, size: int, torch: str) -> float:
    """Images/s of one training in a process of its own."""
    images = SIZES[size]
    if form.timm is not None:
        switches = [str(size), str(images), str(BATCH), str(EPOCHS), *form.timm]
        command = [torch, "-m", "benchmarks.timm_step", *switches]
    else:
        changes = CHANGES | {"image_size": size} | dict(form.recipe)
        laptop = load_params(Workspace.current().params).under("laptop").recipe("efficientnet_b0")
        recipe = variant(laptop, changes).model_dump_json()
        command = [sys.executable, "-m", "benchmarks.frameworks", "--child", recipe, str(images)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=1200)
    return float(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=3)
    parser.add_argument("--torch", required=True, metavar="PYTHON")
    arguments = parser.parse_args()
    rates: dict[tuple[int, Form], list[float]] = {
        (size, form): [] for size in SIZES for form in FORMS
    }
    for _ in range(arguments.n):
        for (size, form), of_rounds in rates.items():
            of_rounds.append(measure(form, size, arguments.torch))
            print(size, form.name, f"{of_rounds[-1]:.1f}", file=sys.stderr)

    print(f"# Beside other frameworks\n\n`{__doc__.splitlines()[2]}`; {describe()};")
    print(f"{_versions(arguments.torch, 'torch', 'timm')}.")
    print(
        f"n = {arguments.n} interleaved rounds, each in its own process; median (range). Ratios\n"
        "compare runs of the same round. EfficientNet-B0 in batches of 64, all layers trained by\n"
        "AdamW.\n\n"
        "| pixels | training | images/s | ratio |\n|---|---|---|---|"
    )
    for (size, form), of_rounds in rates.items():
        first = rates[size, FORMS[0]]
        ratios = [rate / own for rate, own in zip(of_rounds, first, strict=True)]
        print(f"| {size} | {form.name} | {spread(of_rounds)} | {spread(ratios)} |")


def _versions(python: str, *packages: str) -> str:
    code = (
        "import sys; from importlib.metadata import version;"
        "print(', '.join(f'{name} {version(name)}' for name in sys.argv[1:]))"
    )
    done = subprocess.run(
        [python, "-c", code, *packages], stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.strip()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(child(Recipe.model_validate_json(sys.argv[2]), int(sys.argv[3]))))
    else:
        main()
