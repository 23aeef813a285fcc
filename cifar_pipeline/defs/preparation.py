"""What a run does before its first step, whichever door it came through."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from cifar_pipeline.defs.processes import end_with, name_of, this_process
from cifar_pipeline.defs.runs import (
    GO_ON_BY_ITSELF,
    LEAVE_TO_ITS_USER,
    release_dead_runs,
    wait_before_retrying,
    worker_tag,
)
from cifar_pipeline.defs.watcher import watch_this_process
from cifar_pipeline.errors import PipelineError, refusals_in_words
from cifar_pipeline.graph.status import record_plan
from cifar_pipeline.graph.versioning import under_dvc
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.editing import select_profile
from cifar_pipeline.settings.params import Params
from cifar_pipeline.settings.reading import load_params
from cifar_pipeline.tracking.trackers import require_installed

DOOR_VARIABLE = "CIFAR_DOOR"
"""Set by the command that starts a run's process, when it is one of ours."""
REPOSITORY_TAG = ".dagster/repository"
LOCATION = "cifar_pipeline"
"""What workspace.yaml calls our definitions."""


def prepare(
    instance: dg.DagsterInstance, run: dg.DagsterRun, steps: Collection[str], *, gpus: int
) -> None:
    """Release what dead runs hold, apply the profile that was asked for, write the plan, and tag
    the run with its process, profile and door. From here on the run ends with the command that
    started it, and is watched itself.

    Args:
        steps: what the run will execute, such as `table` and `model__cnn9`.
        gpus: how many there are where the steps run.

    Raises: dg.Failure for settings that do not validate, and a profile that cannot be applied.
    """
    door = _door(run)
    retries = GO_ON_BY_ITSELF if door == "ui" else LEAVE_TO_ITS_USER
    worker = worker_tag(run.run_id, this_process())
    instance.add_run_tags(run.run_id, {**worker, "door": door, **retries})
    watch_this_process()
    if command := _command_behind(door):
        end_with(name_of(command), f"the command that started run {run.run_id[:8]}")
    if not run.remote_job_origin:
        _show_in_ui(instance, run)
    wait_before_retrying(run)
    for dead in release_dead_runs(instance):
        print(f"run {dead} had died; it is marked as failed, and what it held is free again")
    try:
        with refusals_in_words():
            params = _settings(run.run_config, steps, gpus)
    except PipelineError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    instance.add_run_tags(run.run_id, {"profile": params.profile})


def _command_behind(door: str) -> psutil.Process | None:
    """The process without which nobody records or shows what this run makes.

    A run of `dagster job execute` is that process itself, and one of the UI goes on without it.
    """
    this = psutil.Process()
    if door == "cifar":
        return this.parent()
    if door == "dvc":
        return next((each for each in this.parents() if _is_dvc(each)), None)
    return None


def _is_dvc(process: psutil.Process) -> bool:
    return "dvc" in {Path(word).name for word in process.cmdline()[:2]}  # after its interpreter


def _show_in_ui(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Give the run the origin and the tag by which the UI's timeline and its page of a job find
    runs. Those that the UI launches have both; those of `dagster job execute` have neither."""
    target = LoadableTargetOrigin(module_name="cifar_pipeline.definitions")
    location = ManagedGrpcPythonEnvCodeLocationOrigin(target, LOCATION)
    repository = RemoteRepositoryOrigin(location, SINGLETON_REPOSITORY_NAME)
    instance.add_run_tags(run.run_id, {REPOSITORY_TAG: repository.get_label()})
    current = instance.get_run_by_id(run.run_id)
    assert current is not None
    origin = RemoteJobOrigin(repository, run.job_name)
    # What `dagster run migrate-repository` calls.
    instance.run_storage.replace_job_origin(current, origin)


def _settings(run_config: Any, steps: Collection[str], gpus: int) -> Params:
    home = Workspace.current()
    resources = run_config.get("resources", {})
    asked = resources.get("pipeline", {}).get("config", {}).get("profile")
    params = load_params(home.params)
    if asked and asked != params.profile:
        if under_dvc():
            raise PipelineError(
                f"DVC runs the profile '{params.profile}' of params.yaml, and this run asks for "
                f"'{asked}'; use `dvc exp run -S profile={asked}`"
            )
        held, wanted = (params.profiles[profile].source for profile in (params.profile, asked))
        if held != wanted and "archive" not in steps:
            raise PipelineError(
                f"this run asks for the profile '{asked}', whose data is `{wanted}`, and data/ "
                f"holds `{held}`, of the profile '{params.profile}'; run the job `pipeline` "
                f"with it, or `cifar run --profile {asked}`"
            )
        select_profile(home.params, asked)
        params = load_params(home.params)
    require_installed(params.tracking.chosen)
    if not gpus:
        _refuse_to_do_without(params, steps)
    if not under_dvc():
        record_plan(params, home)
    return params


def _refuse_to_do_without(params: Params, steps: Collection[str]) -> None:
    """Before the data is made, which may take long, and not when the training is about to start."""
    recipes = [step.removeprefix("model__") for step in steps if step.startswith("model__")]
    asking = sorted(name for name in recipes if params.recipe(name).device == "gpu")
    if asking:
        raise PipelineError(
            f"{', '.join(asking)} of the profile '{params.profile}' asks for a GPU, and there "
            "is none: neither on this machine (nvidia-smi, /dev/nvidia*, CUDA_VISIBLE_DEVICES) nor "
            "on a Ray cluster that the run names. Run on a machine with an NVIDIA driver, or set "
            "the recipe's `device: any` to train on the CPU"
        )


def _door(run: dg.DagsterRun) -> str:
    if under_dvc():
        return "dvc"
    if door := os.environ.get(DOOR_VARIABLE):
        return door
    return "ui" if run.remote_job_origin else "dagster"
