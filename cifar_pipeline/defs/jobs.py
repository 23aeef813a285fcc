"""A job for the whole graph, and one for each asset: what `dagster job execute` and DVC's stages run."""

from collections.abc import Iterable
from typing import Any

import dagster as dg

from cifar_pipeline.defs.stages import Stage

WHOLE_GRAPH = "pipeline"


def build_jobs(stages: Iterable[Stage]) -> list[Any]:
    """`pipeline`, and `<asset>_job` for each stage."""
    single = [
        dg.define_asset_job(stage.job, selection=dg.AssetSelection.assets(dg.AssetKey(stage.key)), description=f"Only {stage.name}.")
        for stage in stages
    ]
    return [dg.define_asset_job(WHOLE_GRAPH, selection=dg.AssetSelection.all(), description="Archive to leaderboard."), *single]
