"""The report of one model, from its saved predictions: figures, tables, pictures, a page and a model card. No Keras here."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from matplotlib.figure import Figure

from cifar_pipeline.artifacts import read_json, replacing_folder, write_json
from cifar_pipeline.checks import Check
from cifar_pipeline.dataset.classes import Classes
from cifar_pipeline.dataset.table import FINE, pixels, read_table
from cifar_pipeline.drawing import plots
from cifar_pipeline.drawing.pages import encoded, render, starting_point, table_html
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.evaluation.calibration import (
    Confidence,
    area_under_risk_coverage,
    expected_calibration_error,
    reliability,
    risk_coverage,
    scale,
)
from cifar_pipeline.evaluation.metrics import (
    Predictions,
    accuracy_with_interval,
    brier_score,
    compute_metrics,
    confusion,
    most_confused,
    negative_log_likelihoods,
    per_class,
)
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
)
from cifar_pipeline.reports.subsets import SUMMARY
from cifar_pipeline.settings.recipe import Target

EXAMPLES, MISTAKES, WORST, CONFUSED = 24, 12, 5, 20
PROVENANCE_KEYS = (
    *(
        "profile",
        "generated",
        "weights",
        "recipe",
        "parameters",
        "trainable_parameters",
        "training_s",
        "train_images",
    ),
    *(
        "validation_images",
        "best_epoch",
        "archive_sha256",
        "model_sha256",
        "inputs",
        "versions",
        "hardware",
        "device",
    ),
    *("finished", "code_revision", "run"),
)
"""What every reader of a provenance may rely on."""
PICTURES = {
    "curves": (
        "Training",
        "Loss and accuracy of training and validation against the epoch; the figures are in history.csv",
    ),
    "confusion_coarse": (
        "Confusion of the 20 superclasses",
        "Confusion matrix of the superclasses, in percent of each true superclass",
    ),
    "confusion_fine": (
        "Confusion of the 100 classes",
        "Confusion matrix of the 100 classes, grouped by superclass; the counts are in tables/confusion_fine.csv",
    ),
    "classes": (
        "Recall of every class",
        "Bars of each class's recall with its interval, by superclass; the figures are in tables/classes.csv",
    ),
    "reliability": (
        "Can its confidence be believed?",
        "Accuracy against confidence in 15 bins, before and after any temperature scaling; the figures are in tables/reliability.csv",
    ),
    "risk_coverage": (
        "What it costs to decide more",
        "Error among the most confident images against the share that they are; the figures are in tables/risk_coverage.csv",
    ),
    "mistakes": (
        "Most confident mistakes",
        "Test images that the model got wrong with most confidence, each with its five likeliest classes",
    ),
    "examples": (
        "Some test images",
        "Test images drawn at random, with their true and predicted names",
    ),
}
OF_CLASSES = {"confusion_fine", "superclasses"}
"""Pictures and tables that a model of the superclasses does not have: they would repeat others."""


@dataclass(frozen=True)
class Inputs:
    """Where a report's inputs are."""

    predictions: Path
    """Parquet of test predictions"""
    model: Path
    """folder of the trained model, for its history, temperature and provenance"""
    table: Path
    """Parquet of the data set, for names and images"""
    subsets: Path
    """folder of the asset `test_subsets`"""


@dataclass(frozen=True)
class Evaluation:
    """Everything that is computed from the predictions of one model."""

    target: Target
    metrics: dict[str, float]
    classes: pd.DataFrame
    superclasses: pd.DataFrame
    fine: pd.DataFrame
    coarse: pd.DataFrame
    reliability: dict[str, pd.DataFrame]
    """bins by model: `as trained` and, where a temperature was fitted, `scaled`"""
    risk: pd.DataFrame

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """By file name, each indexed by what its rows are of."""
        tables = {
            "classes": self.classes,
            "superclasses": self.superclasses,
            "confusion_fine": self.fine,
            "confusion_coarse": self.coarse,
            "most_confused": most_confused(self.fine, CONFUSED).set_index("class"),
            "reliability": pd.concat(self.reliability, names=["model", "bin"]),
            "risk_coverage": self.risk.set_index("coverage"),
        }
        return {
            name: table
            for name, table in tables.items()
            if name not in OF_CLASSES or self.target == "fine"
        }


