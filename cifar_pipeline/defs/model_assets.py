"""What is made for every recipe: model, predictions, report; and the leaderboard over all. One factory, no copies."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from cifar_pipeline.defs.executors import POOL
from cifar_pipeline.defs.resources import Pipeline, check_specs, code_version, finished
from cifar_pipeline.defs.stages import Stage
from cifar_pipeline.params import Params

OWNERS = ["team:models"]
MODEL_CHECKS = {
    "finite_weights": "No weight of the saved model is NaN or infinite.",
    "saved_predicts_as_trained": "The model read back from its file predicts what the trained one did.",
}
REPORT_CHECKS = {"report_complete": "Every file of the report is there, and its figures are possible."}


def build_model_assets(stages: Mapping[tuple[str, ...], Stage], params: Params) -> list[dg.AssetsDefinition]:
    """model → predictions → report for every recipe, then the leaderboard."""
    assets = []
    for name in params.models:
        assets += [
            _model(name, stages["model", name], params),
            _predictions(name, stages["predictions", name], params),
            _report(name, stages["report", name], params),
        ]
    return [*assets, _leaderboard(stages["leaderboard",], params)]


def _settings(stage: Stage, params: Params, group: str) -> dict[str, Any]:
    return {
        "key": dg.AssetKey(stage.key),
        "deps": [dg.AssetKey(key) for key in stage.deps],
        "group_name": group,
        "owners": OWNERS,
        "code_version": code_version(stage, params),
    }


def _model(name: str, stage: Stage, params: Params) -> dg.AssetsDefinition:
    @dg.asset(
        **_settings(stage, params, "models"),
        kinds={"keras", "tensorflow"},
        pool=POOL,
        check_specs=check_specs(stage, MODEL_CHECKS),
        description=f"`{name}` trained by its recipe: model.keras (uint8 32×32×3 to 100 logits), history, temperature, provenance.",
    )
    def model(context: dg.AssetExecutionContext, pipeline: Pipeline) -> dg.MaterializeResult:
        from cifar_pipeline.training.run import train_and_save

        def report(record: dict[str, float], seconds_left: float) -> None:
            shown = {**{key: round(value, 5) for key, value in record.items()}, "minutes_left": round(seconds_left / 60, 1)}
            context.log_event(dg.AssetObservation(dg.AssetKey(stage.key), metadata=shown, description=f"epoch {record['epoch']}"))

        with pipeline.step(context) as (home, active):
            checks, summary = train_and_save(name, active, home, {"id": context.run_id}, report)
            curves = _picture_of_history(home.model(name))
        result = finished(stage, checks, {**summary, "curves": curves})
        shutil.rmtree(home.checkpoints(name, active.profile), ignore_errors=True)  # now that DVC has what they led to
        return result

    return model


def _predictions(name: str, stage: Stage, params: Params) -> dg.AssetsDefinition:
    @dg.asset(
        **_settings(stage, params, "predictions"),
        kinds={"parquet", "keras"},
        pool=POOL,
        description=f"Probabilities of all classes by `{name}` for every test image; any metric can be computed from them without a GPU.",
    )
    def predictions(context: dg.AssetExecutionContext, pipeline: Pipeline) -> dg.MaterializeResult:
        from cifar_pipeline.evaluation.predictions import predict_test, write_predictions

        with pipeline.step(context) as (home, _):
            predicted = predict_test(home.model(name), home.table, home.splits)
            write_predictions(predicted, home.predictions(name))
        return finished(stage, metadata={"dagster/row_count": predicted.num_rows})

    return predictions


def _report(name: str, stage: Stage, params: Params) -> dg.AssetsDefinition:
    @dg.asset(
        **_settings(stage, params, "reports"),
        kinds={"html", "scikitlearn"},
        check_specs=check_specs(stage, REPORT_CHECKS),
        description=f"How `{name}` does on the test split: metrics with intervals, every class, confusions, curves, examples, one page.",
    )
    def report(context: dg.AssetExecutionContext, pipeline: Pipeline) -> dg.MaterializeResult:
        from cifar_pipeline.evaluation.report import PICTURES, check_report, write_report

        with pipeline.step(context) as (home, _):
            folder = home.report(name)
            metrics = write_report(name, home.predictions(name), home.model(name), home.table, folder)
            checks = check_report(folder)
        pictures = {picture: _inline(folder / "plots" / f"{picture}.png") for picture in PICTURES}
        return finished(stage, checks, {**metrics, **pictures})

    return report


def _leaderboard(stage: Stage, params: Params) -> dg.AssetsDefinition:
    @dg.asset(
        **_settings(stage, params, "reports"),
        kinds={"html"},
        description="All models side by side: accuracy with its interval, loss, parameters, training time.",
    )
    def leaderboard(context: dg.AssetExecutionContext, pipeline: Pipeline) -> dg.MaterializeResult:
        from cifar_pipeline.evaluation.report import write_leaderboard

        with pipeline.step(context) as (home, active):
            names = list(active.models)
            reports, models = {name: home.report(name) for name in names}, {name: home.model(name) for name in names}
            board = write_leaderboard(reports, models, home.leaderboard)
        best = {"best_model": str(board["model"].iloc[0]), "best_top1": float(board["top1"].iloc[0])}
        picture = _inline(home.leaderboard / "leaderboard.png")
        table = dg.MetadataValue.md(board.to_markdown(index=False, floatfmt=".4g"))
        return finished(stage, metadata={**best, "leaderboard": table, "accuracy": picture})

    return leaderboard


def _inline(picture: Path) -> dg.MarkdownMetadataValue:
    """A picture as metadata; the UI opens it in a dialog."""
    import base64

    return dg.MetadataValue.md(f"![{picture.stem}](data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()})")


def _picture_of_history(model: Path) -> dg.MarkdownMetadataValue:
    import tempfile

    import pandas as pd

    from cifar_pipeline.evaluation.plots import plot_curves, save
    from cifar_pipeline.training.saved import HISTORY

    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder, "curves.png")
        save(plot_curves(pd.read_csv(model / HISTORY)), picture)
        return _inline(picture)
