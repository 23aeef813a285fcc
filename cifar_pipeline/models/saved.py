"""A trained model on disk, read back.

Light to import: Keras is imported when a model is loaded, so that whoever only needs the names of
classes, or of files, does not wait for it.
"""

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cifar_pipeline.artifacts import damaged_artifact, missing_artifact, read_json
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.models.environment import configure_keras

if TYPE_CHECKING:
    import keras

MODEL, LABELS, HISTORY, CALIBRATION, PROVENANCE = (
    "model.keras",
    "labels.json",
    "history.csv",
    "calibration.json",
    "provenance.json",
)


@dataclass(frozen=True)
class Labels:
    """What a model's logits stand for: the content of `labels.json`."""

    classes: list[str]
    """names in the order of the logits"""
    superclasses: list[str]
    """names of the 20 superclasses"""
    superclass_of: list[int]
    """for each class, the place of its superclass; a model of the superclasses has 0 to 19"""


def load_model(folder: Path) -> "keras.Model":
    """The saved model: uint8 (N, 32, 32, 3) to logits (N, classes).

    Loaded in Keras' safe mode, in which a file cannot run code of its own (no Lambda layers).

    Raises: PipelineError when it is missing or damaged.
    """
    path = folder / MODEL
    if not path.is_file():
        raise PipelineError(
            f"there is no trained model at {path}; materialize it first (`make run`, or `dvc pull`)"
        )
    configure_keras()
    import keras  # noqa: PLC0415  # heavy; see above

    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras checks little of a file, so that anything may be raised
        raise PipelineError(
            f"{path} is damaged or not a Keras model ({' '.join(str(error).split()):.200}); "
            "materialize it again"
        ) from None


def load_labels(folder: Path) -> Labels:
    """The names of the classes that the model in `folder` tells apart.

    Raises: PipelineError when the file is missing or damaged.
    """
    keys = ("classes", "superclasses", "superclass_of")
    content = read_json(folder / LABELS, keys)
    return Labels(**{key: content[key] for key in keys})


def load_epochs(folder: Path) -> dict[int, dict[str, float]]:
    """The figures of each epoch of the training of the model in `folder`, without empty ones.

    Raises: PipelineError when the file is missing or damaged.
    """
    path = folder / HISTORY
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {
                int(row.pop("epoch")): {key: float(value) for key, value in row.items() if value}
                for row in csv.DictReader(file)
            }
    except FileNotFoundError:
        raise missing_artifact(path) from None
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise damaged_artifact(path, error) from None


def weights_digest(model: "keras.Model") -> str:
    """Checksum of the values of all weights, which a model and its file have in common."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()
