"""The leaderboard's table, as it is read and shown. What makes it is `reports/leaderboard.py`.

Read by processes that must not import what draws.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from cifar_pipeline.artifacts import read_csv, read_json
from cifar_pipeline.dataset.table import FINE
from cifar_pipeline.drawing.numbers import count, decimal, percent
from cifar_pipeline.drawing.pages import Table, link, with_interval
from cifar_pipeline.evaluation.subsets import NO_DUPLICATES
from cifar_pipeline.reports.files import METRICS

BOARD = "leaderboard.csv"
ACCURACIES = {
    "top-1": "top1",
    "top-5": "top5",
    "superclass": "coarse_top1",
    "top-1 without near-duplicates": f"{NO_DUPLICATES}_top1",
}
SUBSET_SIZES = {f"{NO_DUPLICATES}_top1": f"{NO_DUPLICATES}_n"}
COMPARED_BY_DVC = ("top1", "nll")
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


def read_leaderboard(folder: Path) -> pd.DataFrame:
    """The table in the folder that `write_leaderboard` wrote.

    Raises: PipelineError when it is missing, damaged, or of an older release.
    """
    return read_csv(folder / BOARD, COLUMNS)


def outdated(folder: Path, reports: Path) -> list[str]:
    """Models whose report has other figures than the leaderboard in `folder`."""
    shown = read_json(folder / METRICS, COMPARED_BY_DVC)
    return [
        model
        for model in shown["top1"]
        if (reports / model / METRICS).is_file()
        and compared(read_json(reports / model / METRICS, COMPARED_BY_DVC))
        != {key: shown[key][model] for key in COMPARED_BY_DVC}
    ]


def compared(metrics: Mapping[Any, Any]) -> dict[str, float]:
    """The figures that DVC shows, of a model's metrics."""
    return {key: round(float(metrics[key]), 6) for key in COMPARED_BY_DVC}


def readable(board: pd.DataFrame, reports: str = "../reports") -> Table:
    """The models of one number of classes, as people read them.

    Args:
        board: as `write_leaderboard` returns it, or a table of its columns.
        reports: where the reports are, seen from the page.
    """
    rows: Any = board.reindex(columns=COLUMNS).to_dict("records")
    accuracies = {
        heading: key
        for heading, key in ACCURACIES.items()
        if board["classes"].iloc[0] == FINE or key != "coarse_top1"
    }
    headings = [
        "model",
        *accuracies,
        "loss",
        "calibration error",
        "scaled",
        "parameters",
        "training, min",
        "started from",
    ]
    cells = [
        [
            link(f"{reports}/{row['model']}/index.html", row["model"]) + _seeds(row),
            *(accuracy(row, key) for key in accuracies.values()),
            decimal(row["nll"]),
            percent(row["ece15"]),
            percent(row["ece15_scaled"]),
            count(row["parameters"]),
            decimal(row["training_s"] / 60, 1),
            row["weights"],
        ]
        for row in rows
    ]
    return Table(headings, cells, frozenset({"started from"}))


def accuracy(row: dict[str, Any], key: str) -> str:
    """A share above its interval."""
    return with_interval(*(percent(row[f"{key}{end}"]) for end in ("", "_low", "_high")))


def _seeds(row: dict[str, Any]) -> Markup:
    if row["seeds"] == 1:
        return Markup("")
    told = Markup("<small>mean of {} seeds, deviation {}</small>")
    return told.format(row["seeds"], percent(row["top1_spread"]))
