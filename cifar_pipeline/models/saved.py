"""A trained model on disk, read back. Light to import."""

import hashlib
import zipfile
from pathlib import Path

import keras
import numpy as np

from cifar_pipeline.errors import PipelineError

MODEL, HISTORY, CALIBRATION, PROVENANCE = (
    "model.keras",
    "history.csv",
    "calibration.json",
    "provenance.json",
)


def load_model(folder: Path) -> keras.Model:
    """The saved model: uint8 (N, 32, 32, 3) to logits (N, classes).

    Raises: PipelineError when it is missing or damaged.
    """
    path = folder / MODEL
    if not path.is_file():
        raise PipelineError(
            f"there is no trained model at {path}; materialize it first (`make run`, or `dvc pull`)"
        )
    try:
        return keras.models.load_model(path, compile=False)
    except (ValueError, OSError, zipfile.BadZipFile, KeyError) as error:
        raise PipelineError(
            f"{path} is damaged or not a Keras model ({error}); materialize it again"
        ) from None


def weights_digest(model: keras.Model) -> str:
    """Checksum of the values of all weights: the same for a model and its file, whenever that was written."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()
