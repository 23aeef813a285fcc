"""Writing a trained model: one folder, whole or absent, with everything needed to say where it came from."""

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cifar_pipeline.artifacts import replacing_folder
from cifar_pipeline.checks import Check
from cifar_pipeline.models.saved import CALIBRATION, HISTORY, MODEL, PROVENANCE, load_model
from cifar_pipeline.training.calibration import Calibration
from cifar_pipeline.training.fit import Training


def save_training(
    training: Training, calibration: Calibration, provenance: dict[str, Any], folder: Path
) -> None:
    """Write `model.keras`, `history.csv` (a row an epoch), `calibration.json` and `provenance.json` to `folder`, replacing it."""
    with replacing_folder(folder) as new:
        training.model.save(new / MODEL)
        rows = [record.row() for record in training.history]
        with (new / HISTORY).open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
        for name, content in ((CALIBRATION, asdict(calibration)), (PROVENANCE, provenance)):
            (new / name).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def check_saved(training: Training, folder: Path, images: np.ndarray) -> list[Check]:
    """Finite weights, and the file predicting on `images` what the trained model predicts (keras #20147)."""
    saved = load_model(folder)
    # Called, not `predict`: building two prediction functions takes longer than these few images.
    before, after = (
        keras.ops.convert_to_numpy(model(images, training=False))
        for model in (training.model, saved)
    )
    difference = float(np.abs(before - after).max())
    finite = all(np.isfinite(weight).all() for weight in saved.get_weights())
    return [
        Check("finite_weights", bool(finite), {"parameters": saved.count_params()}),
        Check(
            "saved_predicts_as_trained",
            difference <= 1e-4,
            {"largest_difference": difference, "images": len(images)},
        ),
    ]
