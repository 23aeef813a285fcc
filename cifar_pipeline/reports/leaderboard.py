"""All models of a profile beside each other. Several seeds of one recipe are one entry."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cifar_pipeline.artifacts import read_json, replacing_folder
from cifar_pipeline.dataset.table import FINE
from cifar_pipeline.drawing import plots
from cifar_pipeline.drawing.pages import encoded, render, starting_point, table_html
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.evaluation.comparison import compare_all
from cifar_pipeline.evaluation.ensembles import compare_with_members
from cifar_pipeline.evaluation.metrics import Predictions, wilson
from cifar_pipeline.evaluation.subsets import NO_DUPLICATES
from cifar_pipeline.reports.files import HISTORY, METRICS, PROVENANCE
from cifar_pipeline.reports.report import PROVENANCE_KEYS, check_floor
from cifar_pipeline.settings.evaluation import Ensemble

ENSEMBLES = "ensembles.csv"
PICTURES = {
    "accuracy": "Bars of each model's top-1 test accuracy with its 95 % interval; the table has the figures",
    "cost": "Top-1 test accuracy against minutes of training and against parameters, with intervals; the table has the figures",
    "curves": "Validation accuracy of every model against epochs and against minutes of training",
}
ACCURACIES = {
    "top-1, % (95 % interval)": "top1",
    "top-5": "top5",
    "superclass": "coarse_top1",
    "without duplicates": f"{NO_DUPLICATES}_top1",
}
SUBSET_SIZES = {f"{NO_DUPLICATES}_top1": f"{NO_DUPLICATES}_n"}
METRIC_KEYS = (
    *(f"{key}{end}" for key in ACCURACIES.values() for end in ("", "_low", "_high")),
    *SUBSET_SIZES.values(),
    *("n", "classes", "nll", "ece15"),
)
COLUMNS = (
    "model",
    "classes",
    *(f"{key}{end}" for key in ACCURACIES.values() for end in ("", "_low", "_high")),
    "nll",
    "ece15",
    "ece15_scaled",
    "n",
    "parameters",
    "training_s",
    "weights",
    "profile",
    "seeds",
    "top1_spread",
)


@dataclass(frozen=True)
class Entry:
    """Where the artefacts of one model are, and the accuracy it must reach."""

    report: Path
    predictions: Path
    floor: float


def write_leaderboard(
    entries: Mapping[str, Entry], ensembles: Mapping[str, Ensemble], folder: Path
) -> pd.DataFrame:
    """Write `leaderboard.csv`, `pairs.csv`, `ensembles.csv`, pictures and a page over all models into `folder`; best top-1 accuracy first.

    Models of the 20 superclasses come after those of the 100 classes; none is compared with one of the others.

    Raises: PipelineError when an artefact is missing or does not belong to the others, or a model is below its floor.
    """
    rows, histories, predictions = [], {}, {}
    for name, entry in entries.items():
        metrics = read_json(entry.report / METRICS, METRIC_KEYS)
        rows.append(_row(name, metrics, read_json(entry.report / PROVENANCE, PROVENANCE_KEYS)))
        histories[name] = pd.read_csv(entry.report / HISTORY)
        predictions[name] = Predictions.read(entry.predictions)
    board = pd.DataFrame(rows)
    for key in ("profile", "archive_sha256", "n"):
        if board[key].nunique() > 1:
            different = dict(zip(board["model"], board[key], strict=True))
            raise PipelineError(
                f"the reports differ in {key}: {different}; materialize all of them under one profile"
            )
    for row in rows:
        entry = entries[row["model"]]
        if not check_floor(row, entry.floor).passed:
            raise PipelineError(
                f"'{row['model']}' is refused: its top-1 accuracy of {row['top1']:.2%} is below the floor of {entry.floor:.2%} that "
                f"params.yaml sets for the profile '{row['profile']}'; train it again, or take it from `models`"
            )
        if predictions[row["model"]].model_sha256 != row["model_sha256"]:
            raise PipelineError(
                f"{entry.report} is not the report on {entry.predictions}; materialize it again"
            )
    correct = {
        name: predicted.predicted == predicted.true for name, predicted in predictions.items()
    }
    # Several seeds share a line only for the reader; pairs are compared image by image, so model by model.
    shown, ranked = (
        table.sort_values(["classes", "top1"], ascending=False, ignore_index=True)
        for table in (_one_entry_a_recipe(board), board)
    )
    order = list(ranked["model"])
    pairs = pd.concat(
        [
            compare_all({name: correct[name] for name in group["model"]})
            for _, group in ranked.groupby("classes", sort=False)
        ]
    )
    gains = compare_with_members(
        ensembles, predictions, dict(zip(board["model"], board["parameters"], strict=True))
    )
    with replacing_folder(folder) as new:
        shown.reindex(columns=COLUMNS).to_csv(new / "leaderboard.csv", index=False)
        pairs.to_csv(new / "pairs.csv", index=False)
        gains.to_csv(new / ENSEMBLES, index=False)
        plots.save(plots.plot_leaderboard(shown), new / "accuracy.png")
        plots.save(plots.plot_accuracy_against(shown), new / "cost.png")
        plots.save(
            plots.plot_all_curves({name: histories[name] for name in order}), new / "curves.png"
        )
        page = render(
            "leaderboard.html.j2",
            title="Leaderboard",
            subtitle=f"profile {board['profile'].iloc[0]}, {board['n'].iloc[0]:,} test images",
            generated=bool(board["generated"].iloc[0]),
            pictures={
                name: (alternative, encoded(new / f"{name}.png"))
                for name, alternative in PICTURES.items()
            },
            tables={
                classes: table_html(_readable(shown[shown["classes"] == classes]))
                for classes in shown["classes"].unique().tolist()
            },
            ensembles=table_html(_readable_ensembles(gains)) if len(gains) else "",
            pairs=table_html(_readable_pairs(pairs)) if len(pairs) else "",
            pairs_count=len(pairs),
            models=order,
        )
        (new / "index.html").write_text(page)
    return shown.reindex(columns=COLUMNS)


def _row(name: str, metrics: dict[str, float], provenance: dict[str, Any]) -> dict[str, Any]:
    recipe = {key: value for key, value in provenance["recipe"].items() if key != "seed"}
    return {
        **metrics,
        **{
            key: provenance[key]
            for key in (
                "profile",
                "parameters",
                "training_s",
                "generated",
                "archive_sha256",
                "model_sha256",
            )
        },
        "model": name,
        "weights": starting_point(provenance["weights"]["name"]),
        "recipe": json.dumps([recipe, provenance["weights"]], sort_keys=True),
    }


def _one_entry_a_recipe(board: pd.DataFrame) -> pd.DataFrame:
    """Models that differ in nothing but the seed become one row of means, named after the first of them.

    The intervals are of the mean accuracies over test images like these; `top1_spread` is the standard deviation between seeds.
    """
    entries = []
    for _, group in board.groupby("recipe", sort=False):
        entry: dict[Any, Any] = (
            group.iloc[0].to_dict() | group.select_dtypes("number").mean().to_dict()
        )
        for key in ACCURACIES.values():
            n = int(group[SUBSET_SIZES.get(key, "n")].iloc[0])
            entry[f"{key}_low"], entry[f"{key}_high"] = wilson(round(entry[key] * n), n)
        entry |= {
            "seeds": len(group),
            "top1_spread": group["top1"].std() if len(group) > 1 else np.nan,
        }
        entry |= {key: int(group[key].min()) for key in ("n", "classes", "parameters")}
        entries.append(entry)
    return pd.DataFrame(entries)


def _readable(board: pd.DataFrame) -> pd.DataFrame:
    """The leaderboard as people read it: percent with intervals, minutes, thousands."""
    rows: Any = board.to_dict("records")
    fine = board["classes"].iloc[0] == FINE
    return pd.DataFrame(
        {
            "model": board["model"],
            **{
                heading: [_accuracy(row, key) for row in rows]
                for heading, key in ACCURACIES.items()
                if fine or key != "coarse_top1"
            },
            "seeds": [
                "{seeds} (deviation {top1_spread:.2%})".format(**row) if row["seeds"] > 1 else "1"
                for row in rows
            ],
            "loss": board["nll"],
            "ECE, scaled": [calibration_error(row) for row in rows],
            "parameters": board["parameters"].map("{:,}".format),
            "training, min": (board["training_s"] / 60).map("{:.1f}".format),
            "started from": board["weights"],
        }
    )


def calibration_error(metrics: Mapping[str, Any]) -> str:
    """As trained and, where a temperature was fitted, scaled."""
    scaled = metrics.get("ece15_scaled", np.nan)
    return f"{metrics['ece15']:.3f}, {'–' if np.isnan(scaled) else f'{scaled:.3f}'}"


def _accuracy(row: dict[str, Any], key: str) -> str:
    value, low, high = (100 * row[key + end] for end in ("", "_low", "_high"))
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def _readable_ensembles(ensembles: pd.DataFrame) -> pd.DataFrame:
    rows: Any = ensembles.to_dict("records")
    columns = {
        "ensemble": ensembles["ensemble"],
        "of": [
            row["members"] + ("; with mirror images" if row["mirrored"] else "") for row in rows
        ],
        "classes": ensembles["classes"],
        "top-1, % (95 % interval)": [_accuracy(row, "top1") for row in rows],
        "loss": ensembles["nll"],
        "against its best member": ensembles["best_member"],
        "points (95 % interval)": _differences(ensembles),
        "McNemar's p": ensembles["p_value"].map("{:.2g}".format),
        "passes": ensembles["passes"],
        "parameters": ensembles["parameters"].map("{:,}".format),
    }
    return pd.DataFrame(columns)


def _differences(compared: pd.DataFrame) -> list[str]:
    rows: Any = (100 * compared[["difference", "low", "high"]]).to_dict("records")
    return ["{difference:+.2f} ({low:+.2f} to {high:+.2f})".format(**row) for row in rows]


def _readable_pairs(pairs: pd.DataFrame) -> pd.DataFrame:
    columns = {
        "model": pairs["first"],
        "against": pairs["second"],
        "points (95 % interval)": _differences(pairs),
        "only the first right": pairs["only_first"].map("{:,}".format),
        "only the second right": pairs["only_second"].map("{:,}".format),
        "McNemar's p": pairs["p_value"].map("{:.2g}".format),
    }
    return pd.DataFrame(columns)
