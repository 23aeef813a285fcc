"""What a run does before its first step, whichever door it came through."""

import os
from typing import Any

import dagster as dg

from cifar_pipeline.defs.runs import WORKER_TAG, release_dead_runs, this_process
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.graph.status import record_plan
from cifar_pipeline.graph.versioning import under_dvc
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.editing import select_profile
from cifar_pipeline.settings.params import Params
from cifar_pipeline.settings.reading import load_params

DOOR_VARIABLE = "CIFAR_DOOR"
"""Set by the command that starts a run's process, when it is one of ours."""
REPOSITORY_TAG = ".dagster/repository"
REPOSITORY = "__repository__@cifar_pipeline"
"""The UI's timeline and its page of a job list the runs that have this tag. Runs that the UI
launches have it; those of `dagster job execute` do not."""


def prepare(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Release what dead runs hold, apply the profile that was asked for, write the plan, and tag
    the run with its process, profile and door.

    Raises: dg.Failure for settings that do not validate, and a profile that cannot be applied.
    """
    tags = {WORKER_TAG: this_process()}
    if REPOSITORY_TAG not in run.tags:  # the timeline would list the run twice
        tags[REPOSITORY_TAG] = REPOSITORY
    instance.add_run_tags(run.run_id, tags)
    for dead in release_dead_runs(instance):
        print(f"run {dead} had died; it is marked as failed, and its pool slots are free again")
    try:
        params = _settings(run.run_config)
    except PipelineError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    instance.add_run_tags(run.run_id, {"profile": params.profile, "door": _door(run)})


def _settings(run_config: Any) -> Params:
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
        select_profile(home.params, asked)
        params = load_params(home.params)
    if not under_dvc():
        record_plan(params, home)
    return params


def _door(run: dg.DagsterRun) -> str:
    if under_dvc():
        return "dvc"
    if door := os.environ.get(DOOR_VARIABLE):
        return door
    return "ui" if run.remote_job_origin else "dagster"
