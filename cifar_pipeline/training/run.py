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
from cifar_pipeline.dataset.splits import archive_of
from cifar_pipeline.dataset.table import read_table
from cifar_pipeline.inputs.batches import Images, load_images
from cifar_pipeline.models.saved import weights_digest
from cifar_pipeline.paths import Workspace
from cifar_pipeline.provenance import code_revision, hardware, library_versions
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
    report: Callable[[dict[str, float | None], float], None],
) -> tuple[list[Check], dict[str, Any]]:
    """Train recipe `name`, from its last checkpoint where it was interrupted, and write `data/models/<name>`.

    The checkpoints stay until the caller has recorded the model and removes them.

    Args:
        run: what identifies this run elsewhere, for the provenance.
        report: called after each epoch with its record and the seconds left.

    Returns: the checks of the saved model, and key figures.

    Raises: PipelineError as `train` and `load_images` do.
    """
    keep_freed_memory()
    recipe = params.recipe(name)
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
    weights, inputs = (
        weights_of(recipe),
        {path.name: dvc_md5(path) for path in (home.table, home.splits)},
    )
    checkpoints = Checkpoints(
        home.checkpoints(name, params.profile), _identity(recipe, weights, inputs)
    )
    result = train(
        recipe, training, validation, checkpoints, lambda record, left: report(record.row(), left)
    )
    calibration = UNCALIBRATED
    if validation:  # on all of them, where the recipe chose epochs by a part
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
    splits = read_table(home.splits)
    provenance = {
        **summary,
        "recipe": recipe.model_dump(mode="json", exclude={"weights"}),
        "profile": params.profile,
        "run": dict(run),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "code_revision": code_revision(),
        "generated": params.source().kind == "generated",
        "weights": weights,
        "archive_sha256": archive_of(splits),
        "inputs": inputs,
        "model_sha256": weights_digest(result.model),
        "versions": {"python": platform.python_version(), **library_versions()},
        "hardware": hardware(),
    }
    save_training(result, calibration, provenance, home.model(name))
    return check_saved(result, home.model(name), held_out.pixels[:CHECKED_IMAGES]), summary


def _identity(recipe: Recipe, weights: dict[str, str], inputs: dict[str, str]) -> str:
    """What a training must have in common with a checkpoint to go on from it."""
    settings = recipe.model_dump(mode="json", exclude={"weights"})
    content = json.dumps(
        {"recipe": settings, "weights": weights, "inputs": inputs, "versions": library_versions()},
        sort_keys=True,
    )
    return hashlib.sha256(content.encode()).hexdigest()


def weights_of(recipe: Recipe) -> dict[str, str]:
    """What the model started from; a file by name and checksum, since its path means nothing elsewhere."""
    if recipe.weights in ("imagenet", "none"):
        return {"name": recipe.weights}
    path = Path(recipe.weights).expanduser()
    return {"name": path.name, "sha256": file_digest(path, "sha256")}
