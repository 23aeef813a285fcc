"""Report of one model and leaderboard over all: tables, pictures and self-contained pages from saved predictions."""

import base64
import json
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from cifar_pipeline.artifacts import replacing_folder, write_json
from cifar_pipeline.dataset.table import pixels, read_table
from cifar_pipeline.dataset.validation import Check
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.evaluation import plots
from cifar_pipeline.evaluation.metrics import Classes, Predictions, compute_metrics, confusion, report_table

EXAMPLES = 24
PAGE, METRICS, TABLE, HISTORY = "index.html", "metrics.json", "classification_report.csv", "history.csv"
PICTURES = {
    "curves": ("Training", "Loss and accuracy of training and validation against the epoch; the figures are in history.csv"),
    "confusion_coarse": ("Confusion of the 20 superclasses", "Confusion matrix of the superclasses, in percent of each true superclass"),
    "confusion_fine": (
        "Confusion of the 100 classes",
        "Confusion matrix of the 100 classes, grouped by superclass; the counts are in confusion_fine.csv",
    ),
    "examples": ("Some test images", "Test images with their true and predicted names"),
}
FILES = (PAGE, METRICS, TABLE, HISTORY, "confusion_fine.csv", "confusion_coarse.csv", *(f"plots/{name}.png" for name in PICTURES))
BOARD_COLUMNS = (
    "model",
    "top1",
    "top1_low",
    "top1_high",
    "top5",
    "coarse_top1",
    "loss",
    "n",
    "parameters",
    "training_s",
    "weights",
    "profile",
)


def write_report(name: str, predictions: Path, model: Path, table: Path, folder: Path) -> dict[str, float]:
    """Write the report of model `name` into `folder`, replacing it, and return its metrics.

    Args:
        predictions: Parquet of test predictions.
        model: folder of the trained model, for its history and provenance.
        table: Parquet of the data set, for names and example images.

    Raises: PipelineError when an input is missing or does not belong to the others.
    """
    predicted = Predictions.read(predictions)
    data = read_table(table, ["fine_label", "coarse_label", "image"])
    if predicted.row_id.max() >= data.num_rows or (data["fine_label"].to_numpy()[predicted.row_id] != predicted.true).any():
        raise PipelineError(f"{predictions} was not made from {table}: their labels differ; materialize the predictions again")
    classes = Classes.of(data)
    provenance = json.loads((model / "provenance.json").read_text())
    history = pd.read_csv(model / HISTORY)
    metrics = compute_metrics(predicted, classes)
    fine = confusion(predicted.true, predicted.predicted, classes.fine_names)
    coarse = confusion(classes.coarse_of[predicted.true], classes.coarse_of[predicted.predicted], classes.coarse_names)
    shown = np.random.default_rng(0).choice(len(predicted.true), EXAMPLES, replace=False)
    per_class = report_table(predicted, classes)
    with replacing_folder(folder) as new:
        pictures = {
            "curves": plots.plot_curves(history),
            "confusion_coarse": plots.plot_confusion(coarse),
            "confusion_fine": plots.plot_confusion(fine, classes.coarse_of),
            "examples": plots.plot_examples(
                pixels(data)[predicted.row_id[shown]],
                [classes.fine_names[label] for label in predicted.true[shown]],
                [classes.fine_names[label] for label in predicted.predicted[shown]],
            ),
        }
        for picture, figure in pictures.items():
            plots.save(figure, new / "plots" / f"{picture}.png")
        write_json(new / METRICS, metrics)
        history.to_csv(new / HISTORY, index=False)
        per_class.to_csv(new / TABLE, float_format="%.4f")
        fine.to_csv(new / "confusion_fine.csv")
        coarse.to_csv(new / "confusion_coarse.csv")
        page = _render(
            "report.html.j2",
            title=f"{name} on {'generated images' if provenance['generated'] else 'CIFAR-100'}",
            subtitle=f"profile {provenance['profile']}, {metrics['n']:,} test images, weights: {provenance['weights']['name']}",
            generated=provenance["generated"],
            metrics=metrics,
            pictures=[(*PICTURES[picture], _encoded(new / "plots" / f"{picture}.png")) for picture in PICTURES],
            classes=_html(per_class.reset_index().astype({"support": int}), "{:.3f}"),
            provenance=json.dumps(provenance, indent=2),
        )
        (new / PAGE).write_text(page)
    return metrics


