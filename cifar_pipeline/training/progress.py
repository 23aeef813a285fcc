"""Training progress: lines for a person at a terminal, records for whoever stores or plots them."""

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras

from cifar_pipeline.errors import DivergedError
from cifar_pipeline.settings.recipe import Recipe

LINE_EVERY_S = 10.0


@dataclass(frozen=True)
class EpochRecord:
    """One row of `history.csv`. Losses are means over images, accuracies fractions."""

    epoch: int
    """counted from 1"""
    image_size: int
    """pixels a side"""
    loss: float
    accuracy: float
    """of training images as they were trained on: augmented, and mixed where the recipe mixes"""
    val_loss: float | None
    """None where there are no validation images"""
    val_accuracy: float | None
    learning_rate: float
    """at the end of the epoch"""
    images_per_s: float
    """training alone, validation excluded"""
    seconds: float
    """since training began, without the time in which it was dead"""

    def row(self) -> dict[str, float | None]:
        return asdict(self)


def best_of(history: Sequence[EpochRecord]) -> EpochRecord:
    """The epoch with the lowest validation loss, of those at the image size of the last one: losses of other sizes do not compare.

    Without validation images, the last one.
    """
    comparable = [
        record
        for record in history
        if record.image_size == history[-1].image_size and record.val_loss is not None
    ]
    return min(comparable, key=lambda record: record.val_loss or 0.0, default=history[-1])


class Progress(keras.callbacks.Callback):
    """Reports steps and epochs, and stops a training whose loss is no longer finite.

    Args:
        images: training images.
        work: what each epoch costs in any unit; tells how long the rest takes.
        report: called with every finished epoch and the seconds that the rest will take.
        history: epochs that were trained before; the next ones are added to it.
    """

    def __init__(
        self,
        recipe: Recipe,
        images: int,
        work: Sequence[float],
        report: Callable[[EpochRecord, float], None],
        history: Sequence[EpochRecord] = (),
    ) -> None:
        super().__init__()
        self.records = list(history)
        self._recipe, self._images, self._work, self._report = recipe, images, work, report

    def on_train_begin(self, logs: Any = None) -> None:
        self._last_line = time.monotonic()
        self._start = self._last_line - (self.records[-1].seconds if self.records else 0.0)
        if self.records:
            _say(
                f"epoch {len(self.records)}/{self._recipe.epochs} was the last whole one of a training that ended early; going on from it"
            )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch, self._epoch_start = epoch, time.monotonic()
        self._train_end: float | None = None

    def on_test_begin(self, logs: Any = None) -> None:
        self._train_end = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        loss = self._finite("training", float(logs["loss"]), batch)
        now = time.monotonic()
        if now - self._last_line >= LINE_EVERY_S:
            self._last_line = now
            done = (batch + 1) / self.params["steps"]
            elapsed = now - self._epoch_start
            left = (
                elapsed / done * (sum(self._work[self._epoch :]) / self._work[self._epoch] - done)
            )
            speed = done * self._images / elapsed
            _say(
                f"epoch {self._epoch + 1}/{self._recipe.epochs}  {done:4.0%}  loss {loss:.3f}  {speed:.0f} images/s  "
                f"{left / 60:.1f} min left"
            )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        now = time.monotonic()
        validated = "val_loss" in logs
        record = EpochRecord(
            epoch=epoch + 1,
            image_size=self._recipe.phase_at(epoch).size,
            loss=float(logs["loss"]),
            accuracy=float(logs["accuracy"]),
            val_loss=self._finite("validation", float(logs["val_loss"]), self.params["steps"] - 1)
            if validated
            else None,
            val_accuracy=float(logs["val_accuracy"]) if validated else None,
            learning_rate=self._learning_rate(),
            images_per_s=self._images / ((self._train_end or now) - self._epoch_start),
            seconds=now - self._start,
        )
        self.records.append(record)
        left = record.seconds / sum(self._work[: epoch + 1]) * sum(self._work[epoch + 1 :])
        validation = (
            f"validation loss {record.val_loss:.3f}  accuracy {record.val_accuracy:.1%}  "
            if validated
            else ""
        )
        _say(
            f"epoch {record.epoch}/{self._recipe.epochs} done  loss {record.loss:.3f}  accuracy {record.accuracy:.1%}  {validation}"
            f"{record.images_per_s:.0f} images/s  {left / 60:.1f} min left"
        )
        self._report(record, left)

    def _finite(self, kind: str, loss: float, batch: int) -> float:
        if not math.isfinite(loss):
            raise DivergedError(
                f"the {kind} loss became {loss} in epoch {self._epoch + 1}, step {batch + 1}, at learning rate "
                f"{self._learning_rate():.2g}; lower the recipe's learning rate"
            )
        return loss

    def _learning_rate(self) -> float:
        return float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
