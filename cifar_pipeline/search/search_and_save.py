"""From a workspace and a search's name to `data/searches/<name>`, and the trials in between."""

import os
import platform
import shutil
import socket
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from cifar_pipeline.artifacts import dvc_md5
from cifar_pipeline.dataset.generated import is_generated
from cifar_pipeline.dataset.splits import Split, read_splits, split_rows
from cifar_pipeline.dataset.table import FINE
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.inputs.batches import load_images
from cifar_pipeline.models.environment import configure_keras
from cifar_pipeline.paths import Workspace
from cifar_pipeline.provenance import (
    code_revision,
    hardware,
    library_versions,
    numeric_settings,
)
from cifar_pipeline.saying import about, say
from cifar_pipeline.search.places import OnRay, storage_on_ray
from cifar_pipeline.search.results import (
    described,
    draw,
    readable,
    trial_table,
    write_search,
)
from cifar_pipeline.search.study import (
    DRAWS,
    GRID,
    Data,
    SearchRun,
    ranked,
    stage_of,
    study_name,
)
from cifar_pipeline.settings.params import Params
from cifar_pipeline.training.allocator import keep_freed_memory
from cifar_pipeline.training.train_and_save import weights_of

SPLITS: tuple[Split, ...] = ("train", "validation")


def search_and_save(
    name: str,
    params: Params,
    home: Workspace,
    run: Mapping[str, str],
    on_trial: Callable[[dict[str, Any], str, Path], None],
    *,
    folder: Path,
) -> dict[str, Any]:
    """Search around recipe `name`, from where it was interrupted, and write what was found.

    The trials stay until the caller has recorded the search and removes them.

    Args:
        run: what identifies this run elsewhere, for the provenance.
        on_trial: called after each trial with its settings and figures, the table of its stage in
            Markdown, and a folder of pictures.
        folder: written whole, or not at all.

    Returns: the key figures.

    Raises: PipelineError as `train` and `load_images` do, and when every trial of a stage failed.
    """
    search, storage = params.search_around(name), storage_on_ray()

    def follow(study: optuna.Study, trial: FrozenTrial) -> None:
        best, stage = ranked(study), stage_of(study)
        figures = {
            "stage": stage,
            **described(search, trial),
            **({"best": best[0].value} if best else {}),
        }
        settings = ", ".join(f"{key} {value}" for key, value in trial.params.items())
        state = trial.state.name.lower()
        say(f"trial {trial.number} of the {stage} {state}: {settings}")
        table = readable(trial_table(search, {stage: study}))
        with tempfile.TemporaryDirectory() as pictures:
            draw(study, Path(pictures))
            on_trial(figures, table.to_markdown(index=False), Path(pictures))

    searching, origin, images = _opened(name, params, home, storage, follow)
    places = None
    if storage:
        places = OnRay(
            partial(_run_on_node, name, params, home, storage=storage, identity=searching.identity)
        )
    studies = searching.run(places)
    provenance = {
        **origin,
        "recipe": name,
        "profile": params.profile,
        "generated": is_generated(home.table),
        "train_images": images,
        "run": dict(run),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "code_revision": code_revision(),
        "hardware": hardware(),
        "python": platform.python_version(),
    }
    # Weights as they are written: a path of this machine means nothing elsewhere.
    weights = params.recipe_as_written(name).weights
    winner = searching.winner(studies).model_copy(update={"weights": weights})
    return write_search(
        folder, search, studies, winner, provenance=provenance, storage=searching.file
    )


def forget_trials(name: str, profile: str, home: Workspace) -> None:
    """Remove what a search would resume from: its checkpoints, and its trials wherever they are."""
    place, storage = home.study(name, profile), storage_on_ray()
    if storage and place.is_dir():
        kept = optuna.get_all_study_names(storage)
        for study in {study_name(one, stage) for one in place.iterdir() for stage in (DRAWS, GRID)}:
            if study in kept:
                optuna.delete_study(study_name=study, storage=storage)
    shutil.rmtree(place, ignore_errors=True)


def _run_on_node(
    name: str,
    params: Params,
    home: Workspace,
    stage: str,
    number: int,
    *,
    storage: str,
    identity: str,
) -> None:
    """Run one trial of a search that another process plans.

    Raises: PipelineError where this node's data, weights or versions are others than there.
    """
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    searching, *_ = _opened(name, params, home, storage, lambda study, trial: None)
    if searching.identity != identity:
        raise PipelineError(
            f"{socket.gethostname()} has other data, weights, versions or numeric settings than "
            "the node that plans the search; make them the same on all nodes"
        )
    with about(f"search/{name}, trial {number} of the {stage}"):
        searching.run_trial(stage, number)


def _opened(
    name: str,
    params: Params,
    home: Workspace,
    storage: str | None,
    on_trial: Callable[[optuna.Study, FrozenTrial], None],
) -> tuple[SearchRun, dict[str, Any], int]:
    """The search with its data in memory, what it goes back to, and how many images it trains on.

    Raises: PipelineError as `load_images` does, and when the splits are another profile's.
    """
    configure_keras()
    keep_freed_memory()
    base, search = params.recipe(name), params.search_around(name)
    membership = read_splits(home.splits)
    found, expected = (
        sum(len(split_rows(membership, split)) for split in SPLITS),
        FINE * params.source().train_per_class,
    )
    if found != expected:
        raise PipelineError(
            f"{home.splits} has {found:,} training images, and the profile '{params.profile}' has "
            f"{expected:,}; make its data first with `cifar run --profile {params.profile}`"
        )
    data = Data(
        load_images(
            home.table,
            home.splits,
            "train",
            base.target,
            per_class=search.train_per_class,
            seed=search.seed,
        ),
        load_images(
            home.table,
            home.splits,
            "validation",
            base.target,
            per_class=base.validation_per_class,
            seed=search.seed,
        ),
    )
    origin = {
        "inputs": {path.name: dvc_md5(path) for path in (home.table, home.splits)},
        "weights": weights_of(base),
        "versions": {"optuna": optuna.__version__, **library_versions()},
        "numeric_settings": numeric_settings(),
    }
    searching = SearchRun(
        base,
        search,
        data,
        origin=origin,
        folder=home.study(name, params.profile),
        on_trial=on_trial,
        storage=storage,
    )
    return searching, origin, len(data.training)
