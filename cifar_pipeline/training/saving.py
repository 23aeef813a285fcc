"""Writing a trained model, and checking what was written.

One folder, whole or absent, with everything needed to use the model and to say where it came from.
"""

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cifar_pipeline.artifacts import replacing_folder
from cifar_pipeline.checks import Check
from cifar_pipeline.models.precision import rounding
from cifar_pipeline.models.saved import (
    CALIBRATION,
    HISTORY,
    LABELS,
    MODEL,
    PROVENANCE,
    Labels,
    load_model,
    weights_digest,
)
from cifar_pipeline.training.calibration import Calibration
from cifar_pipeline.training.fit import Training
from cifar_pipeline.training.keras_file import write_keras_file

DAMAGED = (
    "Train the model again. If it fails again, the installed Keras does not read back what it "
    "writes: compare its version with requirements/ and report these figures."
)


def save_training(
    training: Training,
    calibration: Calibration,
    labels: Labels,
    provenance: dict[str, Any],
    folder: Path,
) -> None:
    """Write `model.keras`, `labels.json`, `history.csv` (a row for each epoch), `calibration.json`
    and `provenance.json` to `folder`, replacing it."""
    with replacing_folder(folder) as new:
        write_keras_file(training.model, new / MODEL)
        rows = [record.row() for record in training.history]
        with (new / HISTORY).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
        contents = {
            LABELS: asdict(labels),
            CALIBRATION: asdict(calibration),
            PROVENANCE: provenance,
        }
        for name, content in contents.items():
            text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
            (new / name).write_text(text + "\n", encoding="utf-8")


def check_saved(training: Training, folder: Path, images: np.ndarray) -> list[Check]:
    """Compare the model in `folder` with the one that was trained (keras #20147).

    Args:
        images: (N, 32, 32, 3) uint8, on which both predict.
    """
    saved = load_model(folder)
    expected = training.model.predict(images, batch_size=len(images), verbose=0)
    # Not `predict`: to trace another prediction function takes longer than these few images.
    read_back = keras.ops.convert_to_numpy(saved(images, training=False))
    called = keras.ops.convert_to_numpy(saved(images))
    same_weights = weights_digest(saved) == weights_digest(training.model)
    limit = rounding(training.model)  # weights that differ at all are found by their checksum
    finite = all(np.isfinite(weight).all() for weight in saved.get_weights())
    return [
        Check(
            "finite_weights",
            bool(finite),
            {"parameters": saved.count_params()},
            found=f"{saved.count_params():,} weights, {'all' if finite else 'not all'} finite",
            limit="finite weights only",
            repair="Lower the recipe's learning rate and train again.",
        ),
        _compared("saved_predicts_as_trained", expected, read_back, limit, same_weights),
        _compared("called_predicts_as_trained", expected, called, limit, same_weights),
    ]


def _compared(
    name: str, expected: np.ndarray, found: np.ndarray, limit: float, same_weights: bool
) -> Check:
    largest, difference = float(np.abs(expected).max()), float(np.abs(expected - found).max())
    weights = "the same weights" if same_weights else "other weights"
    return Check(
        name,
        same_weights and difference <= limit * largest,
        {
            "images": len(expected),
            "largest_difference": difference,
            "largest_logit": largest,
            "limit": limit * largest,
            "same_weights": same_weights,
        },
        found=f"{weights}, and logits that differ by up to {difference:.2g} where the largest is "
        f"{largest:.3g}",
        limit=f"the same weights, and a difference of at most {limit * largest:.2g} ({limit:g} of "
        "the largest logit)",
        repair=DAMAGED,
    )
