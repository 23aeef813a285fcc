"""Training progress: lines for a person at a terminal, records for whoever stores or plots them."""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import keras

from cifar_pipeline.errors import PipelineError

LINE_EVERY_S = 10.0


@dataclass(frozen=True)
class EpochRecord:
    """One row of `history.csv`. Losses are means over images, accuracies fractions."""

    epoch: int
    """counted from 1"""
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    learning_rate: float
    """at the end of the epoch"""
    images_per_s: float
    """training alone, validation excluded"""
    seconds: float
    """since training began"""

    def row(self) -> dict[str, float]:
        return asdict(self)


class Progress(keras.callbacks.Callback):
    """Reports steps and epochs, and stops a training whose loss is no longer finite.

    Args:
        epochs, images: of the whole training, and per epoch.
        report: called with every finished epoch and the seconds that the rest will take.
    """

    def __init__(self, epochs: int, images: int, report: Callable[[EpochRecord, float], None]) -> None:
        super().__init__()
        self.records: list[EpochRecord] = []
        self._epochs, self._images, self._report = epochs, images, report

    def on_train_begin(self, logs: Any = None) -> None:
        self._start = self._last_line = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch, self._epoch_start = epoch, time.monotonic()

    def on_test_begin(self, logs: Any = None) -> None:
        self._train_end = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise PipelineError(
                f"the training loss became {loss} in epoch {self._epoch + 1}, step {batch + 1}, at learning rate "
                f"{self._learning_rate():.2g}; lower the recipe's learning rate"
            )
        now = time.monotonic()
        if now - self._last_line >= LINE_EVERY_S:
            self._last_line = now
            steps = self.params["steps"]
            done = (batch + 1) / steps
            speed = done * self._images / (now - self._epoch_start)
            left = (self._epochs - self._epoch - done) * self._images / speed
            _say(f"epoch {self._epoch + 1}/{self._epochs}  {done:4.0%}  loss {loss:.3f}  {speed:.0f} images/s  {left / 60:.1f} min left")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        now = time.monotonic()
        record = EpochRecord(
            epoch=epoch + 1,
            loss=float(logs["loss"]),
            accuracy=float(logs["accuracy"]),
            val_loss=float(logs["val_loss"]),
            val_accuracy=float(logs["val_accuracy"]),
            learning_rate=self._learning_rate(),
            images_per_s=self._images / (self._train_end - self._epoch_start),
            seconds=now - self._start,
        )
        self.records.append(record)
        left = (now - self._start) / len(self.records) * (self._epochs - epoch - 1)
        _say(
            f"epoch {record.epoch}/{self._epochs} done  loss {record.loss:.3f}  accuracy {record.accuracy:.1%}  "
            f"validation loss {record.val_loss:.3f}  accuracy {record.val_accuracy:.1%}  "
            f"{record.images_per_s:.0f} images/s  {left / 60:.1f} min left"
        )
        self._report(record, left)

    def _learning_rate(self) -> float:
        return float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
