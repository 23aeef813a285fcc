"""Learning rate over the steps of a training."""

from typing import Any

import keras

from cifar_pipeline.recipes import Optimizer, Schedule


@keras.saving.register_keras_serializable(package="cifar_pipeline")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to `peak`, then half a cosine down to zero (Smith & Topin 2018, in fastai's form).

    Args:
        peak: highest learning rate.
        steps: optimiser steps of the whole training.
        warmup: share of the steps that rise.
    """

    def __init__(self, peak: float, steps: int, warmup: float) -> None:
        super().__init__()
        self.peak, self.steps, self.warmup = peak, steps, warmup

    def __call__(self, step: Any) -> Any:
        progress = keras.ops.cast(step, "float32") / max(self.steps, 1)
        rising = progress / max(self.warmup, 1e-9)
        falling = keras.ops.clip((progress - self.warmup) / max(1 - self.warmup, 1e-9), 0.0, 1.0)
        return self.peak * keras.ops.where(progress < self.warmup, rising, 0.5 * (1 + keras.ops.cos(3.14159265 * falling)))

    def get_config(self) -> dict[str, Any]:
        return {"peak": self.peak, "steps": self.steps, "warmup": self.warmup}


def build_optimizer(settings: Optimizer, schedule: Schedule, steps: int) -> keras.optimizers.Optimizer:
    """The Keras optimiser of a recipe that takes `steps` steps in all."""
    rate: Any = settings.learning_rate
    if schedule.name == "one_cycle":
        rate = OneCycle(settings.learning_rate, steps, schedule.warmup)
    if settings.name == "adam":
        return keras.optimizers.Adam(rate)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=settings.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
    return optimizer
