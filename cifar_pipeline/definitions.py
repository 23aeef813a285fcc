"""The code location: the only module that Dagster is pointed at. It loads fast and imports nothing
heavy."""

from collections.abc import Mapping
from typing import Any

import click
import dagster as dg

from cifar_pipeline.defs.data_assets import build_data_assets
from cifar_pipeline.defs.executors import gpu_executor
from cifar_pipeline.defs.export_assets import build_export_assets
from cifar_pipeline.defs.jobs import build_jobs
from cifar_pipeline.defs.model_assets import build_model_assets
from cifar_pipeline.defs.photograph_assets import (
    build_photograph_assets,
    build_photograph_sensors,
)
from cifar_pipeline.defs.resources import Pipeline
from cifar_pipeline.defs.search_assets import build_search_assets
from cifar_pipeline.errors import PipelineError, refusals_in_words
from cifar_pipeline.graph.stages import build_stages
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.params import Params
from cifar_pipeline.settings.reading import load_params


def build_defs(
    params: Params,
    executor: dg.ExecutorDefinition = gpu_executor,
    resources: Mapping[str, Any] | None = None,
) -> dg.Definitions:
    """Definitions for `params`: its recipes decide which models there are.

    Args:
        executor: runs every job, for instance on other machines.
        resources: replace ours of the same names, or are added to them.
    """
    stages = build_stages(params)
    return dg.Definitions(
        assets=[
            *build_data_assets(stages),
            *build_search_assets(stages, params),
            *build_model_assets(stages, params),
            *build_export_assets(stages, params),
            *build_photograph_assets(stages, params),
        ],
        jobs=build_jobs(stages.values(), params),
        sensors=build_photograph_sensors(params),
        executor=executor,
        resources={"pipeline": Pipeline(), **(resources or {})},
    )


try:
    with refusals_in_words():
        defs = build_defs(load_params(Workspace.current().params))
except PipelineError as error:  # Dagster's commands show the message of this one alone
    raise click.ClickException(str(error)) from None
