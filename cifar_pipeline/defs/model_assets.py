"""What is made for every recipe: model, predictions, report; then the pages over all of them."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from cifar_pipeline.defs.executors import IN_POOL_FIRST, in_pool
from cifar_pipeline.defs.resources import Pipeline, asset_settings, check_specs
from cifar_pipeline.defs.steps import inline
from cifar_pipeline.graph.stages import Key, Stage
from cifar_pipeline.settings.params import Params

FOLLOWS: dict[str, Any] = {"automation_condition": dg.AutomationCondition.eager()}
"""Settings of what costs minutes and should keep in step with the models; the UI's Automation page
has the switch, which is off at first."""
Yielded = Iterator[dg.AssetCheckResult | dg.MaterializeResult]
MODEL_CHECKS = {
    "finite_weights": "No weight of the saved model is NaN or infinite.",
    "saved_predicts_as_trained": "The model read back from its file predicts what the trained one "
    "did.",
    "called_predicts_as_trained": "The model read back from its file, merely called, predicts what "
    "the trained one did.",
}
REPORT_CHECKS = {
    "report_complete": "Every part of the report is there, and its figures are possible.",
    "above_floor": "Top-1 test accuracy reaches the floor that params.yaml sets for the recipe "
    "under this profile.",
}


def build_model_assets(stages: Mapping[Key, Stage], params: Params) -> list[dg.AssetsDefinition]:
    """model → predictions → report for every recipe, then the leaderboard and the ledger."""
    assets = []
    for name in params.models:
        assets += [
            _model(name, stages["model", name], params),
            _predictions(name, stages["predictions", name]),
            _report(name, stages["report", name]),
        ]
    return [*assets, _leaderboard(stages["leaderboard",]), _ledger(stages["ledger",])]


def _model(name: str, stage: Stage, params: Params) -> dg.AssetsDefinition:
    @dg.asset(
        **asset_settings(stage, "models"),
        **in_pool(params.recipe(name).gpus),
        kinds={"keras", "tensorflow"},
        check_specs=check_specs(stage, MODEL_CHECKS),
        description=f"`{name}` trained by its recipe: model.keras (uint8 32×32×3 to logits), class "
        "names, history, temperature, provenance.",
    )
    def model(context: dg.AssetExecutionContext, pipeline: Pipeline) -> Yielded:
        from cifar_pipeline.training.train_and_save import train_and_save

        with pipeline.step(context, stage) as step:
            home, run = step.home, {"id": context.run_id}
            folder = step.staged(home.model(name))
            checks, summary = train_and_save(
                name, step.params, home, run, _observer(context, stage), folder=folder
            )
            yield from step.finish(checks, {**summary, "curves": _curves(folder)})
            # Now that DVC has what they led to.
            shutil.rmtree(home.checkpoints(name, step.params.profile), ignore_errors=True)

    return model


def _predictions(name: str, stage: Stage) -> dg.AssetsDefinition:
    @dg.asset(
        **asset_settings(stage, "predictions"),
        **FOLLOWS,
        **IN_POOL_FIRST,
        kinds={"parquet", "keras"},
        description=f"Probabilities of all classes by `{name}` for every test image and its mirror "
        "image, from which any metric can be computed without a GPU.",
    )
    def predictions(context: dg.AssetExecutionContext, pipeline: Pipeline) -> Yielded:
        from cifar_pipeline.evaluation.predictions import predict_test, write_predictions

        with pipeline.step(context, stage) as step:
            home = step.home
            predicted = predict_test(home.model(name), home.table, home.splits)
            write_predictions(predicted, step.staged(home.predictions(name)))
            yield from step.finish(metadata={"dagster/row_count": predicted.num_rows})

    return predictions


def _report(name: str, stage: Stage) -> dg.AssetsDefinition:
    @dg.asset(
        **asset_settings(stage, "reports"),
        **FOLLOWS,
        kinds={"html", "scikitlearn"},
        check_specs=check_specs(stage, REPORT_CHECKS),
        description=f"How `{name}` does on the test split: figures with intervals, calibration, "
        "confusions, a page and a model card.",
    )
    def report(context: dg.AssetExecutionContext, pipeline: Pipeline) -> Yielded:
        from cifar_pipeline.reports.files import PLOTS
        from cifar_pipeline.reports.report import Inputs, check_report, write_report

        with pipeline.step(context, stage) as step:
            home, folder = step.home, step.staged(step.home.report(name))
            inputs = Inputs(home.predictions(name), home.model(name), home.table, home.test_subsets)
            metrics = write_report(name, inputs, folder)
            checks = check_report(folder, step.params.floor(name))
            yield from step.finish(checks, {**metrics, **_pictures(folder / PLOTS)})

    return report


def _leaderboard(stage: Stage) -> dg.AssetsDefinition:
    @dg.asset(
        **asset_settings(stage, "reports"),
        **FOLLOWS,
        kinds={"html"},
        description="All models side by side: accuracy with its interval against training time and "
        "size, curves, paired tests, ensembles.",
    )
    def leaderboard(context: dg.AssetExecutionContext, pipeline: Pipeline) -> Yielded:
        import pandas as pd

        from cifar_pipeline.reports.leaderboard import (
            ENSEMBLES,
            Entry,
            entries_under,
            write_leaderboard,
        )

        with pipeline.step(context, stage) as step:
            home, params, folder = step.home, step.params, step.staged(step.home.leaderboard)
            models = {
                name: Entry(home.report(name), home.predictions(name), params.floor(name))
                for name in params.models
            }
            entries = entries_under(params.profile, models)
            missing = [name for name in models if name not in entries]
            possible = {
                key: ensemble
                for key, ensemble in params.ensembles.items()
                if set(ensemble.members) <= set(entries)
            }
            board = write_leaderboard(entries, possible, folder, missing=missing)
            best = {
                "best_model": str(board["model"].iloc[0]),
                "best_top1": float(board["top1"].iloc[0]),
            }
            ensembles = pd.read_csv(folder / ENSEMBLES)
            tables = {
                name: dg.MetadataValue.md(table.to_markdown(index=False, floatfmt=".4g"))
                for name, table in (("leaderboard", board), ("ensembles", ensembles))
                if len(table)
            }
            waiting = {"not_made_yet": ", ".join(missing)} if missing else {}
            yield from step.finish(metadata={**best, **waiting, **tables, **_pictures(folder)})

    return leaderboard


def _ledger(stage: Stage) -> dg.AssetsDefinition:
    @dg.asset(
        **asset_settings(stage, "reports"),
        **FOLLOWS,
        kinds={"html"},
        description="Every published claim beside the runs recorded in the repository and those in "
        "data/, with a verdict by a rule.",
    )
    def ledger(context: dg.AssetExecutionContext, pipeline: Pipeline) -> Yielded:
        from cifar_pipeline.reports.ledger import markdown, write_ledger
        from cifar_pipeline.reports.runs import load_runs, merge, runs_of
        from cifar_pipeline.reports.statements import load_measurements

        with pipeline.step(context, stage) as step:
            home, folder = step.home, step.staged(step.home.ledger)
            reports = [
                (step.params.without_seed(name), home.report(name)) for name in step.params.models
            ]
            recorded = load_runs(home.recorded_runs)
            runs = merge(recorded, runs_of(reports))
            measurements = load_measurements(home.recorded_studies)
            verdicts = write_ledger(runs, measurements, folder)
            table = dg.MetadataValue.md(markdown(runs, measurements))
            yield from step.finish(metadata={**verdicts, "ledger": table})

    return ledger


def _observer(context: dg.AssetExecutionContext, stage: Stage) -> Any:
    """Record each epoch as an observation of the model's asset, and tell the trackers."""
    follower = context.resources.pipeline.follower

    def observe(record: dict[str, float | None], seconds_left: float) -> None:
        shown = {key: round(value, 5) for key, value in record.items() if value is not None}
        context.log_event(
            dg.AssetObservation(
                dg.AssetKey(stage.key),
                metadata={**shown, "minutes_left": round(seconds_left / 60, 1)},
                description=f"epoch {record['epoch']}",
            )
        )
        follower.epoch(record)

    return observe


def _pictures(folder: Path) -> dict[str, dg.MarkdownMetadataValue]:
    return {picture.stem: inline(picture) for picture in sorted(folder.glob("*.png"))}


def _curves(model: Path) -> dg.MarkdownMetadataValue:
    import tempfile

    import pandas as pd

    from cifar_pipeline.drawing.plots import plot_curves
    from cifar_pipeline.drawing.style import save
    from cifar_pipeline.models.saved import HISTORY

    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder, "curves.png")
        save(plot_curves(pd.read_csv(model / HISTORY)), picture)
        return inline(picture)
