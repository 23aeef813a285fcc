"""Predictions and folders of models as reports read them, made without training anything."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cifar_pipeline.dataset.splits import archive_of
from cifar_pipeline.dataset.table import read_table
from cifar_pipeline.evaluation.evaluate import evaluate
from cifar_pipeline.evaluation.metrics import Predictions
from cifar_pipeline.evaluation.subsets import read_subsets
from cifar_pipeline.reports.leaderboard import Entry
from cifar_pipeline.reports.report import Inputs

PROVENANCE = {
    "profile": "smoke",
    "generated": True,
    "weights": {"name": "none"},
    "recipe": {"seed": 1, "image_size": 32, "architecture": {"name": "cnn9"}},
    "parameters": 12,
    "training_s": 3.5,
    "train_images": 1000,
    "validation_images": 200,
    "best_epoch": 2,
    "trainable_parameters": 10,
    "archive_sha256": "abc",
    "model_sha256": "weights",
    "inputs": {"cifar100.parquet": "def"},
    "versions": {"keras": "3.15.1"},
    "hardware": "a machine, 2 cores",
    "device": "cpu:0",
    "finished": "2026-01-01T00:00:00+00:00",
    "code_revision": "0123",
    "run": {"id": "456"},
}
CALIBRATION = {"temperature": 1.5, "n": 200, "loss_before": 2.0, "loss_after": 1.9}
HISTORY = {
    "epoch": [1, 2],
    "image_size": [16, 32],
    "loss": [4.0, 3.0],
    "accuracy": [0.1, 0.2],
    "val_loss": [4.1, 3.2],
    "val_accuracy": [0.1, 0.2],
    "seconds": [60.0, 120.0],
}
THREE_IN_FOUR = np.arange(200) % 4 > 0


def write_predicted(path, archive, labels, right, target="fine"):
    """Predictions of 200 test images: sure of the true class where `right`, else of the next."""
    classes = {"fine": 100, "coarse": 20}[target]
    probabilities = np.full((len(labels), classes), 0.001, np.float32)
    probabilities[np.arange(len(labels)), np.where(right, labels, (labels + 1) % classes)] = (
        1.001 - classes / 1000
    )
    columns = {
        "row_id": pa.array(np.arange(1000, 1000 + len(labels), dtype=np.int32)),
        f"{target}_label": pa.array(labels),
        **dict.fromkeys(
            ("probabilities", "mirrored"),
            pa.FixedSizeListArray.from_arrays(pa.array(probabilities.ravel()), classes),
        ),
    }
    attention = np.tile(np.array([0, 100, 100, 255], np.uint8), len(labels))
    columns["attention"] = pa.FixedSizeListArray.from_arrays(pa.array(attention), 4)
    origin = {"archive_sha256": archive, "model_sha256": "weights"}
    pq.write_table(pa.table(columns).replace_schema_metadata(origin), path)


def write_model(folder, **provenance):
    """What a report reads of a model's folder."""
    folder.mkdir()
    (folder / "provenance.json").write_text(json.dumps(PROVENANCE | provenance))
    (folder / "calibration.json").write_text(json.dumps(CALIBRATION))
    pd.DataFrame(HISTORY).to_csv(folder / "history.csv", index=False)
    return folder


def inputs_in(folder, table, subsets, labels, right, *, target="fine", **provenance):
    """Predictions of the test split and a model's folder."""
    write_predicted(
        folder / "predictions.parquet", archive_of(read_table(table)), labels, right, target
    )
    return Inputs(
        folder / "predictions.parquet",
        write_model(folder / "model", **provenance),
        table,
        subsets,
    )


def entry_of(folder, classes, inputs, labels, right, *, temperature=1.5, **provenance):
    """What the leaderboard reads of a model; its report lacks the pictures, which take seconds."""
    write_model(folder, **provenance)
    archive = archive_of(read_table(inputs.table))
    target = "fine" if len(classes.names) == 100 else "coarse"
    write_predicted(folder / "predictions.parquet", archive, labels, right, target)
    predicted = Predictions.read(folder / "predictions.parquet")
    metrics = evaluate(
        predicted, classes, read_subsets(inputs.subsets, predicted.row_id, archive), temperature
    ).metrics
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return Entry(folder, folder / "predictions.parquet", 0.0)


def recipe_with(**changes):
    return PROVENANCE["recipe"] | changes
