"""Optimiser and learning rate of a recipe, from Keras' own parts."""

from typing import Any

import keras

from cifar_pipeline.models.registry import part_of
from cifar_pipeline.recipes import Optimizer, Part, Schedule

KINDS: dict[str, type[keras.optimizers.Optimizer]] = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "sgd": keras.optimizers.SGD,
    "rmsprop": keras.optimizers.RMSprop,
}


def build_optimizer(settings: Optimizer, schedule: Schedule, steps: int) -> keras.optimizers.Optimizer:
    """The Keras optimiser of a recipe that takes `steps` steps in all; one for each part where the parts' rates differ."""
    if not settings.part_rates:
        return _single(settings, schedule, steps)
    names: tuple[Part, ...] = ("stem", "body", "head")
    parts = {part: _single(settings, schedule, steps, settings.part_rates.get(part, 1.0), name=part) for part in names}
    return keras.optimizers.MultiOptimizer(lambda variable: parts[part_of(variable.path)])


def learning_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """The rate of the next step; of the network's body where the parts' rates differ."""
    if isinstance(optimizer, keras.optimizers.MultiOptimizer):
        optimizer = next(part for part in optimizer.optimizers if part.name == "body")
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def _single(
    settings: Optimizer, schedule: Schedule, steps: int, factor: float = 1.0, name: str | None = None
) -> keras.optimizers.Optimizer:
    arguments: dict[str, Any] = {"global_clipnorm": settings.clip_norm, "name": name}
    if settings.ema:
        arguments |= {"use_ema": True, "ema_momentum": settings.ema}
    if settings.momentum:
        arguments |= {"momentum": settings.momentum}
    if settings.nesterov:
        arguments |= {"nesterov": True}
    if settings.weight_decay or settings.name == "adamw":  # AdamW's own default is not zero
        arguments |= {"weight_decay": settings.weight_decay}
    optimizer = KINDS[settings.name](_rate(settings.learning_rate * factor, schedule, steps), **arguments)
    if settings.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
    return optimizer


def _rate(peak: float, schedule: Schedule, steps: int) -> Any:
    if schedule.name == "constant":
        return peak
    rising = round(steps * schedule.warmup) if schedule.name == "one_cycle" else 0
    return keras.optimizers.schedules.CosineDecay(
        0.0 if rising else peak, steps - rising, alpha=schedule.final, warmup_target=peak if rising else None, warmup_steps=rising
    )
