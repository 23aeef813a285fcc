"""The likeliest classes of an image, by name."""

from dataclasses import dataclass

import numpy as np

from cifar_pipeline.models.saved import Labels


@dataclass(frozen=True)
class Guess:
    """A class, and how likely it is."""

    name: str
    superclass: str
    probability: float
    """calibrated"""


def likeliest(labels: Labels, probabilities: np.ndarray, k: int = 5) -> list[Guess]:
    """The k likeliest classes, likeliest first; of equally likely ones the first in `labels`.

    Args:
        probabilities: (classes,) of one image.
    """
    first = np.argsort(-probabilities, kind="stable")[:k].tolist()
    return [
        Guess(
            labels.classes[label],
            labels.superclasses[labels.superclass_of[label]],
            float(probabilities[label]),
        )
        for label in first
    ]
