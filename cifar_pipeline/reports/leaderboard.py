"""All models of a profile side by side. Several seeds of one recipe are one entry."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cifar_pipeline.artifacts import read_json, replacing_folder, write_json
from cifar_pipeline.drawing import plots
from cifar_pipeline.drawing.numbers import count, decimal, p_value, points
from cifar_pipeline.drawing.pages import (
    Table,
    encoded,
    render,
    starting_point,
    with_interval,
)
from cifar_pipeline.drawing.style import save
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.evaluation.comparison import compare_all
from cifar_pipeline.evaluation.ensembles import compare_with_members
from cifar_pipeline.evaluation.metrics import Predictions, wilson
from cifar_pipeline.reports.files import METRICS, PROVENANCE, read_history
from cifar_pipeline.reports.report import PROVENANCE_KEYS, check_floor, kind_of_images
from cifar_pipeline.reports.standings import (
    ACCURACIES,
    BOARD,
    COLUMNS,
    COMPARED_BY_DVC,
    SUBSET_SIZES,
    accuracy,
    compared,
    readable,
)
from cifar_pipeline.settings.evaluation import Ensemble

ENSEMBLES = "ensembles.csv"
PICTURES = {
    "accuracy": "Bars of each model's top-1 test accuracy with its 95% interval; "
    "the figures are in the table",
    "cost": "Top-1 test accuracy against minutes of training and against parameters, with "
    "intervals; the figures are in the table",
    "curves": "Validation accuracy of every model against epochs and against minutes of training",
}
METRIC_KEYS = (
    *(f"{key}{end}" for key in ACCURACIES.values() for end in ("", "_low", "_high")),
    *SUBSET_SIZES.values(),
    *("n", "classes", "nll", "ece15"),
)


@dataclass(frozen=True)
class Entry:
    """Where the artefacts of one model are, and the accuracy that it must reach."""

    report: Path
    predictions: Path
    floor: float


def entries_under(profile: str, models: Mapping[str, Entry]) -> dict[str, Entry]:
    """Those of `models` that have a report under the profile.

    Raises:
        PipelineError: none of them has one.
    """
    found = {
        name: entry
        for name, entry in models.items()
        if (entry.report / PROVENANCE).is_file()
        and read_json(entry.report / PROVENANCE, PROVENANCE_KEYS)["profile"] == profile
    }
    if not found:
        raise PipelineError(
            f"no model has a report under the profile '{profile}'; make one with `cifar run`"
        )
    return found


def write_leaderboard(
    entries: Mapping[str, Entry],
    ensembles: Mapping[str, Ensemble],
    folder: Path,
    *,
    missing: Sequence[str] = (),
) -> pd.DataFrame:
    """Write the leaderboard to `folder`, replacing it: tables, pictures, a page and DVC's metrics.

    Models of the 20 superclasses come after those of the 100 classes and are not compared with
    them. The file of DVC's metrics holds few figures, so that `dvc metrics show` and
    `dvc exp show` fit a terminal; all others are in the reports.

    Args:
        missing: models of the graph that have no report under this profile yet.

    Returns:
        One row per recipe with the columns `COLUMNS`, best top-1 accuracy first.

    Raises:
        PipelineError: an artefact is missing or does not belong to the others, or a model is below
            its floor; `folder` is then left as it was.
    """
    rows, histories, predictions = [], {}, {}
    for name, entry in entries.items():
        metrics = read_json(entry.report / METRICS, METRIC_KEYS)
        rows.append(_row(name, metrics, read_json(entry.report / PROVENANCE, PROVENANCE_KEYS)))
        histories[name] = read_history(entry.report)
        predictions[name] = Predictions.read(entry.predictions)
    board = pd.DataFrame(rows)
    _refuse_what_cannot_be_compared(board, entries, predictions)
    correct = {
        name: predicted.predicted == predicted.true for name, predicted in predictions.items()
    }
    # Seeds share a row only for the reader; pairs are compared image by image, so model by model.
    shown, ranked = (
        table.sort_values(["classes", "top1"], ascending=False, ignore_index=True)
        for table in (_one_entry_a_recipe(board), board)
    )
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
        for table, file in (
            (shown.reindex(columns=COLUMNS), BOARD),
            (pairs, "pairs.csv"),
            (gains, ENSEMBLES),
        ):
            table.to_csv(new / file, index=False, encoding="utf-8")
        write_json(new / METRICS, _dvc_metrics(board))
        save(plots.plot_leaderboard(shown), new / "accuracy.png")
        save(plots.plot_accuracy_against(shown), new / "cost.png")
        save(
            plots.plot_all_curves({name: histories[name] for name in ranked["model"]}),
            new / "curves.png",
        )
        page = render(
            "leaderboard.html.j2",
            title="Leaderboard",
            subtitle=f"profile {board['profile'].iloc[0]}, {count(board['n'].iloc[0])} test images",
            generated=bool(board["generated"].iloc[0]),
            pictures={
                name: (alternative, encoded(new / f"{name}.png"), f"{name}.png")
                for name, alternative in PICTURES.items()
            },
            tables={
                classes: readable(shown[shown["classes"] == classes])
                for classes in shown["classes"].unique().tolist()
            },
            missing=missing,
            ensembles=_readable_ensembles(gains),
            pairs=_readable_pairs(pairs),
        )
        (new / "index.html").write_text(page, encoding="utf-8", newline="\n")
    return shown.reindex(columns=COLUMNS)


def _refuse_what_cannot_be_compared(
    board: pd.DataFrame, entries: Mapping[str, Entry], predictions: Mapping[str, Predictions]
) -> None:
    for key in ("profile", "archive_sha256", "n"):
        if board[key].nunique() > 1:
            different = dict(zip(board["model"], board[key], strict=True))
            raise PipelineError(
                f"the reports differ in {key}: {different}; "
                "materialize all of them under one profile"
            )
    rows: Any = board.to_dict("records")
    for row in rows:
        entry = entries[row["model"]]
        floor = check_floor(row, entry.floor)
        if not floor.passed:
            raise PipelineError(
                f"'{row['model']}' is refused: {floor.found}, but the profile "
                f"'{row['profile']}' demands {floor.limit}; read {entry.report / 'index.html'}, "
                "train the model again, or take it out of `models` in params.yaml"
            )
        if predictions[row["model"]].model_sha256 != row["model_sha256"]:
            raise PipelineError(
                f"{entry.report} is not the report on {entry.predictions}; materialize it again"
            )


def _row(name: str, metrics: dict[str, Any], provenance: dict[str, Any]) -> dict[str, Any]:
    recipe = {key: value for key, value in provenance["recipe"].items() if key != "seed"}
    kept = (
        "profile",
        "parameters",
        "training_s",
        "generated",
        "archive_sha256",
        "model_sha256",
    )
    return {
        **metrics,
        **{key: provenance[key] for key in kept},
        "model": name,
        "weights": starting_point(provenance["weights"]["name"]),
        "recipe": json.dumps([recipe, provenance["weights"]], sort_keys=True),
    }


def _dvc_metrics(board: pd.DataFrame) -> dict[str, Any]:
    """The figures that DVC shows, by metric and model, and what kind of images they are of."""
    first = board.iloc[0]
    return {
        "images": kind_of_images({"generated": first["generated"]}),
        "n": int(first["n"]),
        **{
            key: {row["model"]: compared(row)[key] for row in board.to_dict("records")}
            for key in COMPARED_BY_DVC
        },
    }


def _one_entry_a_recipe(board: pd.DataFrame) -> pd.DataFrame:
    """Models that differ in nothing but the seed become one row of means, named after the first.

    The intervals are those of the mean accuracies; `top1_spread` is the standard deviation between
    seeds.
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


