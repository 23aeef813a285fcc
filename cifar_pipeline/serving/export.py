"""From a trained model's folder to an exported file that was compared with it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from cifar_pipeline.artifacts import read_json, replacing_folder, write_json
from cifar_pipeline.checks import Check
from cifar_pipeline.inputs.batches import Images, load_images
from cifar_pipeline.models.environment import import_keras
from cifar_pipeline.models.precision import rounding
from cifar_pipeline.models.saved import CALIBRATION, PROVENANCE, load_labels, load_model
from cifar_pipeline.serving.exported import FIGURES, MODEL, QUANTISED, ExportedModel
from cifar_pipeline.serving.neighbours import KNOWN_PER_CLASS, NEIGHBOURS, Neighbours
from cifar_pipeline.serving.novelty import fit_threshold
from cifar_pipeline.serving.quantisation import CALIBRATION_PER_CLASS, Loss, quantised
from cifar_pipeline.settings.recipe import Target

import_keras()
import keras  # noqa: E402  # quietly, so after the line above

from cifar_pipeline.serving.conversion import in_float32, to_onnx  # noqa: E402

PER_CLASS = 20
"""Validation images of each class that answers are compared on and the threshold is fitted on."""
KEPT = ("archive_sha256", "model_sha256", "profile", "finished", "code_revision", "generated")
"""What an exported file says of the training."""


def export_model(
    name: str, model: Path, table: Path, splits: Path, folder: Path
) -> tuple[list[Check], dict[str, Any]]:
    """Convert the model in the folder `model`, and compare the file's answers with the model's.

    Args:
        folder: written whole, or not at all.

    Returns: the check of the answers, and the figures that are written beside the file.

    Raises: PipelineError when an input is missing, or the inputs do not belong together.
    """
    calibration = read_json(model / CALIBRATION, ("temperature", "n"))
    temperature = calibration["temperature"]
    trained, labels = read_json(model / PROVENANCE, KEPT), load_labels(model)
    target: Target = "coarse" if len(labels.classes) == len(labels.superclasses) else "fine"
    images = _first_of_each_class(load_images(table, splits, "validation", target), PER_CLASS)
    facts: dict[str, Any] = {
        "name": name,
        "labels": vars(labels),
        "temperature": temperature,
        "threshold": None,
        "provenance": {key: trained[key] for key in KEPT},
    }
    # A GPU would round the convolutions that the file is compared with.
    with keras.device("cpu:0"), replacing_folder(folder) as new:
        classifier, path = load_model(model), new / MODEL
        converted = to_onnx(classifier, temperature)
        _save(converted, facts, path)
        probabilities = _asked(path, images.pixels)
        check = check_answers(classifier, temperature, images.pixels, probabilities)
        if calibration["n"]:  # else it was trained on these images, and knows them too well
            facts["threshold"] = fit_threshold(probabilities)
            _save(converted, facts, path)
        known = _first_of_each_class(load_images(table, splits, "train"), KNOWN_PER_CLASS)
        neighbours = Neighbours.of(ExportedModel(path), known.row_id, known.pixels)
        neighbours.write(new / NEIGHBOURS)
        figures = {
            "bytes": path.stat().st_size,
            "threshold": facts["threshold"],
            **check.details,
        }
        if calibration["n"]:
            seen = load_images(table, splits, "train", target, per_class=CALIBRATION_PER_CLASS)
            smaller = quantised(converted, seen.pixels)
            figures |= _keep_if_good(smaller, facts, new / QUANTISED, images, probabilities)
        write_json(new / FIGURES, figures)
    return [check], figures


def _keep_if_good(
    smaller: onnx.ModelProto,
    facts: dict[str, Any],
    path: Path,
    images: Images,
    original: np.ndarray,
) -> dict[str, Any]:
    """Write a quantised model to `path`, if it surely loses less than a point of accuracy.

    Args:
        images: of the validation split, on which that is judged.
        original: the probabilities that the original gives them.

    Returns: its figures, kept or not.
    """
    _save(smaller, facts, path)
    found = _asked(path, images.pixels)
    right, also_right = (p.argmax(axis=1) == images.label for p in (original, found))
    loss = Loss.of(right, also_right)
    figures = {
        "int8_kept": loss.is_small,
        "int8_bytes": path.stat().st_size,
        "int8_lost": loss.share,
        "int8_lost_low": loss.low,
        "int8_lost_high": loss.high,
    }
    if loss.is_small:
        _save(smaller, {**facts, "threshold": fit_threshold(found)}, path)
    else:
        path.unlink()
    return figures


def check_answers(
    model: keras.Model, temperature: float, images: np.ndarray, found: np.ndarray
) -> Check:
    """Compare the probabilities that an exported file gives images with the model's.

    A model that computes in half precision is compared with, and so are its weights in single
    precision, to which the file has to be as near as any.

    Args:
        images: uint8 (N, 32, 32, 3).
        found: (N, classes), of the file.
    """
    single = in_float32(model)
    references = [single] if single is model else [single, model]
    differences, limits, others = [], [], []
    for reference in references:
        logits = reference.predict(images, batch_size=250, verbose=0)
        expected = keras.ops.convert_to_numpy(keras.ops.softmax(logits / temperature))
        limits.append(rounding(reference))
        differences.append(float(np.abs(expected - found).max()))
        # Where the two likeliest are closer than that, rounding decides.
        first, second = np.sort(expected, axis=1)[:, :-3:-1].T
        clear = first - second > 2 * limits[-1]
        others.append(int((expected.argmax(1) != found.argmax(1))[clear].sum()))
    seen = " and ".join(f"{difference:.2g}" for difference in differences)
    allowed = " and ".join(f"{limit:g}" for limit in limits)
    whom = (
        "from the trained model"
        if single is model
        else ("from its weights in single precision and the trained model")
    )
    return Check(
        "exported_answers_as_trained",
        all(d <= limit for d, limit in zip(differences, limits, strict=True)) and not any(others),
        {
            "images": len(images),
            "largest_difference": max(differences),
            "other_class": max(others),
        },
        found=f"probabilities that are up to {seen} {whom} on {len(images):,} validation images, "
        f"and another likeliest class on {max(others)}",
        limit=f"at most {allowed}, and the same likeliest class",
        repair="Compare the versions of tf2onnx and onnxruntime with requirements/ and report "
        "these figures; the model itself is not at fault.",
    )


def _asked(path: Path, images: np.ndarray) -> np.ndarray:
    return np.concatenate([answer.probabilities for answer in ExportedModel(path).answers(images)])


def _save(model: onnx.ModelProto, facts: dict[str, Any], path: Path) -> None:
    texts = {
        key: json.dumps(fact, sort_keys=True, ensure_ascii=False) for key, fact in facts.items()
    }
    onnx.helper.set_model_props(model, dict(sorted(texts.items())))
    onnx.save(model, path)


def _first_of_each_class(images: Images, count: int) -> Images:
    seen: dict[int, int] = {}
    rows = []
    for row, label in enumerate(images.label.tolist()):
        seen[label] = seen.get(label, 0) + 1
        if seen[label] <= count:
            rows.append(row)
    return images.take(np.array(rows))
