"""What each change that this project makes to Keras' training step brings on a CPU.

python -m benchmarks.steps > benchmarks/results/steps.md

The figures are the seconds of tracing before the first step and the images/s after it. The recipes
are those of `laptop` at one image size, with random weights and images of random bytes. Each
training runs in its own process. The time of tracing is what the first epoch takes more than the
others.
"""

import json
from typing import Any
from unittest.mock import patch

from benchmarks.environment import describe, spread
from benchmarks.ingredients import variant
from benchmarks.trainings import epochs_of, parse_arguments, rounds
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.reading import load_params
from cifar_pipeline.settings.recipe import Recipe
from cifar_pipeline.training import fit, optimizers

IMAGES = 640
EPOCHS = 3
TRAININGS = (("efficientnet_b0", 64, 0), ("efficientnet_b0", 128, 3))
# Each form includes the changes of those before it.
FORMS = ("as Keras does", "traced once", "1×1 convolutions as products", "two devices")
CHANGES = {
    "weights": "none",
    "progressive": [],
    "freeze_batch_norm": False,
    "epochs": EPOCHS,
    "fit_on": "train_and_validation",
    "validation_per_class": None,
    "schedule": {"restarts": [{"after": 1, "rate": 0.3}]},
}


def child(form: str, recipe: Recipe) -> None:
    """Train, and print the seconds of tracing and the images/s of the epochs after the first."""
    kept = FORMS.index(form)
    if kept < FORMS.index("traced once"):
        # Metrics are made inside the step, and the schedule is evaluated for each variable.
        of_parts = optimizers._for_parts

        def asking_for_each(kind: Any, factors: Any) -> Any:
            return type(kind.__name__, (of_parts(kind, factors),), {"apply": kind.apply})

        patch.object(fit, "_build_metrics", lambda trainer: None).start()
        patch.object(optimizers, "_for_parts", asking_for_each).start()
    if kept < FORMS.index("1×1 convolutions as products"):
        patch.object(fit, "multiply_pointwise", lambda model: None).start()
    records = epochs_of(recipe, IMAGES)
    an_epoch = (records[-1].seconds - records[0].seconds) / (EPOCHS - 1)
    print(json.dumps([records[0].seconds - an_epoch, IMAGES / an_epoch]))


def main() -> None:
    n, training = parse_arguments(__doc__)
    if training:
        child(*training)
        return

    params = load_params(Workspace.current().params).under("laptop")
    trainings = {}
    for model, size, frozen in TRAININGS:
        for form in FORMS:
            own = {
                "image_size": size,
                "freeze_blocks": frozen,
                "cpu_devices": 2 if form == "two devices" else 1,
            }
            trainings[model, size, frozen, form] = (
                form,
                variant(params.recipe(model), CHANGES | own),
            )
    results = rounds("benchmarks.steps", n, trainings)

    print(f"# Steps\n\n`{__doc__.splitlines()[2]}`; {describe()}.")
    print(
        f"n = {n} interleaved rounds, each in its own process; median (range). Ratios compare runs"
    )
    print("of the same round. Each form includes the changes of those above it.\n")
    print(
        "| training | form | tracing, s | ratio | images/s after it | ratio |\n"
        "|---|---|---|---|---|---|"
    )
    for (model, size, frozen, form), rows in results.items():
        first = results[model, size, frozen, FORMS[0]]
        cells = []
        for column in range(2):
            cells += [
                [row[column] for row in rows],
                [row[column] / own[column] for row, own in zip(rows, first, strict=True)],
            ]
        blocks = f", {frozen} blocks frozen" if frozen else ""
        print(f"| `{model}` at {size}{blocks} | {form} | {' | '.join(map(spread, cells))} |")


if __name__ == "__main__":
    main()