def check_report(folder: Path) -> list[Check]:
    """Whether every file of a report is there and its key figures are possible."""
    missing = [name for name in FILES if not (folder / name).is_file() or not (folder / name).stat().st_size]
    if missing:
        return [Check("report_complete", False, {"missing": missing})]
    metrics = json.loads((folder / METRICS).read_text())
    ordered = 0 <= metrics["top1_low"] <= metrics["top1"] <= metrics["top5"] <= 1 and metrics["top1"] <= metrics["coarse_top1"]
    return [Check("report_complete", bool(ordered and np.isfinite(metrics["loss"])), {"files": len(FILES)})]


def write_leaderboard(reports: dict[str, Path], models: dict[str, Path], folder: Path) -> pd.DataFrame:
    """Write `leaderboard.csv`, a picture and a page over all models into `folder`; best top-1 accuracy first.

    Raises: PipelineError when a report is missing, or they are not of one profile and one test split.
    """
    rows: list[dict[str, Any]] = []
    for name, report in reports.items():
        if not (report / METRICS).is_file():
            raise PipelineError(f"{report / METRICS} is missing; materialize the report of '{name}' first")
        metrics = json.loads((report / METRICS).read_text())
        provenance = json.loads((models[name] / "provenance.json").read_text())
        rows.append(
            {
                **metrics,
                **{key: provenance[key] for key in ("profile", "parameters", "training_s", "generated", "archive_sha256")},
                "model": name,
                "weights": provenance["weights"]["name"],
            }
        )
    board = pd.DataFrame(rows).sort_values("top1", ascending=False)
    for key in ("profile", "archive_sha256", "n"):
        if board[key].nunique() > 1:
            different = dict(zip(board["model"], board[key], strict=True))
            raise PipelineError(f"the reports differ in {key}: {different}; materialize all of them under one profile")
    with replacing_folder(folder) as new:
        board.loc[:, list(BOARD_COLUMNS)].to_csv(new / "leaderboard.csv", index=False)
        plots.save(plots.plot_leaderboard(board), new / "leaderboard.png")
        shown = board.loc[:, list(BOARD_COLUMNS)]
        page = _render(
            "leaderboard.html.j2",
            title="Leaderboard",
            subtitle=f"profile {board['profile'].iloc[0]}, {board['n'].iloc[0]:,} test images",
            generated=bool(board["generated"].iloc[0]),
            picture=_encoded(new / "leaderboard.png"),
            table=_html(_readable(shown), "{:.3f}"),
            models=list(board["model"]),
        )
        (new / PAGE).write_text(page)
    return shown


def _readable(board: pd.DataFrame) -> pd.DataFrame:
    """The leaderboard as people read it: percent with intervals, minutes, thousands."""
    return pd.DataFrame(
        {
            "model": board["model"],
            "top-1 (95 % interval)": [f"{row.top1:.2%} ({row.top1_low:.2%} to {row.top1_high:.2%})" for row in board.itertuples()],
            "top-5": board["top5"].map("{:.2%}".format),
            "superclass": board["coarse_top1"].map("{:.2%}".format),
            "loss": board["loss"],
            "test images": board["n"].map("{:,}".format),
            "parameters": board["parameters"].map("{:,}".format),
            "training, min": (board["training_s"] / 60).map("{:.1f}".format),
            "started from": board["weights"],
        }
    )


def _html(frame: pd.DataFrame, number: str) -> str:
    return frame.to_html(index=False, border=0, float_format=number.format)


def _encoded(picture: Path) -> str:
    return base64.b64encode(picture.read_bytes()).decode()


def _render(template: str, **content: Any) -> str:
    loader = jinja2.FileSystemLoader(Path(__file__).with_name("templates"))
    return (
        jinja2.Environment(loader=loader, autoescape=jinja2.select_autoescape(["html.j2"]), undefined=jinja2.StrictUndefined)
        .get_template(template)
        .render(**content)
    )
