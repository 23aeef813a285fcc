"""Small networks with random weights, in folders like those that a training writes."""

from dataclasses import asdict
from pathlib import Path

import keras
import pyarrow as pa

from cifar_pipeline.artifacts import write_json
from cifar_pipeline.dataset.classes import Classes
from cifar_pipeline.dataset.table import pixels
from cifar_pipeline.models.registry import build_classifier
from cifar_pipeline.models.saved import (
    CALIBRATION,
    LABELS,
    MODEL,
    PROVENANCE,
    Labels,
    weights_digest,
)
from cifar_pipeline.settings.recipe import Recipe
from cifar_pipeline.training.calibration import Calibration
from cifar_pipeline.training.keras_file import write_keras_file

PLAIN = {
    "weights": "none",
    "optimizer": {"name": "adam", "learning_rate": 1e-3},
    "batch_size": 4,
    "epochs": 1,
    "seed": 0,
}
CNN9 = {"architecture": {"name": "cnn9", "filters": [4, 8, 8], "units": 16}, "image_size": 32}


def save_model(
    folder: Path, table: pa.Table, *, calibrated_on: int = 200, temperature: float = 1.5, **recipe
) -> keras.Model:
    """Build the network of a recipe, CNN9 by default, and save it.

    Its weights are random, and its answers differ from image to image.

    Args:
        calibrated_on: how many validation images it says that it was calibrated on.
    """
    keras.utils.set_random_seed(0)
    made = Recipe.model_validate(PLAIN | (recipe or CNN9))
    model = build_classifier(made, (0.5, 0.5, 0.4)).model
    images = pixels(table)[:: table.num_rows // 100]
    head, logits = model.layers[-1].get_layer("logits"), model.predict(images, verbose=0)
    scale = 3 / (logits - logits.mean(axis=0)).std()
    kernel, bias = head.get_weights()
    head.set_weights([kernel * scale, (bias - logits.mean(axis=0)) * scale])
    folder.mkdir(parents=True)
    write_keras_file(model, folder / MODEL)
    classes = Classes.of(table, made.target)
    labels = Labels(classes.names, classes.coarse_names, classes.coarse_of.tolist())
    write_json(folder / LABELS, asdict(labels))
    write_json(
        folder / CALIBRATION,
        asdict(Calibration(temperature, calibrated_on, loss_before=None, loss_after=None)),
    )
    provenance = {
        "archive_sha256": "0" * 64,
        "model_sha256": weights_digest(model),
        "profile": "smoke",
        "finished": "2026-01-01T00:00:00+00:00",
        "code_revision": "unknown",
        "generated": True,
    }
    write_json(folder / PROVENANCE, provenance)
    return model
