"""What happens at the beginnings and ends of epochs, apart from telling people (progress.py)."""

from collections.abc import Sequence
from typing import Any

import keras

from cifar_pipeline.models.registry import set_phase
from cifar_pipeline.settings.recipe import Phase, Recipe
from cifar_pipeline.training.checkpoints import Checkpoint, Checkpoints
from cifar_pipeline.training.progress import Progress, best_of


class Phases(keras.callbacks.Callback):
    """Sets each epoch's image size (Howard & Gugger 2018; Tan & Le 2021) and what is frozen.

    The size is that of training and of validation.
    """

    def __init__(self, recipe: Recipe, model: keras.Model) -> None:
        super().__init__()
        self._recipe, self._classifier = recipe, model
        self._phase: Phase | None = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        phase = self._recipe.phase_at(epoch)
        if phase != self._phase:
            set_phase(self._classifier, phase)
            # Both are constants of the traced functions.
            self.model.make_train_function(force=True)
            self.model.make_test_function(force=True)
            self._phase = phase


class AveragedStatistics(keras.callbacks.Callback):
    """Gives all devices the mean of their moving statistics, before validation and before saving.

    For devices that each have moving statistics of their own.
    """

    def __init__(self, model: keras.Model) -> None:
        super().__init__()
        norms = [
            layer
            for layer in model._flatten_layers()
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
        self._statistics = [
            statistic for norm in norms for statistic in (norm.moving_mean, norm.moving_variance)
        ]

    def on_test_begin(self, logs: Any = None) -> None:
        for statistic in self._statistics:
            of_devices = statistic.value.values
            statistic.assign(sum(of_devices) / len(of_devices))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.on_test_begin()


class Keeper(keras.callbacks.Callback):
    """Keeps the best weights, and what a killed training resumes from.

    It must come after every other callback.

    Args:
        classifier: what is saved as the best; shares its weights with the model that trains.
        progress: has the history, including the epoch that ends.
        replayed: callbacks with a memory of their own, which they get back after a restart by being
            shown the history again.
        averages: swaps averaged weights into the model while it is validated, and while they are
            saved as the best.
        resumed: the checkpoint to resume from.
    """

    def __init__(
        self,
        classifier: keras.Model,
        checkpoints: Checkpoints,
        progress: Progress,
        *,
        replayed: Sequence[keras.callbacks.Callback],
        averages: keras.callbacks.SwapEMAWeights | None,
        resumed: Checkpoint | None,
    ) -> None:
        super().__init__()
        self._classifier, self._checkpoints, self._progress, self._replayed = (
            classifier,
            checkpoints,
            progress,
            replayed,
        )
        self._averages, self._resumed = averages, resumed
        self.kept = len(resumed.history) if resumed else 0
        """how many epochs a later training does not have to repeat"""

    def on_train_begin(self, logs: Any = None) -> None:
        if not self._resumed:
            return
        for record in self._resumed.history:
            for callback in self._replayed:
                callback.on_epoch_end(record.epoch - 1, {"val_loss": record.val_loss})
        # After the replay, which changes the learning rate again.
        for variable, value in zip(state_variables(self.model), self._resumed.state, strict=True):
            variable.assign(value)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        history = self._progress.records
        if best_of(history) is history[-1]:
            if self._averages:
                self._averages.on_test_begin()
            self._checkpoints.save_best(self._classifier, history[-1].epoch)
            if self._averages:
                self._averages.on_test_end()
        finished = self.model.stop_training or epoch + 1 == self.params["epochs"]
        self._checkpoints.save(state_variables(self.model), history, finished=finished)
        self.kept = history[-1].epoch


def state_variables(model: keras.Model) -> list[Any]:
    """All that a step depends on: weights, BatchNorm statistics and dropout's random states; the
    optimiser's step, learning rate, moments and averages."""
    return [*model.variables, *model.optimizer.variables]
