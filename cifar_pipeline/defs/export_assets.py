"""Exports: each model as one file that needs neither Keras nor this package."""

from collections.abc import Iterator, Mapping

import dagster as dg

from cifar_pipeline.defs.executors import IN_POOL_FIRST
from cifar_pipeline.defs.model_assets import FOLLOWS
from cifar_pipeline.defs.resources import Pipeline, asset_settings, check_specs
from cifar_pipeline.graph.stages import Key, Stage
from cifar_pipeline.settings.params import Params

CHECKS = {
    "exported_answers_as_trained": "The exported file gives the trained model's probabilities.",
}


def build_export_assets(stages: Mapping[Key, Stage], params: Params) -> list[dg.AssetsDefinition]:
    """An asset for each model."""
    return [_export(name, stages["export", name]) for name in params.models]


def _export(name: str, stage: Stage) -> dg.AssetsDefinition:
    @dg.asset(
        **asset_settings(stage, "exports"),
        **FOLLOWS,
        **IN_POOL_FIRST,
        kinds={"onnx"},
        check_specs=check_specs(stage, CHECKS),
        description=f"`{name}` as one ONNX file: photographs of any size to calibrated "
        "probabilities, with labels, threshold and provenance in its metadata.",
    )
    def export(
        context: dg.AssetExecutionContext, pipeline: Pipeline
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        from cifar_pipeline.serving.export import export_model

        with pipeline.step(context, stage) as step:
            home, folder = step.home, step.staged(step.home.export(name))
            checks, figures = export_model(name, home.model(name), home.table, home.splits, folder)
            yield from step.finish(checks, figures)

    return export
