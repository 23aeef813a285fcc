"""Trainings that test what the reports claim beside figures.

Commands, with CIFAR_WEIGHTS_EFFICIENTNET_B0 set:
python -m benchmarks.claims --work FOLDER > benchmarks/results/claims.md

The rules stand in cifar_pipeline/reports/claims.yaml. Each training is a small form of the recipe
`efficientnet_b0` under `paper` that differs from the others in one setting or in its seed, which
also chooses its training and validation images; neither are test images. An interrupted run goes on
after the last whole epoch; `--made` prints the page of what was made so far. Classes are measured
too where data/ holds the predictions of `ladder7_final` under `paper`. What was measured is also
written to benchmarks/results/claims.json, which the ledger reads.
"""

import argparse
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_fscore_support

from benchmarks.environment import describe
from benchmarks.ingredients import variant
from cifar_pipeline.artifacts import write_json
from cifar_pipeline.dataset.classes import Classes
from cifar_pipeline.dataset.table import read_table
from cifar_pipeline.errors import DivergedError
from cifar_pipeline.evaluation.metrics import Predictions
from cifar_pipeline.inputs.batches import Images, load_images
from cifar_pipeline.paths import Workspace
from cifar_pipeline.reports.runs import load_runs
from cifar_pipeline.reports.statements import (
    Measurement,
    judge_statements,
    load_measurements,
    of_runs,
)
from cifar_pipeline.saying import say
from cifar_pipeline.settings.reading import load_params
from cifar_pipeline.settings.recipe import Recipe
from cifar_pipeline.training.checkpoints import Checkpoints
from cifar_pipeline.training.fit import train

STUDY = "small_b0"
SEEDS = (123, 7, 19)
SMALL: dict[str, Any] = {
    "image_size": 64,
    "train_per_class": 20,
    "validation_per_class": 10,
    "epochs": 3,
    "batch_size": 32,
    "augmentation": {
        "order": "native",
        "vertical_flip": 0.0,
        "grid_distortion": 0.0,
        "elastic": 0.0,
    },
    "plateau": None,
    "early_stopping": None,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "rate 0.001": {"optimizer": {"learning_rate": 1e-3}},
    "the reported settings": {},
    "rate 0.00001": {"optimizer": {"learning_rate": 1e-5}},
    "dropout 0.2": {"architecture": {"dropout": 0.2}},
    "RMSProp": {"optimizer": {"name": "rmsprop"}},
    "rate 0.01": {"optimizer": {"learning_rate": 1e-2}},
}
CHANCE = 0.01
ANIMALS = (
    "aquatic_mammals",
    "fish",
    "insects",
    "large_carnivores",
    "large_omnivores_and_herbivores",
    "medium_mammals",
    "non-insect_invertebrates",
    "reptiles",
    "small_mammals",
)
"""Superclasses, as the archive spells them."""
RESAMPLES = 1000


def figures_of(
    recipe: Recipe, training: Images, validation: Images, checkpoints: Checkpoints
) -> dict[str, float]:
    """What a training reaches. One whose loss is no longer finite is at chance."""
    try:
        trained = train(recipe, training, validation, checkpoints)
    except DivergedError:
        return {"accuracy": CHANCE}
    best = trained.best
    assert best.val_accuracy is not None and best.val_loss is not None  # noqa: PT018
    said = trained.model.predict(training.pixels, batch_size=250, verbose=0)
    learned = float((said.argmax(axis=1) == training.label).mean())
    return {
        "accuracy": best.val_accuracy,
        "loss": best.val_loss,
        "gap": learned - best.val_accuracy,
    }


