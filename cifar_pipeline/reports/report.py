"""The report of one model, made from its saved predictions: tables, pictures, a page, a model card.

Nothing here needs Keras.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cifar_pipeline.artifacts import read_json, replacing_folder, write_json
from cifar_pipeline.checks import Check
from cifar_pipeline.dataset.classes import Classes
from cifar_pipeline.dataset.stored import StoredImages
from cifar_pipeline.dataset.table import FINE, read_labels
from cifar_pipeline.drawing import plots
from cifar_pipeline.drawing.grids import plot_examples, plot_mistakes
from cifar_pipeline.drawing.numbers import count, percent
from cifar_pipeline.drawing.pages import Table, encoded, render, starting_point, with_interval
from cifar_pipeline.drawing.style import save
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.evaluation.attention import read_attention
from cifar_pipeline.evaluation.evaluate import OF_FINE_CLASSES, Evaluation, evaluate
from cifar_pipeline.evaluation.metrics import Predictions
from cifar_pipeline.evaluation.subsets import NO_DUPLICATES, SUMMARY_KEYS, read_subsets
from cifar_pipeline.reports.files import (
    CARD,
    CONFUSIONS,
    HISTORY,
    METRICS,
    PAGE,
    PARTS,
    PLOTS,
    PROVENANCE,
    TABLES,
    read_history,
)
from cifar_pipeline.reports.subsets import SUMMARY
from cifar_pipeline.settings.recipe import Target

EXAMPLES, MISTAKES, WEAKEST = 24, 12, 5
CALIBRATION = "calibration.json"
CALIBRATION_KEYS = ("temperature", "n", "loss_before", "loss_after")
PROVENANCE_KEYS = (
    "profile",
    "generated",
    "weights",
    "recipe",
    "parameters",
    "trainable_parameters",
    "training_s",
    "train_images",
    "validation_images",
    "best_epoch",
    "archive_sha256",
    "model_sha256",
    "inputs",
    "versions",
    "hardware",
    "device",
    "finished",
    "code_revision",
    "run",
)
"""What every reader of a provenance may rely on."""
PICTURES = {
    "curves": (
        "Training",
        "Loss and accuracy of training and validation by epoch; the figures are in history.csv",
    ),
    "confusion_coarse": (
        "Confusion of the 20 superclasses",
        "Confusion matrix of the superclasses, in percent of each true superclass; "
        "the counts are in tables/confusion_coarse.csv",
    ),
    "confusion_fine": (
        "Confusion of the 100 classes",
        "Confusion matrix of the 100 classes, grouped by superclass; "
        "the counts are in tables/confusion_fine.csv",
    ),
    "classes": (
        "Recall of every class",
        "Recall of each class with its interval, by superclass; "
        "the figures are in tables/classes.csv",
    ),
    "reliability": (
        "Can its confidence be trusted?",
        "Accuracy against confidence in 15 bins, before and after any temperature scaling; "
        "the figures are in tables/reliability.csv",
    ),
    "risk_coverage": (
        "What deciding more images costs",
        "Error rate of the most confident images against the share of all that they are; "
        "the figures are in tables/risk_coverage.csv",
    ),
    "mistakes": (
        "Most confident mistakes",
        "The test images that the model got wrong with most confidence, each as it is and lit "
        "where the model looked (Grad-CAM), with its five likeliest classes",
    ),
    "examples": (
        "Some test images",
        "Test images drawn at random, with their true and predicted names",
    ),
}


@dataclass(frozen=True)
class Inputs:
    """Where the inputs of a report are."""

    predictions: Path
    """Parquet file of the test predictions"""
    model: Path
    """folder of the trained model, for its history, temperature and provenance"""
    table: Path
    """Parquet file of the data set, for names and images"""
    subsets: Path
    """folder of the asset `test_subsets`"""


def write_report(name: str, inputs: Inputs, folder: Path) -> dict[str, Any]:
    """Write the report of the model `name` to `folder`, replacing it.

    Returns:
        The report's metrics, and as `images` whether they are of `generated` images or `CIFAR-100`.

    Raises:
        PipelineError: an input is missing or does not belong to the others; `folder` is then left
            as it was.
    """
    predicted = Predictions.read(inputs.predictions)
    provenance = read_json(inputs.model / PROVENANCE, PROVENANCE_KEYS)
    if predicted.model_sha256 != provenance["model_sha256"]:
        raise PipelineError(
            f"{inputs.predictions} belongs to another model than {inputs.model}; "
            "materialize the predictions again"
        )
    data = read_labels(inputs.table)
    labels = data[f"{predicted.target}_label"].to_numpy()
    if (
        predicted.row_id.max() >= data.num_rows
        or (labels[predicted.row_id] != predicted.true).any()
    ):
        raise PipelineError(
            f"{inputs.predictions} was not made from {inputs.table}: their labels differ; "
            "materialize the predictions again"
        )
    classes = Classes.of(data, predicted.target)
    calibration = read_json(inputs.model / CALIBRATION, CALIBRATION_KEYS)
    history = read_history(inputs.model)
    subsets = read_subsets(inputs.subsets, predicted.row_id, predicted.archive_sha256)
    duplicates = read_json(inputs.subsets / SUMMARY, SUMMARY_KEYS)
    evaluation = evaluate(
        predicted, classes, subsets, calibration["temperature"] if calibration["n"] else None
    )
    metrics = {**evaluation.metrics, "images": kind_of_images(provenance)}
    with replacing_folder(folder) as new:
        for key, figure in _pictures(
            evaluation,
            predicted,
            classes,
            StoredImages(inputs.table),
            history,
            file=inputs.predictions,
        ).items():
            save(figure, new / PLOTS / f"{key}.png")
        (new / TABLES).mkdir()
        for file, content in evaluation.tables.items():
            content.to_csv(new / TABLES / f"{file}.csv", float_format="%.6g", encoding="utf-8")
        write_json(new / METRICS, metrics)
        write_json(new / PROVENANCE, provenance)
        history.to_csv(new / HISTORY, index=False, encoding="utf-8")
        _coarse_names(predicted, classes).to_csv(new / CONFUSIONS, index=False, encoding="utf-8")
        shared = _shared(name, evaluation, provenance, calibration)
        card = render("model_card.md.j2", **shared)
        (new / CARD).write_text(card, encoding="utf-8", newline="\n")
        page = render(
            "report.html.j2",
            **shared,
            **_page_tables(evaluation),
            pictures={
                key: (*PICTURES[key], encoded(new / PLOTS / f"{key}.png"))
                for key in pictures_of(predicted.target)
            },
            plots=PLOTS,
            card=CARD,
            duplicates=duplicates,
            raw_provenance=json.dumps(provenance, indent=2),
        )
        (new / PAGE).write_text(page, encoding="utf-8", newline="\n")
    return metrics


def kind_of_images(provenance: dict[str, Any]) -> str:
    """What figures were made from: `generated` images, which say nothing of any model, or not."""
    return "generated" if provenance["generated"] else "CIFAR-100"


def pictures_of(target: Target) -> list[str]:
    """The pictures that a report has."""
    return [name for name in PICTURES if name not in OF_FINE_CLASSES or target == "fine"]


def check_report(folder: Path, floor: float) -> list[Check]:
    """Whether a report is complete with possible figures, and top-1 accuracy reaches `floor`.

    A model below its floor has a readable report, which is what shows the reason; the leaderboard
    refuses it.
    """
    wanted = list(PARTS)
    metrics = read_json(folder / METRICS) if (folder / METRICS).is_file() else {}
    if metrics:
        target: Target = "fine" if metrics["classes"] == FINE else "coarse"
        wanted += [f"{PLOTS}/{name}.png" for name in pictures_of(target)]
    missing = [
        name
        for name in wanted
        if not (folder / name).exists() or not (folder / name).stat().st_size
    ]
    if missing:
        return [
            Check(
                "report_complete",
                False,
                {"missing": missing},
                found=f"{', '.join(missing)} missing or empty in {folder}",
                limit=f"{len(wanted)} files and folders",
                repair="Materialize the report again.",
            ),
            Check(
                "above_floor",
                False,
                {"report_complete": False},
                found="an incomplete report",
                limit=f"top-1 accuracy of at least {percent(floor)}",
                repair="Materialize the report again.",
            ),
        ]
    impossible = _impossible(metrics)
    return [
        Check(
            "report_complete",
            not impossible,
            {"files": len(wanted), "impossible": impossible},
            found=f"all {len(wanted)} files"
            + (f", and impossible figures: {'; '.join(impossible)}" if impossible else ""),
            limit="every file, and figures that are possible",
            repair="Materialize the predictions and then the report again.",
        ),
        check_floor(metrics, floor),
    ]


def check_floor(metrics: dict[str, Any], floor: float) -> Check:
    """The quality gate: whether top-1 accuracy reaches `floor`."""
    return Check(
        "above_floor",
        metrics["top1"] >= floor,
        {"top1": metrics["top1"], "floor": floor},
        found=f"top-1 accuracy of {percent(metrics['top1'])}",
        limit=f"at least {percent(floor)}",
        repair="Read the report for the reason, then train the model again; its floor is in "
        "params.yaml under `floors`.",
    )


def _impossible(metrics: dict[str, Any]) -> list[str]:
    """What is wrong with the figures themselves, in words."""
    chain = [0, *(metrics[key] for key in ("top1_low", "top1", "top5")), 1]
    found = [
        f"{name} is {value}"
        for name, value in metrics.items()
        if not isinstance(value, str) and not np.isfinite(value)
    ]
    if chain != sorted(chain):
        found.append("0 ≤ top1_low ≤ top1 ≤ top5 ≤ 1 does not hold")
    if not metrics["top1"] <= metrics["coarse_top1"]:
        found.append("top1 is above coarse_top1")
    return found


def _pictures(
    evaluation: Evaluation,
    predicted: Predictions,
    classes: Classes,
    images: StoredImages,
    history: pd.DataFrame,
    *,
    file: Path,
) -> dict[str, Any]:
    """Matplotlib's figures by name.

    Args:
        file: of the predictions.
    """
    fine = predicted.target == "fine"
    names = np.array(classes.names)
    shown = np.random.default_rng(0).choice(len(predicted.true), EXAMPLES, replace=False)
    confidence = predicted.probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted.predicted != predicted.true)
    mistakes = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
    likeliest = predicted.top(5)[mistakes]
    top = [
        [(names[label], float(predicted.probabilities[row, label])) for label in labels]
        for row, labels in zip(mistakes, likeliest, strict=True)
    ]
    figures = {
        "curves": plots.plot_curves(history),
        "confusion_coarse": plots.plot_confusion(evaluation.coarse),
        "classes": plots.plot_classes(
            evaluation.classes, list(evaluation.classes["superclass"]) if fine else None
        ),
        "reliability": plots.plot_reliability(evaluation.reliability),
        "risk_coverage": plots.plot_risk_coverage(evaluation.risk),
        "mistakes": plot_mistakes(
            images.take(predicted.row_id[mistakes]),
            read_attention(file, mistakes),
            list(names[predicted.true[mistakes]]),
            top,
        ),
        "examples": plot_examples(
            images.take(predicted.row_id[shown]),
            list(names[predicted.true[shown]]),
            list(names[predicted.predicted[shown]]),
        ),
    }
    if fine:
        figures["confusion_fine"] = plots.plot_grouped_confusion(
            evaluation.fine, classes.coarse_of, classes.coarse_names
        )
    return figures


def _shared(
    name: str, evaluation: Evaluation, provenance: dict[str, Any], calibration: dict[str, Any]
) -> dict[str, Any]:
    """What the page and the model card have in common."""
    started_from = starting_point(provenance["weights"]["name"])
    fine = evaluation.target == "fine"
    images = "generated images" if provenance["generated"] else "CIFAR-100"
    weakest = evaluation.classes.nsmallest(WEAKEST, "recall")
    return {
        "name": name,
        "title": f"{name} on {images}",
        "fine": fine,
        "subtitle": f"{'100 classes' if fine else '20 superclasses'}, "
        f"profile {provenance['profile']}, {count(evaluation.metrics['n'])} test images, "
        f"started from {started_from}",
        "started_from": started_from,
        "generated": provenance["generated"],
        "metrics": evaluation.metrics,
        "no_duplicates": NO_DUPLICATES,
        "provenance": provenance,
        "recipe": provenance["recipe"],
        "calibration": calibration,
        "worst_names": list(weakest.index[weakest["recall"] < 1]),
        "class_names": list(evaluation.classes.index),
    }


def _page_tables(evaluation: Evaluation) -> dict[str, Table]:
    confused = evaluation.tables["most_confused"].reset_index()
    return {
        "worst": _of_classes(evaluation.classes.nsmallest(WEAKEST, "recall")),
        "classes": _of_classes(evaluation.classes),
        "superclasses": _of_classes(evaluation.superclasses),
        "confused": Table(
            list(confused.columns),
            [
                [str(first), str(second), *map(count, counts)]
                for first, second, *counts in confused.itertuples(index=False)
            ],
            frozenset({"and"}),
        ),
    }


def _of_classes(table: pd.DataFrame) -> Table:
    """Precision, recall and F1 as people read them."""
    superclass = ["superclass"] if "superclass" in table else []
    rows = [
        [
            str(name),
            *(row[key] for key in superclass),
            percent(row["precision"]),
            with_interval(*(percent(row[key]) for key in ("recall", "recall_low", "recall_high"))),
            percent(row["f1"]),
            count(row["n"]),
        ]
        for name, row in table.iterrows()
    ]
    headings = [str(table.index.name), *superclass, "precision", "recall", "F1", "images"]
    return Table(headings, rows, frozenset(superclass))


def _coarse_names(predicted: Predictions, classes: Classes) -> pd.DataFrame:
    """True and predicted superclass of every image, from which DVC draws its confusion plot."""
    names = np.array(classes.coarse_names)
    return pd.DataFrame(
        {
            "actual": names[classes.coarse_of[predicted.true]],
            "predicted": names[classes.coarse_of[predicted.predicted]],
        }
    )
