"""A job for the whole graph, and one for each asset: what `dagster job execute` and DVC's stages
run."""

from collections.abc import Iterable
from typing import Any

import dagster as dg

from cifar_pipeline.defs.search_assets import GROUP as SEARCHES
from cifar_pipeline.defs.telling import QUIET
from cifar_pipeline.graph.stages import Stage
from cifar_pipeline.settings.params import Params

WHOLE_GRAPH = "pipeline"
ALL_MODELS = "all_models"


def build_jobs(stages: Iterable[Stage], params: Params) -> list[Any]:
    """`pipeline`, `<asset>_job` for each stage, and jobs that train several models on the data
    that is there."""
    single = [
        dg.define_asset_job(
            stage.job,
            selection=dg.AssetSelection.assets(dg.AssetKey(stage.key)),
            description=f"Only {stage.name}.",
            config=QUIET,
        )
        for stage in stages
    ]
    groups = {
        ALL_MODELS: params.models,
        **{
            name: members
            for name, members in params.groups.items()
            if set(members) <= set(params.models)
        },
    }
    several = [
        dg.define_asset_job(
            name,
            selection=_models(members),
            description=f"Train and report on {', '.join(members)}; then the pages over all.",
            config=QUIET,
        )
        for name, members in groups.items()
    ]
    # A search is not a step on the way: it takes hours that nobody asked for.
    whole = dg.AssetSelection.all() - dg.AssetSelection.groups(SEARCHES)
    pipeline = dg.define_asset_job(
        WHOLE_GRAPH, selection=whole, description="Archive to leaderboard.", config=QUIET
    )
    return [pipeline, *several, *single]


def _models(names: Iterable[str]) -> dg.AssetSelection:
    kinds = ("model", "predictions", "report", "export")
    made = [dg.AssetKey([kind, name]) for kind in kinds for name in names]
    return dg.AssetSelection.assets(*made, "leaderboard", "ledger")
