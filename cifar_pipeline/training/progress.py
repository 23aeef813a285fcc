"""Training progress: lines for a person at a terminal, records for whoever stores or plots them."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras

from cifar_pipeline.errors import DivergedError
from cifar_pipeline.saying import say
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
    """since training began, without the time between an interruption and its resumption"""

    def row(self) -> dict[str, float | None]:
        return asdict(self)


def best_of(history: Sequence[EpochRecord]) -> EpochRecord:
    """The epoch with the lowest validation loss among those at the image size of the last one.

    Losses at other sizes do not compare. Without validation images it is the last epoch.
    """
    comparable = [
        record
        for record in history
        if record.image_size == history[-1].image_size and record.val_loss is not None
    ]
    return min(comparable, key=lambda record: record.val_loss or 0.0, default=history[-1])


class Progress(keras.callbacks.Callback):
    """Reports steps and epochs, and stops a training whose loss is no longer finite.

    The first step of an epoch also pays for tracing, so estimates begin after it.

    Args:
        images: training images.
        work: what each epoch costs, in any unit; the time left is estimated by it.
        on_epoch: called with every finished epoch and the seconds that the rest will take.
        history: epochs that were trained before; the next ones are added to it.
    """

    def __init__(
        self,
        recipe: Recipe,
        images: int,
        work: Sequence[float],
        on_epoch: Callable[[EpochRecord, float], None],
        history: Sequence[EpochRecord] = (),
    ) -> None:
        super().__init__()
        self.records = list(history)
        self._recipe, self._images, self._work, self._on_epoch = recipe, images, work, on_epoch
        self._tracing = 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        self._last_line = time.monotonic()
        self._start = self._last_line - (self.records[-1].seconds if self.records else 0.0)
        if self.records:
            say(f"resuming after epoch {len(self.records)}/{self._recipe.epochs}")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch
        self._epoch_start = self._first_step_end = time.monotonic()
        self._train_end: float | None = None
        phase = self._recipe.phase_at(epoch)
        if epoch == len(self.records) == 0 or phase != self._recipe.phase_at(epoch - 1):
            steps = self.params["steps"]
            say(
                f"epoch {epoch + 1}/{self._recipe.epochs} begins: {steps} "
                f"{'step' if steps == 1 else 'steps'} at {phase.size}×{phase.size} pixels, of "
                "which the first takes longest"
            )

    def on_test_begin(self, logs: Any = None) -> None:
        self._train_end = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        loss = self._finite("training", float(logs["loss"]), batch)
        now = time.monotonic()
        if batch == 0:
            self._first_step_end = now
        elif now - self._last_line >= LINE_EVERY_S:
            self._last_line = now
            steps, each = self.params["steps"], (now - self._first_step_end) / batch
            epochs_left = sum(self._work[self._epoch + 1 :]) / self._work[self._epoch]
            left = each * (steps - batch - 1 + steps * epochs_left)
            say(
                f"epoch {self._epoch + 1}/{self._recipe.epochs}  step {batch + 1} of {steps}  "
                f"loss {loss:.3f}  {self._recipe.batch_size / each:.0f} images/s  "
                f"{left / 60:.1f} min left"
            )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        now = time.monotonic()
        validated, steps = "val_loss" in logs, self.params["steps"]
        train_end = self._train_end or now
        if steps > 1:
            each = (train_end - self._first_step_end) / (steps - 1)
            self._tracing += max(0.0, self._first_step_end - self._epoch_start - each)
        record = EpochRecord(
            epoch=epoch + 1,
            image_size=self._recipe.phase_at(epoch).size,
            loss=float(logs["loss"]),
            accuracy=float(logs["accuracy"]),
            val_loss=self._finite("validation", float(logs["val_loss"]), steps - 1)
            if validated
            else None,
            val_accuracy=float(logs["val_accuracy"]) if validated else None,
            learning_rate=self._learning_rate(),
            images_per_s=self._images / (train_end - self._epoch_start),
            seconds=now - self._start,
        )
        self.records.append(record)
        done, to_do = sum(self._work[: epoch + 1]), sum(self._work[epoch + 1 :])
        left = (record.seconds - self._tracing) / done * to_do
        validation = (
            f"validation loss {record.val_loss:.3f}  accuracy {record.val_accuracy:.1%}  "
            if validated
            else ""
        )
        say(
            f"epoch {record.epoch}/{self._recipe.epochs} done  loss {record.loss:.3f}  "
            f"accuracy {record.accuracy:.1%}  {validation}"
            f"{record.images_per_s:.0f} images/s  {left / 60:.1f} min left"
        )
        self._on_epoch(record, left)

    def _finite(self, kind: str, loss: float, batch: int) -> float:
        if not math.isfinite(loss):
            raise DivergedError(
                f"the {kind} loss became {loss} in epoch {self._epoch + 1}, step {batch + 1}, at "
                f"learning rate {self._learning_rate():.2g}; lower the recipe's learning rate"
            )
        return loss

    def _learning_rate(self) -> float:
        return float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))


def say_interrupted(kept: int, epochs: int) -> None:
    """Say where the next run takes up a training of which `kept` whole epochs are on disk."""
    if kept:
        say(f"interrupted; the next run resumes after epoch {kept}/{epochs}")
    else:
        say(f"interrupted before the end of epoch 1/{epochs}; the next run starts anew")
