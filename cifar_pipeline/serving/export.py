"""From a trained model's folder to an exported file that was compared with it."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx

from cifar_pipeline.artifacts import read_json, replacing_folder
from cifar_pipeline.checks import Check
from cifar_pipeline.inputs.batches import Images, load_images
from cifar_pipeline.models.saved import CALIBRATION, PROVENANCE, load_labels, load_model
from cifar_pipeline.serving.conversion import to_onnx
from cifar_pipeline.serving.exported import MODEL, ExportedModel
from cifar_pipeline.serving.novelty import fit_threshold
from cifar_pipeline.settings.recipe import Target

PER_CLASS = 20
"""Validation images of each class that answers are compared on and the threshold is fitted on."""
LIMITS = {"float32": 1e-4, "bfloat16": 5e-2}
"""By the type that the trained model computes in: how far two probabilities may differ."""
KEPT = ("archive_sha256", "model_sha256", "profile", "finished", "code_revision", "generated")
"""What an exported file says of the training."""


def export_model(
    name: str, model: Path, table: Path, splits: Path, folder: Path
) -> tuple[list[Check], dict[str, Any]]:
    """Convert the model in the folder `model`, and compare the file's answers with the model's.

    Args:
        folder: written whole, or not at all.

    Returns: the check of the answers, and key figures.

    Raises: PipelineError when an input is missing, or the inputs do not belong together.
    """
    classifier, labels = load_model(model), load_labels(model)
    calibration = read_json(model / CALIBRATION, ("temperature", "n"))
    trained = read_json(model / PROVENANCE, KEPT)
    target: Target = "coarse" if len(labels.classes) == len(labels.superclasses) else "fine"
    images = _validation_images(table, splits, target)
    facts: dict[str, Any] = {
        "name": name,
        "labels": vars(labels),
        "temperature": calibration["temperature"],
        "threshold": None,
        "provenance": {key: trained[key] for key in KEPT},
    }
    with replacing_folder(folder) as new:
        path = new / MODEL
        converted = to_onnx(classifier, calibration["temperature"])
        _save(converted, facts, path)
        answers = list(ExportedModel(path).answers(images.pixels))
        probabilities = np.concatenate([answer.probabilities for answer in answers])
        if calibration["n"]:  # else it was trained on these images, and knows them too well
            facts["threshold"] = fit_threshold(probabilities)
            _save(converted, facts, path)
    check = _compared(classifier, calibration["temperature"], images.pixels, probabilities)
    return [check], {"threshold": facts["threshold"], "bytes": (folder / MODEL).stat().st_size}


def _save(model: onnx.ModelProto, facts: dict[str, Any], path: Path) -> None:
    texts = {
        key: json.dumps(fact, sort_keys=True, ensure_ascii=False) for key, fact in facts.items()
    }
    onnx.helper.set_model_props(model, dict(sorted(texts.items())))
    onnx.save(model, path)


def _validation_images(table: Path, splits: Path, target: Target) -> Images:
    images = load_images(table, splits, "validation", target)
    seen: dict[int, int] = {}
    rows = []
    for row, label in enumerate(images.label.tolist()):
        seen[label] = seen.get(label, 0) + 1
        if seen[label] <= PER_CLASS:
            rows.append(row)
    return images.take(np.array(rows))


def _compared(
    model: keras.Model, temperature: float, images: np.ndarray, found: np.ndarray
) -> Check:
    logits = model.predict(images, batch_size=250, verbose=0)
    expected = keras.ops.convert_to_numpy(keras.ops.softmax(logits / temperature))
    limit = max(LIMITS[layer.compute_dtype] for layer in model._flatten_layers() if layer.weights)
    difference = float(np.abs(expected - found).max())
    # Where the two likeliest are closer than the limit, rounding decides.
    first, second = np.sort(expected, axis=1)[:, :-3:-1].T
    clear = first - second > 2 * limit
    other = int((expected.argmax(1) != found.argmax(1))[clear].sum())
    return Check(
        "exported_answers_as_trained",
        difference <= limit and other == 0,
        {"images": len(images), "largest_difference": difference, "other_class": other},
        found=f"probabilities that differ by up to {difference:.2g} on {len(images):,} validation "
        f"images, and another likeliest class on {other}",
        limit=f"a difference of at most {limit:g}, and the same likeliest class",
        repair="Compare the versions of tf2onnx and onnxruntime with requirements/ and report "
        "these figures; the model itself is not at fault.",
    )
