"""Training one recipe. It knows nothing of Dagster and is never given the test split."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.inputs.batches import Images, steps_per_epoch, training_batches
from cifar_pipeline.models.cost import epoch_costs
from cifar_pipeline.models.registry import build_classifier, count_parameters, set_phase
from cifar_pipeline.settings.recipe import Recipe
from cifar_pipeline.training.allocator import release_earlier_trainings
from cifar_pipeline.training.callbacks import AveragedStatistics, Keeper, Phases, state_variables
from cifar_pipeline.training.checkpoints import Checkpoints
from cifar_pipeline.training.device import (
    data_parallel,
    input_workers,
    is_out_of_memory,
    require_devices,
    share_statistics,
)
from cifar_pipeline.training.optimizers import build_optimizer
from cifar_pipeline.training.pointwise import multiply_pointwise
from cifar_pipeline.training.progress import EpochRecord, Progress, best_of, say_interrupted

VALIDATION_BATCH = 250


@dataclass(frozen=True)
class Training:
    """What a training results in."""

    model: keras.Model
    """complete, with the weights of the best epoch"""
    history: list[EpochRecord]
    devices: Sequence[str]
    parameters: tuple[int, int]
    """all and trainable ones, as `count_parameters` counts them"""

    @property
    def best(self) -> EpochRecord:
        return best_of(self.history)


def train(
    recipe: Recipe,
    training: Images,
    validation: Images | None,
    checkpoints: Checkpoints,
    on_epoch: Callable[[EpochRecord, float], None] = lambda record, left: None,
    *,
    devices: Sequence[str] = (),
) -> Training:
    """Train `recipe`, and keep the weights of the epoch with the lowest mean validation loss.

    Only epochs at the final image size are compared. Without validation images the last epoch's
    weights are kept. The training resumes from the last whole checkpoint and ends with the weights
    with which an uninterrupted one ends (on a CPU, to the bit).

    Args:
        on_epoch: called after each epoch with its record and the seconds left.
        devices: as `keras.distribution.list_devices` names them; default: every GPU, or the CPU.

    Raises: PipelineError for a missing GPU or missing weights, and when the loss is no longer
        finite.
    """
    devices = devices or require_devices(recipe.device, recipe.cpu_devices)
    own_statistics = devices[0].startswith("cpu") and recipe.cpu_devices > 1
    release_earlier_trainings()
    with data_parallel(devices, recipe.batch_size):
        keras.utils.set_random_seed(recipe.seed)
        classifier = build_classifier(recipe, training.channel_mean())
        parameters = count_parameters(classifier.model)
        trainer, steps = classifier.trainer, steps_per_epoch(training, recipe.batch_size)
        if devices[0].startswith("cpu"):
            multiply_pointwise(trainer)
        if len(devices) > 1 and not own_statistics:
            share_statistics(trainer)
        trainer.compile(
            optimizer=build_optimizer(
                recipe.optimizer,
                recipe.schedule,
                steps,
                recipe.epochs,
                recipe.architecture.stem_layers,
            ),
            loss=keras.losses.CategoricalCrossentropy(
                from_logits=True, label_smoothing=recipe.label_smoothing
            ),
            metrics=["accuracy"],
            # TensorFlow's XLA makes EfficientNet slower on a CPU, and has no bicubic resizing on a
            # GPU (tensorflow #108660).
            jit_compile=keras.backend.backend() != "tensorflow",
        )
        # Now, while nothing is frozen and before a checkpoint is restored into it.
        trainer.optimizer.build(trainer.trainable_variables)
        if len(devices) == 1:  # for several devices Keras does it
            _build_metrics(trainer)
        resumed = checkpoints.load([tuple(variable.shape) for variable in state_variables(trainer)])
        work = epoch_costs(trainer, recipe)
        progress = Progress(
            recipe, len(training), work, on_epoch, resumed.history if resumed else []
        )
        if not (resumed and resumed.finished):
            remembering = _remembering_callbacks(recipe)
            averages = keras.callbacks.SwapEMAWeights() if recipe.optimizer.ema else None
            keeper = Keeper(
                classifier.model,
                checkpoints,
                progress,
                replayed=remembering,
                averages=averages,
                resumed=resumed,
            )
            first = len(progress.records)
            try:
                trainer.fit(
                    training_batches(
                        training, recipe, first_epoch=first, workers=input_workers(devices)
                    ),
                    steps_per_epoch=steps,
                    validation_data=(validation.pixels, validation.one_hot())
                    if validation
                    else None,
                    validation_batch_size=VALIDATION_BATCH,
                    shuffle=False,  # the batches are
                    initial_epoch=first,
                    epochs=recipe.epochs,
                    callbacks=[
                        Phases(recipe, classifier.trainer),
                        *([AveragedStatistics(trainer)] if own_statistics else []),
                        *([averages] if averages else []),
                        progress,
                        *remembering,
                        keeper,
                    ],
                    verbose=0,
                )
            except Exception as error:
                if is_out_of_memory(error):
                    size = recipe.phase_at(len(progress.records)).size
                    raise PipelineError(
                        f"{devices[0]} has too little memory for a batch of {recipe.batch_size} "
                        f"images of {size} pixels; try `batch_size: {recipe.batch_size // 2}` in "
                        "the recipe"
                    ) from None
                raise
            except BaseException:  # Ctrl-C, or what Dagster raises when it gets SIGTERM
                say_interrupted(keeper.kept, recipe.epochs)
                raise
        result = Training(classifier.model, progress.records, devices, parameters)
        set_phase(classifier.model, recipe.phase_at(recipe.epochs))
        classifier.model.load_weights(checkpoints.best_path(result.best.epoch))
        return result


def _build_metrics(trainer: keras.Model) -> None:
    """Make the metrics' variables now.

    TensorFlow would trace a step that makes variables twice (benchmarks/steps.py).
    """
    nothing = keras.ops.zeros((1, trainer.output_shape[-1]))
    trainer.compute_metrics(None, nothing, nothing)
    trainer.reset_metrics()


def _remembering_callbacks(recipe: Recipe) -> list[keras.callbacks.Callback]:
    callbacks: list[keras.callbacks.Callback] = []
    if recipe.plateau:
        plateau = recipe.plateau
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                "val_loss", plateau.factor, plateau.patience, min_lr=plateau.minimum
            )
        )
    if recipe.early_stopping:
        callbacks.append(keras.callbacks.EarlyStopping("val_loss", patience=recipe.early_stopping))
    return callbacks