def evaluate(
    predicted: Predictions, classes: Classes, subsets: pd.DataFrame, temperature: float | None
) -> Evaluation:
    """Every figure and table of a report.

    Args:
        subsets: as `read_subsets` gives them, a row a prediction.
        temperature: fitted on validation images; None where there were none, and then there are no scaled figures.
    """
    true, guess = predicted.true, predicted.predicted
    coarse_true, coarse_guess = classes.coarse_of[true], classes.coarse_of[guess]
    metrics = compute_metrics(predicted, classes)
    by_class = per_class(true, guess, classes.names)
    by_class.insert(0, "superclass", [classes.coarse_names[label] for label in classes.coarse_of])
    confidence = Confidence.of(predicted.probabilities, true)
    diagrams = {"as trained": reliability(confidence)}
    risk = risk_coverage(confidence)
    for name, member in subsets.items():
        metrics |= {
            f"{name}_n": int(member.sum()),
            **accuracy_with_interval(f"{name}_top1", (guess == true)[member.to_numpy()]),
        }
    metrics |= {
        "ece15": expected_calibration_error(diagrams["as trained"]),
        "aurc": area_under_risk_coverage(risk),
    }
    if temperature is not None:
        scaled = scale(predicted.probabilities, temperature)
        after = diagrams["scaled"] = reliability(Confidence.of(scaled, true))
        metrics |= {
            "temperature": temperature,
            "nll_scaled": float(negative_log_likelihoods(scaled, true).mean()),
            "brier_scaled": brier_score(scaled, true),
            "ece15_scaled": expected_calibration_error(after),
        }
    return Evaluation(
        predicted.target,
        metrics,
        by_class,
        per_class(coarse_true, coarse_guess, classes.coarse_names).rename_axis("superclass"),
        confusion(true, guess, classes.names),
        confusion(coarse_true, coarse_guess, classes.coarse_names),
        diagrams,
        risk,
    )


def write_report(name: str, inputs: Inputs, folder: Path) -> dict[str, float]:
    """Write the report of model `name` into `folder`, replacing it, and return its metrics.

    Raises: PipelineError when an input is missing or does not belong to the others.
    """
    predicted = Predictions.read(inputs.predictions)
    provenance = read_json(inputs.model / PROVENANCE, PROVENANCE_KEYS)
    if predicted.model_sha256 != provenance["model_sha256"]:
        raise PipelineError(
            f"{inputs.predictions} are of another model than {inputs.model}; materialize the predictions again"
        )
    data = read_table(inputs.table, ["fine_label", "coarse_label", "image"])
    labels = data[f"{predicted.target}_label"].to_numpy()
    if (
        predicted.row_id.max() >= data.num_rows
        or (labels[predicted.row_id] != predicted.true).any()
    ):
        raise PipelineError(
            f"{inputs.predictions} was not made from {inputs.table}: their labels differ; materialize the predictions again"
        )
    classes = Classes.of(data, predicted.target)
    calibration = read_json(
        inputs.model / "calibration.json", ("temperature", "n", "loss_before", "loss_after")
    )
    if not (inputs.model / HISTORY).is_file():
        raise PipelineError(
            f"{inputs.model / HISTORY} is missing; materialize the model again, or `dvc pull`"
        )
    history = pd.read_csv(inputs.model / HISTORY)
    subsets = read_subsets(inputs.subsets, predicted.row_id, predicted.archive_sha256)
    evaluation = evaluate(
        predicted, classes, subsets, calibration["temperature"] if calibration["n"] else None
    )
    with replacing_folder(folder) as new:
        for picture, figure in _pictures(evaluation, predicted, classes, data, history).items():
            plots.save(figure, new / PLOTS / f"{picture}.png")
        (new / TABLES).mkdir()
        tables = evaluation.tables
        for file, content in tables.items():
            content.to_csv(new / TABLES / f"{file}.csv", float_format="%.6g")
        write_json(new / METRICS, evaluation.metrics)
        write_json(new / PROVENANCE, provenance)
        history.to_csv(new / HISTORY, index=False)
        _coarse_names(predicted, classes).to_csv(new / CONFUSIONS, index=False)
        shared = _shared(name, evaluation, provenance, calibration)
        (new / CARD).write_text(render("model_card.md.j2", **shared))
        page = render(
            "report.html.j2",
            **shared,
            pictures={
                key: (*PICTURES[key], encoded(new / PLOTS / f"{key}.png"))
                for key in pictures_of(predicted.target)
            },
            worst=table_html(_named(evaluation.classes.nsmallest(WORST, "recall"))),
            confused=table_html(tables["most_confused"].reset_index())
            if len(tables["most_confused"])
            else "",
            superclasses=table_html(_named(evaluation.superclasses))
            if predicted.target == "fine"
            else "",
            classes=table_html(_named(evaluation.classes)),
            likes=read_json(inputs.subsets / SUMMARY, SUMMARY_KEYS),
            raw_provenance=json.dumps(provenance, indent=2),
        )
        (new / PAGE).write_text(page)
    return evaluation.metrics


