"""The user's own photographs, and what all exported models say of them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import dagster as dg

from cifar_pipeline.artifacts import digest_of, dvc_md5
from cifar_pipeline.defs.model_assets import FOLLOWS
from cifar_pipeline.defs.resources import Pipeline, asset_settings, check_specs
from cifar_pipeline.graph.stages import Key, Stage
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.params import Params

GROUP = "photographs"
CHECKS = {"photographs_readable": "Every file in the folder is an image that can be read."}
LOOK_EVERY_S = 60


def build_photograph_assets(
    stages: Mapping[Key, Stage], params: Params
) -> Sequence[dg.AssetSpec | dg.AssetsDefinition]:
    """For each folder, itself and a table of predictions."""
    folders = [_folder(name) for name in params.photographs]
    tables = [_predicted(name, stages["photo_predictions", name]) for name in params.photographs]
    return [*folders, *tables]


def build_photograph_sensors(params: Params) -> list[dg.SensorDefinition]:
    """A sensor of changes in the folders, if there are any; off until it is switched on."""
    return [_changed(params.photographs)] if params.photographs else []


def _key(name: str) -> dg.AssetKey:
    return dg.AssetKey([GROUP, name])


def _folder(name: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        _key(name),
        group_name=GROUP,
        owners=["team:data"],
        kinds={"file"},
        description=f"Your own photographs, in data/photographs/{name}. The sensor "
        "`photographs_changed` sees their changes once it is switched on.",
    )


def _predicted(name: str, stage: Stage) -> dg.AssetsDefinition:
    settings = asset_settings(stage, GROUP)
    settings["deps"] = [*settings["deps"], _key(name)]

    @dg.asset(
        **settings,
        **FOLLOWS,
        kinds={"parquet", "onnx"},
        check_specs=check_specs(stage, CHECKS),
        description=f"What each exported model says of each photograph in data/photographs/{name}, "
        "with checksums of both; a file that cannot be read has its error.",
    )
    def photo_predictions(
        context: dg.AssetExecutionContext, pipeline: Pipeline
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        from cifar_pipeline.serving.exported import MODEL
        from cifar_pipeline.serving.prediction_table import predict_folder

        with pipeline.step(context, stage) as step:
            home, target = step.home, step.staged(step.home.photo_predictions(name))
            models = [home.export(model) / MODEL for model in step.params.models]
            there = [model for model in models if model.is_file()]
            checks, figures = predict_folder(home.photographs(name), there, target)
            yield from step.finish(checks, figures)

    return photo_predictions


def _changed(names: Sequence[str]) -> dg.SensorDefinition:
    @dg.sensor(
        name="photographs_changed",
        minimum_interval_seconds=LOOK_EVERY_S,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Looks for changes in data/photographs, so that the predictions follow them.",
    )
    def photographs_changed(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        home = Workspace.current()
        seen = json.loads(context.cursor or "{}")
        there = {name: home.photographs(name) for name in names}
        now = {name: _listing(folder) for name, folder in there.items() if folder.is_dir()}
        # Not observations, which the automation of what follows does not see.
        changes = [
            dg.AssetMaterialization(
                _key(name),
                tags={"dagster/data_version": dvc_md5(there[name])},
                metadata={"path": dg.MetadataValue.path(there[name])},
            )
            for name in now
            if now[name] != seen.get(name)
        ]
        return dg.SensorResult(asset_events=changes, cursor=json.dumps(now))

    return photographs_changed


def _listing(folder: Path) -> str:
    """A checksum of names, sizes and times: cheap to look at often, unlike the content."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return digest_of(stats)
