"""Searches: each is an asset, whose trials run one after another in the pool of the trainings, or
side by side on a cluster.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from cifar_pipeline.defs.executors import in_pool
from cifar_pipeline.defs.resources import Pipeline, asset_settings
from cifar_pipeline.defs.steps import inline
from cifar_pipeline.graph.stages import Key, Stage
from cifar_pipeline.settings.params import Params

GROUP = "searches"


def build_search_assets(stages: Mapping[Key, Stage], params: Params) -> list[dg.AssetsDefinition]:
    """An asset for each recipe that has a search."""
    return [_search(name, stages["search", name]) for name in params.all_searches]


def _search(name: str, stage: Stage) -> dg.AssetsDefinition:
    @dg.asset(
        **asset_settings(stage, GROUP),
        **in_pool("trials"),
        kinds={"optuna", "keras"},
        description=f"Settings of `{name}` found on training and validation images; `cifar adopt` "
        "makes the winner a recipe. DVC versions it if params.yaml names it under `searches`.",
    )
    def search(
        context: dg.AssetExecutionContext, pipeline: Pipeline
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        from cifar_pipeline.search.results import PLOTS, WINNER
        from cifar_pipeline.search.search_and_save import forget_trials, search_and_save

        with pipeline.step(context, stage) as step:
            home, folder = step.home, step.staged(step.home.search(name))
            summary = search_and_save(
                name,
                step.params,
                home,
                {"id": context.run_id},
                _observer(context, stage),
                folder=folder,
            )
            pictures = {
                f"{path.parent.name}_{path.stem}": inline(path)
                for path in sorted((folder / PLOTS).rglob("*.png"))
            }
            winner = (folder / WINNER).read_text(encoding="utf-8")
            shown = {"winner": dg.MetadataValue.md(f"```yaml\n{winner}```")}
            yield from step.finish(metadata={**summary, **shown, **pictures})
            # Now that the result is in its place.
            forget_trials(name, step.params.profile, home)

    return search


def _observer(context: dg.AssetExecutionContext, stage: Stage) -> Any:
    """Record each trial as an observation of the search's asset, and tell the trackers."""
    follower = context.resources.pipeline.follower

    def observe(trial: dict[str, Any], table: str, pictures: Path) -> None:
        described = f"{trial['stage']}, trial {trial['trial']}: {trial['state']}"
        seen = {
            "trials": dg.MetadataValue.md(table),
            **{path.stem: inline(path) for path in sorted(pictures.glob("*.png"))},
        }
        key = dg.AssetKey(stage.key)
        context.log_event(
            dg.AssetObservation(key, metadata={**trial, **seen}, description=described)
        )
        follower.trial(trial)

    return observe