def trainings(home: Workspace, work: Path, *, made: bool) -> Iterator[Measurement]:
    """Those of the study, each read from `work` if it was made before.

    Args:
        made: leave out those that have not been made yet.
    """
    base = variant(load_params(home.params).under("paper").recipe("efficientnet_b0"), SMALL)
    for setting, changes in SETTINGS.items():
        for seed in SEEDS:
            done = work / f"{setting} {seed}.json".replace(" ", "_")
            if not done.is_file():
                if made:
                    continue
                say(f"{setting}, seed {seed}")
                recipe = variant(base, changes | {"seed": seed})
                training = load_images(
                    home.table, home.splits, "train", per_class=recipe.train_per_class, seed=seed
                )
                validation = load_images(
                    home.table,
                    home.splits,
                    "validation",
                    per_class=recipe.validation_per_class,
                    seed=seed,
                )
                identity = hashlib.sha256(recipe.model_dump_json().encode()).hexdigest()
                checkpoints = Checkpoints(done.with_suffix(""), identity)
                write_json(done, figures_of(recipe, training, validation, checkpoints))
                checkpoints.remove()
            figures = json.loads(done.read_text(encoding="utf-8"))
            yield Measurement(study=STUDY, setting=setting, seed=seed, figures=figures)


def classes_of(predictions: Predictions, classes: Classes) -> dict[str, float]:
    """Recall and F1 of cupboards and roads, and their means over animals and people.

    Each has the 95% interval of the percentile bootstrap over the test images.
    """
    true, predicted = predictions.true, predictions.predicted
    superclass = np.array(classes.coarse_names)[classes.coarse_of]
    groups = {
        "{} of wardrobe": np.array(classes.names) == "wardrobe",
        "{} of road": np.array(classes.names) == "road",
        "mean {} of animals": np.isin(superclass, ANIMALS),
        "mean {} of people": superclass == "people",
    }

    def measured(rows: np.ndarray) -> dict[str, float]:
        _, recall, f1, _ = precision_recall_fscore_support(
            true[rows], predicted[rows], labels=np.arange(len(superclass)), zero_division=0
        )
        return {
            name.format(metric): float(of_class[group].mean())
            for name, group in groups.items()
            for metric, of_class in (("recall", recall), ("F1", f1))
        }

    generator = np.random.default_rng(0)
    n = len(true)
    drawn = [measured(generator.integers(n, size=n)) for _ in range(RESAMPLES)]
    figures: dict[str, float] = {}
    for name, value in measured(np.arange(n)).items():
        low, high = np.percentile([found[name] for found in drawn], [2.5, 97.5])
        figures |= {name: value, f"{name}_low": float(low), f"{name}_high": float(high)}
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for finished trainings")
    parser.add_argument(
        "--made", action="store_true", help="print what was made, and train nothing"
    )
    arguments = parser.parse_args()
    home = Workspace.current()
    predictions = home.predictions("ladder7_final")
    kept = [found for found in load_measurements(home.recorded_studies) if found.study != STUDY]
    if predictions.is_file():
        figures = classes_of(
            Predictions.read(predictions), Classes.of(read_table(home.table), "fine")
        )
        kept = [Measurement(study="paper", setting="ladder7_final", seed=123, figures=figures)]
    study = list(trainings(home, arguments.work, made=arguments.made))
    measurements = [*kept, *study]
    write_json(home.recorded_studies, [found.model_dump() for found in measurements])

    print("# Claims that are not one figure\n\n`python -m benchmarks.claims --work FOLDER`, with")
    print(f"`CIFAR_WEIGHTS_EFFICIENTNET_B0` set; {describe()}.")
    print("The claims of [the reports](../../docs/ledger.md#the-five-reports), the study and the")
    print(
        "rules stand in [the ledger](../../docs/ledger.md#claims-that-are-not-one-figure). Each row"
    )
    print("is one training; its seed also chooses its images.\n")
    print("| setting | seed | accuracy, % | loss | gap, points |\n|---|---|---|---|---|")
    for found in study:
        accuracy = f"{100 * found.figures['accuracy']:.1f}"
        rest = [
            f"{found.figures['loss']:.3f}" if "loss" in found.figures else "not finite",
            f"{100 * found.figures['gap']:+.1f}" if "gap" in found.figures else "",
        ]
        print(f"| {' | '.join([found.setting, str(found.seed), accuracy, *rest])} |")
    print("\n## Verdicts\n")
    runs = of_runs(load_runs(home.recorded_runs))
    for judged in judge_statements([*runs, *measurements]):
        print(f"- {judged.statement.system}, {judged.statement.says}: {judged.verdict}")
        for examined in judged.examined:
            print(f"  - {examined.told}")


if __name__ == "__main__":
    main()
