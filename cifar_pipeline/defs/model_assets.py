"""What is made for every recipe: model, predictions, report; then leaderboard and ledger over all. One factory, no copies."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import dagster as dg

from cifar_pipeline.defs.executors import POOL
from cifar_pipeline.defs.resources import Pipeline, asset_settings, check_specs, finished, inline
from cifar_pipeline.defs.stages import Stage
from cifar_pipeline.settings.params import Params

MODEL_CHECKS = {
    "finite_weights": "No weight of the saved model is NaN or infinite.",
    "saved_predicts_as_trained": "The model read back from its file predicts what the trained one did.",
}
REPORT_CHECKS = {
    "report_complete": "Every part of the report is there, and its figures are possible.",
    "above_floor": "Top-1 test accuracy reaches the floor that params.yaml sets for the recipe under this profile.",
}


def build_model_assets(
    stages: Mapping[tuple[str, ...], Stage], params: Params
) -> list[dg.AssetsDefinition]:
    """model → predictions → report for every recipe, then the leaderboard and the ledger."""
    assets = []
    for name in params.models:
        assets += [
            _model(name, stages["model", name], params),
            _predictions(name, stages["predictions", name], params),
            _report(name, stages["report", name], params),
        ]
    return [
        *assets,
        _leaderboard(stages["leaderboard",], params),
        _ledger(stages["ledger",], params),
    ]


def _model(name: str, stage: Stage, params: Params) -> dg.AssetsDefinition:
    @dg.asset(
        **asset_settings(stage, params, "models"),
        kinds={"keras", "tensorflow"},
        pool=POOL,
        check_specs=check_specs(stage, MODEL_CHECKS),
        description=f"`{name}` trained by its recipe: model.keras (uint8 32×32×3 to logits), history, temperature, provenance.",
    )
    def model(context: dg.AssetExecutionContext, pipeline: Pipeline) -> dg.MaterializeResult:
        from cifar_pipeline.training.run import train_and_save

        def report(record: dict[str, float | None], seconds_left: float) -> None:
            shown = {
                **{key: round(value, 5) for key, value in record.items() if value is not None},
                "minutes_left": round(seconds_left / 60, 1),
            }
            context.log_event(
                dg.AssetObservation(
                    dg.AssetKey(stage.key), metadata=shown, description=f"epoch {record['epoch']}"
                )
            )

        with pipeline.step(context) as (home, active):
            checks, summary = train_and_save(name, active, home, {"id": context.run_id}, report)
            curves = _picture_of_history(home.model(name))
        result = finished(stage, checks, {**summary, "curves": curves})
        shutil.rmtree(
            home.checkpoints(name, active.profile), ignore_errors=True
        )  # now that DVC has what they led to
        return result

    return model


def _predictions(name: str, stage: Stage, params: Params) -> dg.AssetsDefinition:
    @dg.asset(
        **asset_settings(stage, params, "predictions"),
        kinds={"parquet", "keras"},
        pool=POOL,
        description=f"Probabilities of all classes by `{name}` for every test image and its mirror image; any metric needs no GPU.",
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
        **asset_settings(stage, params, "reports"),
        kinds={"html", "scikitlearn"},
        check_specs=check_specs(stage, REPORT_CHECKS),
        description=f"How `{name}` does on the test split: figures with intervals, calibration, confusions, a page and a model card.",
    )
    def report(context: dg.AssetExecutionContext, pipeline: Pipeline) -> dg.MaterializeResult:
        from cifar_pipeline.reports.files import PLOTS
        from cifar_pipeline.reports.report import Inputs, check_report, write_report

        with pipeline.step(context) as (home, active):
            folder = home.report(name)
            metrics = write_report(
                name,
                Inputs(home.predictions(name), home.model(name), home.table, home.test_subsets),
                folder,
            )
            checks = check_report(folder, active.floor(name))
        pictures = {
            picture.stem: inline(picture) for picture in sorted((folder / PLOTS).glob("*.png"))
        }
        return finished(stage, checks, {**metrics, **pictures})

    return report


def _leaderboard(stage: Stage, params: Params) -> dg.AssetsDefinition:
    @dg.asset(
        **asset_settings(stage, params, "reports"),
        kinds={"html"},
        description="All models side by side: accuracy with its interval against training time and size, curves, paired tests, ensembles.",
    )
    def leaderboard(context: dg.AssetExecutionContext, pipeline: Pipeline) -> dg.MaterializeResult:
        import pandas as pd

        from cifar_pipeline.reports.leaderboard import ENSEMBLES, PICTURES, Entry, write_leaderboard

        with pipeline.step(context) as (home, active):
            entries = {
                name: Entry(home.report(name), home.predictions(name), active.floor(name))
                for name in active.models
            }
            possible = {
                key: ensemble
                for key, ensemble in active.ensembles.items()
                if set(ensemble.members) <= set(active.models)
            }
            board = write_leaderboard(entries, possible, home.leaderboard)
        best = {
            "best_model": str(board["model"].iloc[0]),
            "best_top1": float(board["top1"].iloc[0]),
        }
        pictures = {name: inline(home.leaderboard / f"{name}.png") for name in PICTURES}
        ensembles = pd.read_csv(home.leaderboard / ENSEMBLES)
        tables = {
            name: dg.MetadataValue.md(table.to_markdown(index=False, floatfmt=".4g"))
            for name, table in (("leaderboard", board), ("ensembles", ensembles))
            if len(table)
        }
        return finished(stage, metadata={**best, **tables, **pictures})

    return leaderboard


def _ledger(stage: Stage, params: Params) -> dg.AssetsDefinition:
    @dg.asset(
        **asset_settings(stage, params, "reports"),
        kinds={"html"},
        description="Every published claim beside the runs recorded in the repository and those in data/, with a verdict by a rule.",
    )
    def ledger(context: dg.AssetExecutionContext, pipeline: Pipeline) -> dg.MaterializeResult:
        from cifar_pipeline.reports import ledger as claims

        with pipeline.step(context) as (home, active):
            found = [claims.run_of(name, home.report(name)) for name in active.models]
            runs = claims.merge(claims.load_runs(home.recorded_runs), [run for run in found if run])
            verdicts = claims.write_ledger(runs, home.ledger)
        return finished(
            stage,
            metadata={
                **verdicts,
                "ledger": dg.MetadataValue.md(claims.markdown(claims.ledger(runs))),
            },
        )

    return ledger


def _picture_of_history(model: Path) -> dg.MarkdownMetadataValue:
    import tempfile

    import pandas as pd

    from cifar_pipeline.drawing.plots import plot_curves, save
    from cifar_pipeline.models.saved import HISTORY

    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder, "curves.png")
        save(plot_curves(pd.read_csv(model / HISTORY)), picture)
        return inline(picture)
