"""An exported file whose convolutions compute with whole numbers of 8 bits, if it is as good.

benchmarks/results/quantisation.md has what was tried, and what the files are worth on test images.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from cifar_pipeline.serving.exported import INPUT

COMPUTED = ("Conv", "MaxPool", "Relu")
"""What computes in 8 bits. Head, softmax and Grad-CAM do not: they cost little."""
CALIBRATION_PER_CLASS = 5
"""Training images of each class that the ranges of values are taken from."""
TOGETHER = 50
"""Images in a batch of calibration. All batches are as large, which histograms need."""
MOST_LOST = 0.01
"""The share of images by which a file may be worse than the original."""


def quantised(model: onnx.ModelProto, images: np.ndarray) -> onnx.ModelProto:
    """Quantise statically, with a scale for each channel of the weights.

    Weights get seven bits: with eight, processors without VNNI overflow, and answer otherwise.

    Args:
        images: uint8 (N, 32, 32, 3), on which the ranges of values are measured.
    """
    prepared = onnx.ModelProto()
    prepared.CopyFrom(model)
    add_pre_process_metadata(prepared)  # it is simplified; without a word onnxruntime warns
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        quantize_static(
            prepared,
            path,
            Batches(images),
            op_types_to_quantize=[*COMPUTED],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
        )
        return onnx.load(path)


@dataclass(frozen=True)
class Loss:
    """The share of images that only the original has right, less those that only the other has."""

    share: float
    low: float
    high: float
    """of the 95% interval (Agresti and Min, 2005)"""

    @classmethod
    def of(cls, original: np.ndarray, other: np.ndarray) -> "Loss":
        """From whether each has each image right, (N,) bool."""
        lost, won = int((original & ~other).sum()), int((other & ~original).sum())
        # Half an image more in each cell keeps the coverage right where there are few.
        b, c, n = lost + 0.5, won + 0.5, len(original) + 2
        half = 1.96 * float(np.sqrt(b + c - (b - c) ** 2 / n)) / n
        centre = (b - c) / n
        return cls((lost - won) / len(original), centre - half, centre + half)

    @property
    def is_small(self) -> bool:
        """Whether it is surely less than MOST_LOST."""
        return self.high < MOST_LOST


class Batches(CalibrationDataReader):
    """What onnxruntime asks for images by."""

    def __init__(self, images: np.ndarray) -> None:
        self._batches: Iterator[np.ndarray] = iter(
            images[start : start + TOGETHER] for start in range(0, len(images), TOGETHER)
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}