def _difference(row: dict[str, Any]) -> str:
    return with_interval(*(points(row[key]) for key in ("difference", "low", "high")))


def _readable_ensembles(ensembles: pd.DataFrame) -> Table:
    rows: Any = ensembles.to_dict("records")
    headings = [
        "ensemble",
        "members",
        "classes",
        "top-1",
        "loss",
        "best member",
        "points gained",
        "McNemar's p",
        "passes",
        "parameters",
    ]
    cells = [
        [
            row["ensemble"],
            row["members"] + (", with mirror images" if row["mirrored"] else ""),
            count(row["classes"]),
            accuracy(row, "top1"),
            decimal(row["nll"]),
            row["best_member"],
            _difference(row),
            p_value(row["p_value"]),
            count(row["passes"]),
            count(row["parameters"]),
        ]
        for row in rows
    ]
    return Table(headings, cells, frozenset({"members", "best member"}))


def _readable_pairs(pairs: pd.DataFrame) -> Table:
    rows: Any = pairs.to_dict("records")
    headings = [
        "first model",
        "second model",
        "points between them",
        "only the first correct",
        "only the second correct",
        "McNemar's p",
    ]
    cells = [
        [
            row["first"],
            row["second"],
            _difference(row),
            count(row["only_first"]),
            count(row["only_second"]),
            p_value(row["p_value"]),
        ]
        for row in rows
    ]
    return Table(headings, cells, frozenset({"second model"}))
