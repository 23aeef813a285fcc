"""Searches: each an asset, whose trials run one after another in the pool that trainings share."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from cifar_pipeline.defs.executors import POOL
from cifar_pipeline.defs.resources import Pipeline, asset_settings, finished, inline
from cifar_pipeline.defs.stages import Stage
from cifar_pipeline.settings.params import Params


def build_search_assets(
    stages: Mapping[tuple[str, ...], Stage], params: Params
) -> list[dg.AssetsDefinition]:
    """One for each search in the graph."""
    return [_search(name, stages["search", name], params) for name in params.searches]


def _search(name: str, stage: Stage, params: Params) -> dg.AssetsDefinition:
    @dg.asset(
        **asset_settings(stage, params, "searches"),
        kinds={"optuna", "keras"},
        pool=POOL,
        description=f"Settings of `{name}` found on training and validation images; `cifar adopt` makes the winner a recipe.",
    )
    def search(context: dg.AssetExecutionContext, pipeline: Pipeline) -> dg.MaterializeResult:
        from cifar_pipeline.search.results import PLOTS, WINNER
        from cifar_pipeline.search.run import search_and_save

        def report(trial: dict[str, Any], table: str, pictures: Path) -> None:
            described = f"{trial['stage']}, trial {trial['trial']}: {trial['state']}"
            seen = {
                "trials": dg.MetadataValue.md(table),
                **{path.stem: inline(path) for path in sorted(pictures.glob("*.png"))},
            }
            context.log_event(
                dg.AssetObservation(
                    dg.AssetKey(stage.key), metadata={**trial, **seen}, description=described
                )
            )

        with pipeline.step(context) as (home, active):
            summary = search_and_save(name, active, home, {"id": context.run_id}, report)
            folder = home.search(name)
        pictures = {
            f"{path.parent.name}_{path.stem}": inline(path)
            for path in sorted((folder / PLOTS).rglob("*.png"))
        }
        winner = dg.MetadataValue.md(f"```yaml\n{(folder / WINNER).read_text()}```")
        result = finished(stage, metadata={**summary, "winner": winner, **pictures})
        shutil.rmtree(
            home.study(name, active.profile), ignore_errors=True
        )  # now that DVC has what it led to
        return result

    return search