def pictures_of(target: Target) -> list[str]:
    """The pictures that a report has."""
    return [name for name in PICTURES if name not in OF_CLASSES or target == "fine"]


def check_report(folder: Path, floor: float) -> list[Check]:
    """Whether every part of a report is there and its key figures are possible, and top-1 accuracy reaches the profile's floor."""
    wanted = list(PARTS)
    if (folder / METRICS).is_file():
        metrics = read_json(folder / METRICS)
        wanted += [
            f"{PLOTS}/{name}.png"
            for name in pictures_of("fine" if metrics["classes"] == FINE else "coarse")
        ]
    missing = [
        name
        for name in wanted
        if not (folder / name).exists() or not (folder / name).stat().st_size
    ]
    if missing:
        return [
            Check("report_complete", False, {"missing": missing}),
            Check("above_floor", False, {"report_complete": False}),
        ]
    ordered = (
        0 <= metrics["top1_low"] <= metrics["top1"] <= metrics["top5"] <= 1
        and metrics["top1"] <= metrics["coarse_top1"]
    )
    possible = ordered and all(np.isfinite(value) for value in metrics.values())
    return [
        Check("report_complete", bool(possible), {"files": len(wanted)}),
        check_floor(metrics, floor),
    ]


def check_floor(metrics: dict[str, float], floor: float) -> Check:
    """The quality gate: whether top-1 accuracy reaches `floor`."""
    return Check("above_floor", metrics["top1"] >= floor, {"top1": metrics["top1"], "floor": floor})


def _pictures(
    evaluation: Evaluation,
    predicted: Predictions,
    classes: Classes,
    data: pa.Table,
    history: pd.DataFrame,
) -> dict[str, Figure]:
    fine = predicted.target == "fine"
    images, names = pixels(data), np.array(classes.names)
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
        "mistakes": plots.plot_mistakes(
            images[predicted.row_id[mistakes]], list(names[predicted.true[mistakes]]), top
        ),
        "examples": plots.plot_examples(
            images[predicted.row_id[shown]],
            list(names[predicted.true[shown]]),
            list(names[predicted.predicted[shown]]),
        ),
    }
    return (
        figures | {"confusion_fine": plots.plot_confusion(evaluation.fine, classes.coarse_of)}
        if fine
        else figures
    )


def _shared(
    name: str, evaluation: Evaluation, provenance: dict[str, Any], calibration: dict[str, Any]
) -> dict[str, Any]:
    """What the page and the model card both tell."""
    started_from = starting_point(provenance["weights"]["name"])
    classes = "100 classes" if evaluation.target == "fine" else "20 superclasses"
    return {
        "name": name,
        "title": f"{name} on {'generated images' if provenance['generated'] else 'CIFAR-100'}",
        "fine": evaluation.target == "fine",
        "subtitle": f"{classes}, profile {provenance['profile']}, {evaluation.metrics['n']:,} test images, started from {started_from}",
        "started_from": started_from,
        "generated": provenance["generated"],
        "metrics": evaluation.metrics,
        "no_duplicates": NO_DUPLICATES,
        "provenance": provenance,
        "recipe": provenance["recipe"],
        "calibration": calibration,
        "worst_names": [
            name
            for name, row in evaluation.classes.nsmallest(WORST, "recall").iterrows()
            if row["recall"] < 1
        ],
    }


def _coarse_names(predicted: Predictions, classes: Classes) -> pd.DataFrame:
    """True and predicted superclass of every image: what DVC's confusion plot is drawn from."""
    names = np.array(classes.coarse_names)
    return pd.DataFrame(
        {
            "actual": names[classes.coarse_of[predicted.true]],
            "predicted": names[classes.coarse_of[predicted.predicted]],
        }
    )


def _named(table: pd.DataFrame) -> pd.DataFrame:
    return table.reset_index().rename(columns={"recall_low": "recall from", "recall_high": "to"})
