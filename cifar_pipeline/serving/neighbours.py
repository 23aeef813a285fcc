"""The training images that are most like a photograph, by what a network sees in them.

Features of some training images lie beside an exported model, so that nothing has to pass through
the network again: projected onto their principal axes, which keeps the file at about 2 MB.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.serving.exported import ExportedModel

NEIGHBOURS = "neighbours.npz"
KNOWN_PER_CLASS = 100
"""Training images of each class: as many as pass through a network in a minute on two cores."""
AXES = 64
ARRAYS = ("row_id", "directions", "mean", "axes")


@dataclass(frozen=True)
class Neighbours:
    """N training images, by the directions of their features."""

    row_id: np.ndarray
    """(N,) int32, into the table"""
    directions: np.ndarray
    """(N, axes) float32 of length 1, in the precision of float16"""
    mean: np.ndarray
    """(D,) float32, of the features"""
    axes: np.ndarray
    """(axes, D) float32"""

    @classmethod
    def of(cls, model: ExportedModel, row_id: np.ndarray, pixels: np.ndarray) -> "Neighbours":
        """Ask the model for the features of the images.

        Args:
            row_id: (N,) of the images in the table.
            pixels: (N, 32, 32, 3) uint8.
        """
        from sklearn.decomposition import PCA  # takes a second, and only here

        features = np.concatenate([answers.features for answers in model.answers(pixels)])
        found = PCA(min(AXES, *features.shape), svd_solver="covariance_eigh").fit(features)
        axes, mean = found.components_.astype(np.float32), found.mean_.astype(np.float32)
        directions = _directions(features, mean, axes).astype(np.float16)
        return cls(row_id.astype(np.int32), directions.astype(np.float32), mean, axes)

    @classmethod
    def read(cls, path: Path) -> "Neighbours":
        """Read what `write` wrote.

        Raises: PipelineError when it is missing or damaged.
        """
        if not path.is_file():
            raise PipelineError(
                f"{path} is missing; make it with `cifar export {path.parent.name}`"
            )
        try:
            with np.load(path, allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in ARRAYS}
        except Exception as error:  # numpy and zipfile raise what they like for damaged files
            raise PipelineError(
                f"{path} is damaged ({error}); make it again with `cifar export {path.parent.name}`"
            ) from None
        return cls(**{**found, "directions": found["directions"].astype(np.float32)})

    def write(self, path: Path) -> None:
        """Write the arrays; the same ones give the same bytes."""
        arrays = {name: getattr(self, name) for name in ARRAYS}
        np.savez(path, **{**arrays, "directions": self.directions.astype(np.float16)})

    def nearest(self, features: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The images whose features point most nearly where a photograph's do.

        Args:
            features: (D,) of one photograph.

        Returns: (k,) row ids, most similar first, and their cosine similarities.
        """
        direction = _directions(features[None], self.mean, self.axes)[0]
        similarity = self.directions @ direction
        first = np.argsort(-similarity, kind="stable")[:k]
        return self.row_id[first], similarity[first]


def _directions(features: np.ndarray, mean: np.ndarray, axes: np.ndarray) -> np.ndarray:
    projected = (features - mean) @ axes.T
    lengths = np.linalg.norm(projected, axis=1, keepdims=True)
    return projected / np.where(lengths > 0, lengths, 1)
