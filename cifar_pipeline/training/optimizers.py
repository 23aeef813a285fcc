"""Optimiser and learning rate of a recipe, from Keras' own parts."""

from collections.abc import Sequence
from typing import Any

import keras

from cifar_pipeline.models.registry import part_of
from cifar_pipeline.settings.architectures import Part
from cifar_pipeline.settings.optimization import Optimizer, Schedule
from cifar_pipeline.training.muon import Muon

KINDS: dict[str, type[keras.optimizers.Optimizer]] = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "sgd": keras.optimizers.SGD,
    "rmsprop": keras.optimizers.RMSprop,
    "muon": Muon,
}


def build_optimizer(
    settings: Optimizer,
    schedule: Schedule,
    steps: int,
    epochs: int,
    stem_layers: tuple[str, ...] = (),
) -> keras.optimizers.Optimizer:
    """The Keras optimiser of a recipe that takes `steps` steps in each of `epochs`.

    Args:
        stem_layers: how the names of the layers begin that have the rate of the `stem`.
    """
    arguments: dict[str, Any] = {"global_clipnorm": settings.clip_norm}
    if settings.ema:
        arguments |= {"use_ema": True, "ema_momentum": settings.ema}
    if settings.momentum:
        arguments |= {"momentum": settings.momentum}
    if settings.nesterov:
        arguments |= {"nesterov": True}
    if settings.weight_decay or settings.name in ("adamw", "muon"):  # whose default is not zero
        arguments |= {"weight_decay": settings.weight_decay}
    if settings.name == "muon":
        arguments |= {"adam_weight_decay": settings.weight_decay}
    kind = _for_parts(KINDS[settings.name], settings.part_rates, stem_layers)
    optimizer = kind(_rate(settings.learning_rate, schedule, steps, epochs), **arguments)
    if settings.weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
    return optimizer


def _for_parts(
    kind: type[keras.optimizers.Optimizer],
    factors: dict[Part, float],
    stem_layers: tuple[str, ...],
) -> type[keras.optimizers.Optimizer]:
    """`kind` with a factor of its learning rate for each part of the network.

    Keras' MultiOptimizer would not do: it has no learning rate of its own, clips each part by
    itself, and cannot leave out what is frozen.
    """

    class ForParts(kind):  # type: ignore[misc,valid-type]
        _rate: Any = None

        def apply(self, grads: Any, trainable_variables: Any = None) -> None:
            """One step, for which the schedule is asked once.

            Keras asks again for every variable that decays, and each answer is traced and computed
            anew (benchmarks/steps.py).
            """
            self._rate = keras.ops.convert_to_tensor(self._get_current_learning_rate())
            try:
                super().apply(grads, trainable_variables)
            finally:
                self._rate = None  # it belongs to this step, or to its trace

        def _get_current_learning_rate(self) -> Any:
            return super()._get_current_learning_rate() if self._rate is None else self._rate

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            # The variable may be the backend's own, which has no path.
            path = self._trainable_variables[self._get_variable_index(variable)].path
            factor = factors.get(part_of(path, stem_layers), 1.0)
            super().update_step(gradient, variable, learning_rate * factor)

        def finalize_variable_values(self, var_list: Any) -> None:
            """Do nothing, because the best weights, averages included, are loaded after training.

            Keras would take the wrong averages for frozen variables.
            """

    ForParts.__name__ = kind.__name__
    return ForParts


def _rate(peak: float, schedule: Schedule, steps: int, epochs: int) -> Any:
    if schedule.name == "constant":
        return peak
    starts = [0, *(restart.after * steps for restart in schedule.restarts), epochs * steps]
    peaks = [peak, *(peak * restart.rate for restart in schedule.restarts)]
    cycles = [
        _cycle(top, schedule, end - start)
        for top, start, end in zip(peaks, starts[:-1], starts[1:], strict=True)
    ]
    return _Cycles(starts[:-1], cycles) if schedule.restarts else cycles[0]


def _cycle(
    peak: float, schedule: Schedule, steps: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    rising = round(steps * schedule.warmup) if schedule.name == "one_cycle" else 0
    return keras.optimizers.schedules.CosineDecay(
        0.0 if rising else peak,
        steps - rising,
        alpha=schedule.final,
        warmup_target=peak if rising else None,
        warmup_steps=rising,
    )


class _Cycles(keras.optimizers.schedules.LearningRateSchedule):
    """Cycles one after another.

    Keras' CosineDecayRestarts has no warm-up, and its lengths have a fixed ratio.
    """

    def __init__(
        self,
        starts: Sequence[int],
        cycles: Sequence[keras.optimizers.schedules.LearningRateSchedule],
    ) -> None:
        self._starts, self._cycles = starts, cycles

    def __call__(self, step: Any) -> Any:
        rate = self._cycles[0](step)
        for start, cycle in zip(self._starts[1:], self._cycles[1:], strict=True):
            rate = keras.ops.where(step < start, rate, cycle(step - start))
        return rate
