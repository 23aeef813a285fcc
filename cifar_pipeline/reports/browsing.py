"""The test split with a model's answers, to look through: what to show, and in which order."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa

from cifar_pipeline.artifacts import read_json
from cifar_pipeline.dataset.classes import Classes
from cifar_pipeline.dataset.splits import archive_of
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.evaluation.calibration import scale
from cifar_pipeline.evaluation.metrics import Predictions
from cifar_pipeline.models.guesses import Guess, likeliest
from cifar_pipeline.models.saved import CALIBRATION, PROVENANCE, Labels
from cifar_pipeline.paths import Workspace

Show = Literal["all images", "mistakes", "most confident mistakes", "near-duplicates"]
SHOWS: tuple[Show, ...] = get_args(Show)


@dataclass(frozen=True)
class Duplicate:
    """Another image that is nearly the same."""

    row_id: int
    split: str
    """upstream's: `train` or `test`"""
    similarity: float
    mirrored: bool


@dataclass(frozen=True)
class Answer:
    """What a model said of one test image."""

    row_id: int
    name: str
    """the true class"""
    superclass: str
    guesses: list[Guess]
    """the five likeliest classes, likeliest first"""
    duplicate: Duplicate | None

    @property
    def right(self) -> bool:
        return self.guesses[0].name == self.name


@dataclass(frozen=True)
class TestSplit:
    """The test images that a model's predictions are of."""

    __test__ = False  # no test of pytest's

    predicted: Predictions
    """with calibrated probabilities"""
    classes: Classes
    duplicates: dict[int, Duplicate]
    """by row id, the most similar image of each test image that has one; most similar first"""

    @classmethod
    def read(
        cls, home: Workspace, model: str, table: pa.Table, duplicates: pa.Table
    ) -> "TestSplit":
        """The answers of the model `model`.

        Args:
            table: of the data set, with the columns fine_label and coarse_label.
            duplicates: as `find_duplicates` returns them.

        Raises: PipelineError when the predictions are missing, or are of another model or another
            table than those at hand.
        """
        path, folder = home.predictions(model), home.model(model)
        predicted = Predictions.read(path)
        again = f"make them again with `cifar run --model {model}`"
        if predicted.archive_sha256 != archive_of(table):
            raise PipelineError(
                f"{path} is stale: it was made from another archive than {home.table}; {again}"
            )
        trained = read_json(folder / PROVENANCE, ("model_sha256",))["model_sha256"]
        if predicted.model_sha256 != trained:
            raise PipelineError(f"{path} is stale: {model} has been trained anew since; {again}")
        temperature = read_json(folder / CALIBRATION, ("temperature",))["temperature"]
        calibrated = Predictions(
            **{**vars(predicted), "probabilities": scale(predicted.probabilities, temperature)}
        )
        return cls(calibrated, Classes.of(table, predicted.target), _most_similar(duplicates))

    def places(
        self, show: Show = "all images", superclass: str | None = None, name: str | None = None
    ) -> np.ndarray:
        """Which images to show, in order; places among the predictions.

        Args:
            superclass: only images of this superclass.
            name: only images of this class.
        """
        predicted, classes = self.predicted, self.classes
        wanted = np.ones(len(predicted.true), bool)
        if superclass:
            wanted &= classes.coarse_of[predicted.true] == classes.coarse_names.index(superclass)
        if name:
            wanted &= predicted.true == classes.names.index(name)
        if show == "near-duplicates":
            wanted &= np.isin(predicted.row_id, list(self.duplicates))
        elif show != "all images":
            wanted &= predicted.predicted != predicted.true
        places = np.flatnonzero(wanted)
        if show == "most confident mistakes":
            confidence = predicted.probabilities[places].max(axis=1)
            return places[np.argsort(-confidence, kind="stable")]
        if show == "near-duplicates":
            similarity = [self.duplicates[row].similarity for row in predicted.row_id[places]]
            return places[np.argsort(-np.array(similarity), kind="stable")]
        return places

    def answers(self, places: np.ndarray) -> list[Answer]:
        """What the model said of the images at `places`."""
        labels = self._labels
        answers = []
        for place in places.tolist():
            true, row_id = self.predicted.true[place], int(self.predicted.row_id[place])
            answers.append(
                Answer(
                    row_id,
                    labels.classes[true],
                    labels.superclasses[labels.superclass_of[true]],
                    likeliest(labels, self.predicted.probabilities[place]),
                    self.duplicates.get(row_id),
                )
            )
        return answers

    @property
    def _labels(self) -> Labels:
        classes = self.classes
        return Labels(classes.names, classes.coarse_names, classes.coarse_of.tolist())


def _most_similar(duplicates: pa.Table) -> dict[int, Duplicate]:
    found: dict[int, Duplicate] = {}
    rows: list[dict[str, Any]] = duplicates.to_pylist()
    for row in rows:
        duplicate = Duplicate(
            row["other_row_id"], row["other_split"], row["similarity"], row["mirrored"]
        )
        found.setdefault(row["row_id"], duplicate)
    return found
