"""Training one recipe. Knows nothing of Dagster, and is never given the test split."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras

from cifar_pipeline.inputs.augmentation import Augmenter
from cifar_pipeline.inputs.batches import Batches, Images
from cifar_pipeline.models.registry import CLASSES, build_classifier
from cifar_pipeline.recipes import Recipe
from cifar_pipeline.training.device import require_device
from cifar_pipeline.training.progress import EpochRecord, Progress
from cifar_pipeline.training.schedules import build_optimizer

VALIDATION_BATCH = 250


@dataclass(frozen=True)
class Training:
    """What a training leaves."""

    model: keras.Model
    """complete, with the weights of the best epoch"""
    history: list[EpochRecord]
    device: str
    seconds: float

    @property
    def best(self) -> EpochRecord:
        return min(self.history, key=lambda record: record.val_loss)


def train(
    recipe: Recipe,
    training: Images,
    validation: Images,
    checkpoints: Path,
    report: Callable[[EpochRecord, float], None] = lambda record, left: None,
) -> Training:
    """Train `recipe`, keeping the weights of the epoch with the lowest mean validation loss.

    Args:
        checkpoints: folder for the best weights so far; created.
        report: called after each epoch with its record and the seconds left.

    Raises: PipelineError for a missing GPU or missing weights, and when the loss is no longer finite.
    """
    started = time.monotonic()
    device = require_device(recipe.device)
    keras.utils.set_random_seed(recipe.seed)
    classifier = build_classifier(recipe, training.channel_mean())
    steps = math.ceil(len(training) / recipe.batch_size) * recipe.epochs
    classifier.trainer.compile(
        optimizer=build_optimizer(recipe.optimizer, recipe.schedule, steps),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.label_smoothing),
        metrics=["accuracy"],
    )
    # Variables first made inside the traced step would have it traced twice.
    classifier.trainer.optimizer.build(classifier.trainer.trainable_variables)
    resized = recipe.augmentation.order == "resized"
    augmenter = Augmenter(recipe.augmentation, resize=recipe.image_size if resized else None)

    checkpoints.mkdir(parents=True, exist_ok=True)
    best = checkpoints / "best.weights.h5"
    progress = Progress(recipe.epochs, len(training), report)
    callbacks: list[keras.callbacks.Callback] = [
        progress,
        keras.callbacks.ModelCheckpoint(best, monitor="val_loss", save_best_only=True, save_weights_only=True),
    ]
    if recipe.plateau:
        plateau = recipe.plateau
        callbacks.append(keras.callbacks.ReduceLROnPlateau("val_loss", plateau.factor, plateau.patience, min_lr=plateau.minimum))
    if recipe.early_stopping:
        callbacks.append(keras.callbacks.EarlyStopping("val_loss", patience=recipe.early_stopping))
    classifier.trainer.fit(
        Batches(training, recipe.batch_size, augmenter=augmenter, seed=recipe.seed, one_hot=CLASSES),
        validation_data=Batches(validation, VALIDATION_BATCH, one_hot=CLASSES),
        epochs=recipe.epochs,
        shuffle=False,  # Batches shuffles by seed and epoch
        callbacks=callbacks,
        verbose=0,
    )
    classifier.trainer.load_weights(best)
    return Training(classifier.model, progress.records, device, time.monotonic() - started)
