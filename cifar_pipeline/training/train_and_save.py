"""From a workspace and a recipe's name to a saved, checked model with its provenance."""

import hashlib
import json
import platform
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cifar_pipeline.artifacts import dvc_md5, file_digest
from cifar_pipeline.checks import Check
from cifar_pipeline.dataset.classes import Classes
from cifar_pipeline.dataset.generated import is_generated
from cifar_pipeline.dataset.splits import archive_of, read_splits
from cifar_pipeline.dataset.table import read_table
from cifar_pipeline.inputs.batches import Images, load_images
from cifar_pipeline.models.environment import configure_keras
from cifar_pipeline.models.pretrained import weights_file
from cifar_pipeline.models.saved import Labels, weights_digest
from cifar_pipeline.paths import Workspace
from cifar_pipeline.provenance import (
    code_revision,
    hardware,
    library_versions,
    numeric_settings,
    thread_settings,
)
from cifar_pipeline.saying import say
from cifar_pipeline.settings.params import Params
from cifar_pipeline.settings.recipe import Recipe
from cifar_pipeline.training.allocator import keep_freed_memory
from cifar_pipeline.training.calibration import UNCALIBRATED, fit_temperature
from cifar_pipeline.training.checkpoints import Checkpoints
from cifar_pipeline.training.fit import VALIDATION_BATCH, train
from cifar_pipeline.training.saving import check_saved, save_training

CHECKED_IMAGES = 256


def train_and_save(
    name: str,
    params: Params,
    home: Workspace,
    run: Mapping[str, str],
    on_epoch: Callable[[dict[str, float | None], float], None],
    *,
    folder: Path,
) -> tuple[list[Check], dict[str, Any]]:
    """Train recipe `name` and write the model to `folder`, resuming from its last checkpoint.

    `data/models/<name>` is not touched, so that a model that fails its checks replaces nothing.
    The checkpoints stay until the caller has recorded the model and removes them.

    Args:
        run: what identifies this run elsewhere, for the provenance.
        on_epoch: called after each epoch with its record and the seconds left.
        folder: written whole, or not at all.

    Returns: the checks of the saved model, and key figures.

    Raises: PipelineError as `train` and `load_images` do.
    """
    configure_keras()
    keep_freed_memory()
    recipe = params.recipe(name)
    weights = weights_of(recipe)
    inputs = {path.name: dvc_md5(path) for path in (home.table, home.splits)}
    training = load_images(
        home.table,
        home.splits,
        "train",
        recipe.target,
        per_class=recipe.train_per_class,
        seed=recipe.seed,
    )
    held_out = load_images(home.table, home.splits, "validation", recipe.target)
    validation: Images | None = None
    if recipe.fit_on == "train":
        part = recipe.validation_per_class
        validation = load_images(
            home.table, home.splits, "validation", recipe.target, per_class=part, seed=recipe.seed
        )
    else:
        training = training.joined(held_out)
    checkpoints = Checkpoints(
        home.checkpoints(name, params.profile), _identity(recipe, weights, inputs)
    )
    result = train(
        recipe, training, validation, checkpoints, lambda record, left: on_epoch(record.row(), left)
    )
    accuracy = result.best.val_accuracy
    validated = "" if accuracy is None else f", with a validation accuracy of {accuracy:.1%}"
    say(f"keeping the weights of epoch {result.best.epoch}/{recipe.epochs}{validated}")
    calibration = UNCALIBRATED
    if validation:  # on all of them, even if the recipe chooses epochs by some
        say(f"calibrating on {len(held_out):,} validation images")
        logits = result.model.predict(held_out.pixels, batch_size=VALIDATION_BATCH, verbose=0)
        calibration = fit_temperature(logits, held_out.label)
    summary = {
        "parameters": result.parameters[0],
        "trainable_parameters": result.parameters[1],
        "started_from": weights["name"],
        "train_images": len(training),
        "validation_images": len(validation) if validation else 0,
        "training_s": round(result.history[-1].seconds, 1),
        "best_epoch": result.best.epoch,
        **{
            name: round(value, 5)
            for name, value in result.best.row().items()
            if name.startswith("val_") and value is not None
        },
        "temperature": round(calibration.temperature, 4),
        "device": ", ".join(result.devices),
    }
    splits = read_splits(home.splits)
    provenance = {
        **summary,
        "recipe": recipe.model_dump(mode="json", exclude={"weights"}),
        "profile": params.profile,
        "run": dict(run),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "code_revision": code_revision(),
        "generated": is_generated(home.table),
        "weights": weights,
        "archive_sha256": archive_of(splits),
        "inputs": inputs,
        "model_sha256": weights_digest(result.model),
        "versions": {"python": platform.python_version(), **library_versions()},
        "hardware": hardware(),
        "numeric_settings": numeric_settings(),
        "thread_settings": thread_settings(),
    }
    say("saving the model and checking what was saved")
    save_training(result, calibration, _labels(home, recipe), provenance, folder)
    return check_saved(result, folder, held_out.pixels[:CHECKED_IMAGES]), summary


def _labels(home: Workspace, recipe: Recipe) -> Labels:
    table = read_table(home.table, ["fine_label", "coarse_label"])
    classes = Classes.of(table, recipe.target)
    return Labels(classes.names, classes.coarse_names, classes.coarse_of.tolist())


def _identity(recipe: Recipe, weights: dict[str, str], inputs: dict[str, str]) -> str:
    """What a training must have in common with a checkpoint to resume from it.

    The hardware is not part of it, nor is the code's revision, so that a training can be resumed
    on another machine and after a commit that does not concern it.
    """
    content = {
        "recipe": recipe.model_dump(mode="json", exclude={"weights"}),
        "weights": weights,
        "inputs": inputs,
        "versions": library_versions(),
        "numeric_settings": numeric_settings(),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def weights_of(recipe: Recipe) -> dict[str, str]:
    """What the model started from. A file is given by name and checksum, because its path means
    nothing elsewhere.

    Raises: PipelineError when the file is not there.
    """
    if recipe.weights in ("imagenet", "none"):
        return {"name": recipe.weights}
    path = weights_file(recipe.weights, recipe.architecture)
    return {"name": path.name, "sha256": file_digest(path, "sha256")}
