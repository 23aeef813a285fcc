"""The code location: the only module that Dagster is pointed at. It loads fast and imports nothing heavy."""

import dagster as dg

from cifar_pipeline.defs.data_assets import build_data_assets
from cifar_pipeline.defs.executors import gpu_executor
from cifar_pipeline.defs.jobs import build_jobs
from cifar_pipeline.defs.model_assets import build_model_assets
from cifar_pipeline.defs.resources import Pipeline
from cifar_pipeline.defs.search_assets import build_search_assets
from cifar_pipeline.defs.stages import build_stages
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.params import Params
from cifar_pipeline.settings.reading import load_params


def build_defs(params: Params, pipeline: Pipeline | None = None) -> dg.Definitions:
    """Definitions for `params`: its recipes decide which models there are.

    Args:
        pipeline: replaces the resource, for instance to fix a profile.
    """
    stages = build_stages(params)
    return dg.Definitions(
        assets=[
            *build_data_assets(stages, params),
            *build_search_assets(stages, params),
            *build_model_assets(stages, params),
        ],
        jobs=build_jobs(stages.values(), params),
        executor=gpu_executor,
        resources={"pipeline": pipeline or Pipeline()},
    )


defs = build_defs(load_params(Workspace.current().params))
