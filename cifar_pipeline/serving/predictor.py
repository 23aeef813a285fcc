"""From image files to rows: what a model says of each, or why it says nothing."""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.models.guesses import Guess, likeliest
from cifar_pipeline.saying import say
from cifar_pipeline.serving.exported import BATCH, Answers, ExportedModel
from cifar_pipeline.serving.novelty import familiarity
from cifar_pipeline.serving.photographs import (
    PATIENT,
    Limits,
    Photograph,
    read_content,
    read_photograph,
)

TOP = 5
DECODERS = 2
"""Threads, which decode while the model computes. More gain nothing: Pillow holds Python's lock for
most of its decoding."""
LINE_EVERY_S = 5.0
COLUMNS = (
    *("file", "sha256", "width", "height", "rank", "class", "superclass", "probability"),
    *("none_of_these", "error", "model", "model_sha256"),
)


@dataclass(frozen=True)
class Source:
    """An image file, and what to call it."""

    name: str
    content: Path | bytes


@dataclass(frozen=True)
class Prediction:
    """What a model says of one file. With an `error` it says nothing."""

    source: Source
    sha256: str | None = None
    """the checksum of the file; None when it could not be read"""
    photograph: Photograph | None = None
    guesses: tuple[Guess, ...] = ()
    """likeliest first"""
    none_of_these: bool | None = None
    """whether it is unlike the images of the classes; None where the model has no threshold"""
    attention: np.ndarray | None = None
    """(h, w) float32 from 0 to 1: Grad-CAM of the likeliest class"""
    features: np.ndarray | None = None
    """(D,) float32, what the last layer sees"""
    error: str | None = None


class Predictor:
    """A model that is asked for the likeliest classes of image files.

    It may be used by several threads at once.

    Args:
        top: how many classes for each image.
        limits: what a file may cost.

    Raises: PipelineError when the model does not tell so many classes apart.
    """

    def __init__(self, model: ExportedModel, *, top: int = TOP, limits: Limits = PATIENT) -> None:
        classes = len(model.labels.classes)
        if not 1 <= top <= classes:
            raise PipelineError(
                f"the {top} likeliest classes were asked for, and '{model.name}' tells {classes} "
                f"apart; ask for 1 to {classes}"
            )
        self.model, self.top, self.limits = model, top, limits

    def predict(self, sources: Iterable[Source], batch: int = BATCH) -> Iterator[Prediction]:
        """A prediction for each file, in order. The next batch is decoded meanwhile."""
        if isinstance(sources, Sequence) and len(sources) == 1:  # threads would cost, not save
            yield from self._answered([self._read(sources[0])])
            return
        pool = ThreadPoolExecutor(DECODERS)
        try:
            decoded = _ahead(pool, self._read, sources, 2 * batch)
            while read := list(islice(decoded, batch)):
                yield from self._answered(read)
        finally:
            pool.shutdown(cancel_futures=True)  # nobody waits for them after an interruption

    def document(self, prediction: Prediction) -> dict[str, Any]:
        """A prediction as JSON values; `top` holds an object for each guess, best first."""
        photograph = prediction.photograph
        return {
            "file": prediction.source.name,
            "sha256": prediction.sha256,
            "width": photograph.width if photograph else None,
            "height": photograph.height if photograph else None,
            "top": [
                {
                    "rank": rank,
                    "class": guess.name,
                    "superclass": guess.superclass,
                    "probability": guess.probability,
                }
                for rank, guess in enumerate(prediction.guesses, 1)
            ],
            "none_of_these": prediction.none_of_these,
            "error": prediction.error,
            "model": self.model.name,
            "model_sha256": self.model.sha256,
        }

    def rows(self, prediction: Prediction) -> list[dict[str, Any]]:
        """The same as flat rows with the keys `COLUMNS`, one for each guess; one for an error."""
        document = self.document(prediction)
        guesses = document.pop("top") or [{}]
        return [dict.fromkeys(COLUMNS) | document | guess for guess in guesses]

    def _read(self, source: Source) -> Prediction:
        sha256 = None
        try:
            content = source.content
            if isinstance(content, Path):
                content = read_content(content, self.limits)
            sha256 = hashlib.sha256(content).hexdigest()
            return Prediction(source, sha256, read_photograph(content, self.limits))
        except PipelineError as error:
            return Prediction(source, sha256, error=str(error))

    def _answered(self, read: list[Prediction]) -> Iterator[Prediction]:
        images = [found.photograph.pixels for found in read if found.photograph]
        if not images:
            yield from read
            return
        answers = self.model.answer(np.stack(images))
        if not np.isfinite(answers.probabilities).all():
            raise PipelineError(
                f"'{self.model.name}' answered with numbers that are not finite, so its file is "
                f"damaged: {self.model.path}; export it again"
            )
        place = iter(range(len(images)))
        for found in read:
            yield self._with_answer(found, answers, next(place)) if found.photograph else found

    def _with_answer(self, read: Prediction, answers: Answers, place: int) -> Prediction:
        labels, threshold = self.model.labels, self.model.threshold
        probabilities = answers.probabilities[place]
        none_of_these = None
        if threshold is not None:
            none_of_these = bool(familiarity(probabilities[None])[0] < threshold)
        return Prediction(
            read.source,
            read.sha256,
            read.photograph,
            tuple(likeliest(labels, probabilities, self.top)),
            none_of_these,
            answers.attention[place],
            answers.features[place],
        )


def with_progress(predictions: Iterable[Prediction], total: int) -> Iterator[Prediction]:
    """The same predictions. If they take long, lines on stderr say how far they are."""
    start = last = monotonic()
    for done, prediction in enumerate(predictions, 1):
        yield prediction
        now = monotonic()
        if total > 1 and (now - last >= LINE_EVERY_S or (done == total and last > start)):
            last, speed = now, done / (now - start)
            say(
                f"{done:,} of {total:,} photographs, {speed:,.0f} images/s, about "
                f"{(total - done) / speed:.0f} s left"
            )


def _ahead(
    pool: ThreadPoolExecutor, read: Any, sources: Iterable[Source], ahead: int
) -> Iterator[Prediction]:
    """`map`, in order, with no more than `ahead` begun and not yet taken."""
    waiting: deque[Future[Prediction]] = deque()
    for source in sources:
        waiting.append(pool.submit(read, source))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
