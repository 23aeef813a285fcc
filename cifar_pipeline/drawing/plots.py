"""Pictures of a report, as PNG files. Colours are from colour-blind-safe maps; nothing here computes a metric."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no display where pipelines run

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

# Okabe and Ito (2008)
BLUE, ORANGE = "#0072B2", "#D55E00"
COLOURS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "os^Dv*Pd"
LEGEND_COLUMNS = 4


def plot_curves(history: pd.DataFrame) -> Figure:
    """Loss and accuracy of training, and of validation if there was any, against the epoch; lines where the image size changes."""
    changes = history[history["image_size"].diff().fillna(0) != 0]
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for panel, quantity in zip(panels, ("loss", "accuracy"), strict=True):
        for name, column, colour in (
            ("training", quantity, BLUE),
            ("validation", f"val_{quantity}", ORANGE),
        ):
            if history[column].notna().any():
                panel.plot(
                    history["epoch"],
                    history[column],
                    marker="o",
                    markersize=4,
                    color=colour,
                    label=name,
                )
        panel.set(xlabel="epoch", ylabel=quantity)
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(alpha=0.3)
        for epoch, size in zip(changes["epoch"], changes["image_size"], strict=True):
            panel.axvline(epoch - 0.5, color="grey", linestyle=":")
            panel.annotate(
                f"{size} px",
                (epoch - 0.45, 0.02),
                xycoords=("data", "axes fraction"),
                color="grey",
                fontsize=8,
            )
        panel.legend()
    return figure


def plot_confusion(counts: pd.DataFrame, groups: np.ndarray | None = None) -> Figure:
    """Confusion matrix as shares of each true class; annotated where there is room.

    Args:
        groups: for the 100 classes, their superclasses; rows and columns are ordered by them, lines part them.
    """
    shares = counts.to_numpy() / np.maximum(counts.to_numpy().sum(axis=1, keepdims=True), 1)
    names = list(counts.columns)
    if groups is not None:
        order = np.argsort(groups, kind="stable")
        shares, names = shares[np.ix_(order, order)], [names[label] for label in order]
    small = len(names) <= 20
    figure, axes = plt.subplots(figsize=(9, 7.6) if small else (13, 12), layout="constrained")
    image = axes.imshow(shares, cmap="viridis", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, shrink=0.7, label="share of the true class")
    ticks = np.arange(len(names))
    axes.set_xticks(ticks, names, rotation=90, fontsize=8 if small else 6)
    axes.set_yticks(ticks, names, fontsize=8 if small else 6)
    axes.set(xlabel="predicted", ylabel="true")
    if small:
        for row, column in np.argwhere(shares >= 0.005):
            share = shares[row, column]
            axes.text(
                column,
                row,
                f"{share * 100:.0f}",
                ha="center",
                va="center",
                fontsize=7,
                color="black" if share > 0.6 else "white",
            )
    elif groups is not None:
        for edge in np.flatnonzero(np.diff(np.sort(groups))) + 0.5:
            axes.axhline(edge, color="white", linewidth=0.3)
            axes.axvline(edge, color="white", linewidth=0.3)
    return figure


def plot_classes(table: pd.DataFrame, groups: list[str] | None = None) -> Figure:
    """Recall of every class with its interval.

    Args:
        table: as `metrics.per_class` gives it.
        groups: its classes' superclasses, each of which becomes a panel; one panel where absent.
    """
    grouped = table.groupby(groups or ["all"] * len(table), sort=True)
    columns = min(3, len(grouped))
    rows_down = -(-len(grouped) // columns)
    height = rows_down * (0.5 + 0.24 * int(grouped.size().max()))
    figure, panels = plt.subplots(
        rows_down, columns, figsize=(9.2, height), sharex=True, squeeze=False, layout="constrained"
    )
    for panel, (group, rows) in zip(panels.flat, grouped, strict=False):
        errors = np.abs(
            rows[["recall_low", "recall_high"]].to_numpy().T - rows["recall"].to_numpy()
        )
        panel.barh(
            rows.index,
            rows["recall"],
            xerr=errors,
            color=BLUE,
            ecolor="black",
            capsize=2,
            error_kw={"linewidth": 0.8},
        )
        panel.invert_yaxis()
        if groups:
            panel.set_title(str(group).replace("_", " "), fontsize=10)
        panel.tick_params(labelsize=8)
        panel.set_xlim(0, 1)
        panel.grid(axis="x", alpha=0.3)
    for panel in panels.flat[len(grouped) :]:
        panel.axis("off")
    figure.supxlabel("recall, with 95 % interval", fontsize=10)
    return figure


def plot_reliability(models: Mapping[str, pd.DataFrame]) -> Figure:
    """Accuracy against confidence, and where the images are, beside each other.

    Args: by name, tables of `calibration.reliability`.
    """
    n, size = len(models), (4.5 * len(models), 5.6)
    figure, (diagrams, counts) = plt.subplots(
        2,
        n,
        figsize=size,
        sharex=True,
        sharey="row",
        height_ratios=(3, 1),
        layout="constrained",
        squeeze=False,
    )
    for column, (name, bins) in enumerate(models.items()):
        width = bins["high"] - bins["low"]
        diagrams[column].bar(
            bins["low"],
            bins["accuracy"],
            width,
            align="edge",
            color=BLUE,
            edgecolor="white",
            label="accuracy",
        )
        diagrams[column].plot(
            bins["confidence"],
            bins["accuracy"],
            "o",
            color=ORANGE,
            markersize=4,
            label="at mean confidence",
        )
        diagrams[column].plot([0, 1], [0, 1], color="grey", linestyle="--", label="calibrated")
        diagrams[column].set_title(name)
        counts[column].bar(
            bins["low"],
            bins["n"] / bins["n"].sum(),
            width,
            align="edge",
            color="grey",
            edgecolor="white",
        )
        counts[column].set_xlabel("confidence")
    diagrams[0].set_ylabel("accuracy")
    diagrams[0].legend(loc="upper left")
    counts[0].set_ylabel("share of images")
    return figure


def plot_risk_coverage(curve: pd.DataFrame) -> Figure:
    """Error rate of the most confident images against the share that they are."""
    figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
    # A step's risk is that of deciding up to its right end.
    axes.plot(
        [0, *curve["coverage"]],
        [curve["risk"].iloc[0], *curve["risk"]],
        color=BLUE,
        drawstyle="steps-pre",
    )
    axes.set(
        xlabel="share of images that the model decides, most confident first",
        ylabel="error among them",
        xlim=(0, 1),
        ylim=(0, None),
    )
    axes.grid(alpha=0.3)
    return figure


def plot_examples(images: np.ndarray, true: list[str], predicted: list[str]) -> Figure:
    """A grid of images with their true and predicted names; wrong ones say so in words and colour."""
    columns = 6
    figure, panels = plt.subplots(
        -(-len(images) // columns), columns, figsize=(9.2, 7.4), layout="constrained"
    )
    for panel in panels.flat:
        panel.axis("off")
    for panel, image, name, guess in zip(panels.flat, images, true, predicted, strict=False):
        panel.imshow(image, interpolation="nearest")
        right = name == guess
        panel.set_title(
            f"{name}\n" + ("right" if right else f"predicted {guess}"),
            fontsize=9,
            color=BLUE if right else ORANGE,
        )
    return figure


def plot_mistakes(
    images: np.ndarray, true: list[str], top: list[list[tuple[str, float]]]
) -> Figure:
    """Images beside the classes that the model thought likeliest, as bars; the true class in orange.

    Args:
        top: for each image, names and probabilities, likeliest first.
    """
    columns = 2
    rows = max(1, -(-len(images) // columns))
    figure, panels = plt.subplots(
        rows,
        2 * columns,
        figsize=(9.2, 1.8 * rows),
        width_ratios=(1, 1.2) * columns,
        layout="constrained",
    )
    for index, (image, name, guesses) in enumerate(zip(images, true, top, strict=True)):
        picture, bars = panels.flat[2 * index], panels.flat[2 * index + 1]
        picture.imshow(image, interpolation="nearest")
        picture.axis("off")
        picture.set_title(name, fontsize=9, color=ORANGE)
        names = [guess for guess, _ in guesses]
        bars.barh(
            names,
            [share for _, share in guesses],
            color=[ORANGE if guess == name else BLUE for guess in names],
        )
        bars.invert_yaxis()
        bars.set_xlim(0, 1)
        bars.tick_params(labelsize=8)
        bars.yaxis.tick_right()
    for panel in panels.flat[2 * len(images) :]:
        panel.axis("off")
    if not len(images):
        figure.text(0.5, 0.5, "none: every image is right", ha="center", va="center")
    return figure


def plot_contact_sheet(bands: list[tuple[str, np.ndarray]]) -> Figure:
    """Strips of images, a titled row a band."""
    figure, panels = plt.subplots(
        len(bands), 1, figsize=(12, 2.1 * len(bands)), squeeze=False, layout="constrained"
    )
    for panel, (label, strip) in zip(panels.flat, bands, strict=True):
        panel.imshow(strip, interpolation="nearest")
        panel.set_title(label, fontsize=10, loc="left")
        panel.axis("off")
    return figure


def plot_leaderboard(board: pd.DataFrame) -> Figure:
    """Test accuracy with its interval, a bar a model, in a colour for each number of classes."""
    figure, axes = plt.subplots(figsize=(8, 1.2 + 0.6 * len(board)), layout="constrained")
    for (classes, group), colour in zip(
        board.groupby("classes", sort=False), COLOURS, strict=False
    ):
        axes.barh(
            group["model"],
            group["top1"],
            xerr=_errors(group),
            color=colour,
            ecolor="black",
            capsize=4,
            label=f"{classes} classes",
        )
    axes.invert_yaxis()
    axes.set(xlabel="top-1 accuracy on the test split, with 95 % interval", xlim=(0, 1.02))
    axes.grid(axis="x", alpha=0.3)
    if board["classes"].nunique() > 1:
        axes.legend(loc="lower right")
    return figure


def plot_accuracy_against(board: pd.DataFrame) -> Figure:
    """Test accuracy against the minutes of training and against the parameters, a point a model; a filled one of the most classes."""
    figure, panels = plt.subplots(
        1,
        2,
        figsize=(9.2, 4 + 0.25 * (len(board) // LEGEND_COLUMNS)),
        sharey=True,
        layout="constrained",
    )
    for panel, values, label in (
        (panels[0], board["training_s"] / 60, "training, minutes"),
        (panels[1], board["parameters"] / 1e6, "parameters, millions"),
    ):
        panel.errorbar(
            values, board["top1"], yerr=_errors(board), fmt="none", ecolor="black", capsize=3
        )
        for index, (x, y, classes, name) in enumerate(
            zip(values, board["top1"], board["classes"], board["model"], strict=True)
        ):
            hollow = {} if classes == board["classes"].max() else {"markerfacecolor": "white"}
            panel.plot(x, y, linestyle="", label=name, **_style(index), **hollow)
        panel.set(xlabel=label, xscale="log")
        panel.margins(x=0.15, y=0.15)
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter("")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("top-1 accuracy")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=LEGEND_COLUMNS
    )
    return figure


def plot_all_curves(histories: Mapping[str, pd.DataFrame]) -> Figure:
    """Validation accuracy of every model against epochs and against minutes, laid over each other."""
    figure, panels = plt.subplots(
        1,
        2,
        figsize=(9.2, 4 + 0.25 * (len(histories) // LEGEND_COLUMNS)),
        sharey=True,
        layout="constrained",
    )
    for index, (name, history) in enumerate(histories.items()):
        style = {**_style(index), "markersize": 4}
        panels[0].plot(history["epoch"], history["val_accuracy"], **style, label=name)
        panels[1].plot(history["seconds"] / 60, history["val_accuracy"], **style)
    panels[0].set(xlabel="epoch", ylabel="validation accuracy")
    panels[0].xaxis.get_major_locator().set_params(integer=True)
    panels[1].set_xlabel("minutes of training")
    for panel in panels:
        panel.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=LEGEND_COLUMNS)
    return figure


def _style(index: int) -> dict[str, Any]:
    """A colour and a marker of its own for each of the first 56."""
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}


def _errors(board: pd.DataFrame) -> np.ndarray:
    return np.abs(board[["top1_low", "top1_high"]].to_numpy().T - board["top1"].to_numpy())


def save(figure: Figure, path: Path) -> None:
    """Write a PNG without a time stamp: the same picture gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
