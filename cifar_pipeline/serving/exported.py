"""An exported model, loaded and asked. No TensorFlow is needed, nor anything of the workspace."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from cifar_pipeline.artifacts import file_digest
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.models.saved import Labels

MODEL, QUANTISED, FIGURES = "model.onnx", "model.int8.onnx", "export.json"
INPUT = "image"
OUTPUTS = ("probabilities", "logits", "features", "attention")
SIDE = 32
"""Height and width in pixels of the images that the networks were trained on."""
BATCH = 64
FACTS = ("name", "labels", "temperature", "threshold", "provenance")
"""What an exported file says of itself, as JSON."""


@dataclass(frozen=True)
class Answers:
    """What a model says of N images."""

    probabilities: np.ndarray
    """(N, classes) float32, calibrated"""
    logits: np.ndarray
    """(N, classes) float32"""
    features: np.ndarray
    """(N, D) float32, what the last layer sees"""
    attention: np.ndarray
    """(N, h, w) float32 from 0 to 1: Grad-CAM of the likeliest class"""

    def __len__(self) -> int:
        return len(self.logits)


class ExportedModel:
    """A session of onnxruntime on the CPU, and what the file says of itself.

    Args:
        path: the exported file.
        threads: how many compute; 0 for one a core.

    Raises: PipelineError when the file is missing, damaged, or not one of ours.
    """

    def __init__(self, path: Path, *, threads: int = 0) -> None:
        self.path = path
        if not path.is_file():
            raise PipelineError(
                f"there is no exported model at {path}; `cifar export NAME` exports a trained one"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # of its errors we speak ourselves
        # Threads that wait busily take the processor from those that decode the next photographs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
            stored = self._session.get_modelmeta().custom_metadata_map
            facts = {key: json.loads(stored[key]) for key in FACTS}
            self.labels = Labels(**facts["labels"])
        except (KeyError, ValueError, TypeError):
            raise PipelineError(
                f"{path} is an ONNX file, but not one that `cifar export` of this release wrote "
                f"(expected metadata: {', '.join(FACTS)}); export the model again"
            ) from None
        except Exception as error:  # onnxruntime has a type of error for each of its codes
            raise PipelineError(
                f"{path} is damaged or no ONNX file ({error!s:.200}); export the model again"
            ) from None
        self.name: str = facts["name"]
        self.temperature: float = facts["temperature"]
        self.threshold: float | None = facts["threshold"]
        """the familiarity below which an image is none of the classes; None where no validation
        images were left to fit it on"""
        self.provenance: dict[str, Any] = facts["provenance"]

    @cached_property
    def sha256(self) -> str:
        """The checksum of the file."""
        return file_digest(self.path, "sha256")

    def answer(self, images: np.ndarray) -> Answers:
        """What the model says of a batch.

        Args:
            images: uint8 (N, H, W, 3) RGB. Of other sizes than 32×32 the centre square is resized,
                as `serving.photographs` does it.

        Raises: PipelineError when onnxruntime cannot compute the file.
        """
        try:
            return Answers(*self._session.run(list(OUTPUTS), {INPUT: images}))
        except Exception as error:  # onnxruntime has a type of error for each of its codes
            raise PipelineError(
                f"{self.path} cannot be computed here ({' '.join(str(error).split()):.200}); "
                "export the model again"
            ) from None

    def answers(self, images: np.ndarray, batch: int = BATCH) -> Iterator[Answers]:
        """Batches of `answer`, in order."""
        for start in range(0, len(images), batch):
            yield self.answer(images[start : start + batch])
