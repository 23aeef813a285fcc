"""Charts of reports and the leaderboard; shares are drawn as percentages. No metric is computed
here."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, PercentFormatter

from cifar_pipeline.drawing.style import (
    BLUE,
    COLOURS,
    GREY,
    INK,
    LEGEND_COLUMNS,
    MARKERS,
    ORANGE,
    own_style,
)


@own_style()
def plot_curves(history: pd.DataFrame) -> Figure:
    """Loss and accuracy by epoch of training and, if there was any, validation.

    Dotted lines mark the epochs at which the image size changes.
    """
    changes = history[history["image_size"].diff().fillna(0) != 0]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for panel, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
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
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.3)
        for epoch, size in zip(changes["epoch"], changes["image_size"], strict=True):
            panel.axvline(epoch - 0.5, color=GREY, linestyle=":")
            panel.annotate(
                f"{size} px",
                (epoch - 0.45, 0.02),
                xycoords=("data", "axes fraction"),
                color=GREY,
                fontsize=8,
            )
        panel.legend()
        if quantity == "accuracy":
            _percent(panel, "y")
    return figure


@own_style()
def plot_confusion(counts: pd.DataFrame) -> Figure:
    """Confusion matrix of a few classes: shares of each true class, each written into its cell."""
    shares, names = _shares(counts), list(counts.columns)
    figure = Figure(figsize=(9, 7.6), layout="constrained")
    axes = figure.subplots()
    _matrix(figure, axes, shares)
    ticks = np.arange(len(names))
    axes.set_xticks(ticks, names, rotation=90, fontsize=8)
    axes.set_yticks(ticks, names, fontsize=8)
    for row, column in np.argwhere(shares >= 0.005):
        share = shares[row, column]
        axes.text(
            column,
            row,
            f"{100 * share:.0f}",
            ha="center",
            va="center",
            fontsize=7,
            color="white" if share > 0.3 else INK,
        )
    return figure


@own_style()
def plot_grouped_confusion(
    counts: pd.DataFrame, group_of: np.ndarray, group_names: list[str]
) -> Figure:
    """Confusion matrix of many classes, rows and columns ordered by group.

    Args:
        counts: as `metrics.confusion` gives them.
        group_of: the index in `group_names` of each class.
        group_names: written along the columns, while the rows have the classes' names.
    """
    order = np.argsort(group_of, kind="stable")
    shares = _shares(counts)[np.ix_(order, order)]
    figure = Figure(figsize=(11.2, 11.4))
    # Placed by hand, because a layout engine takes half a second for so many labels.
    axes, bar = figure.add_axes((0.1, 0.2, 0.8, 0.79)), figure.add_axes((0.915, 0.4, 0.016, 0.4))
    _matrix(figure, axes, shares, bar)
    names = np.array(counts.columns)[order]
    axes.set_yticks(np.arange(len(names)), names, fontsize=6)
    groups, starts, sizes = np.unique(group_of[order], return_index=True, return_counts=True)
    axes.set_xticks(
        starts + (sizes - 1) / 2, [group_names[group] for group in groups], rotation=90, fontsize=8
    )
    for edge in starts[1:] - 0.5:
        axes.axhline(edge, color=GREY, linewidth=0.3)
        axes.axvline(edge, color=GREY, linewidth=0.3)
    axes.set_xlabel("predicted: the classes of each superclass, in the order of the rows")
    return figure


@own_style()
def plot_classes(table: pd.DataFrame, groups: list[str] | None = None) -> Figure:
    """Recall of every class with its interval.

    Args:
        table: as `metrics.per_class` gives it.
        groups: the group of each class, under whose name its classes stand together; by default,
            there are no groups.
    """
    rows = _grouped_rows(table, groups)
    columns = 2 if groups else 1
    height = -(-len(rows) // columns)
    figure = Figure(figsize=(9.2, 0.6 + 0.18 * height), layout="constrained")
    for panel, start in zip(
        figure.subplots(1, columns, squeeze=False).flat,
        range(0, height * columns, height),
        strict=True,
    ):
        shown = rows[start : start + height]
        places = [place for place, (_, row) in enumerate(shown) if row is not None]
        found = pd.DataFrame([row for _, row in shown if row is not None])
        panel.hlines(
            places, found["recall_low"], found["recall_high"], color=BLUE, alpha=0.5, linewidth=3
        )
        panel.plot(found["recall"], places, "o", color=BLUE, markersize=4)
        panel.set_yticks(range(len(shown)), [name for name, _ in shown], fontsize=7)
        for label, (_, row) in zip(panel.get_yticklabels(), shown, strict=True):
            if row is None:
                label.set_fontweight("bold")
        panel.tick_params(axis="y", length=0)
        panel.tick_params(axis="x", labelsize=8)
        panel.set(xlim=(0, 1), ylim=(height - 0.5, -0.5))
        panel.grid(axis="x", alpha=0.3)
        _percent(panel, "x")
    figure.supxlabel("recall with its 95% interval", fontsize=10)
    return figure


@own_style()
def plot_reliability(models: Mapping[str, pd.DataFrame]) -> Figure:
    """Accuracy against confidence, above the shares of images; one column per model.

    Args:
        models: tables of `calibration.reliability` by name.
    """
    figure = Figure(figsize=(4.5 * len(models), 5.6), layout="constrained")
    diagrams, counts = figure.subplots(
        2, len(models), sharex=True, sharey="row", height_ratios=(3, 1), squeeze=False
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
        diagrams[column].plot([0, 1], [0, 1], color=GREY, linestyle="--", label="calibrated")
        diagrams[column].set_title(name)
        counts[column].bar(
            bins["low"],
            bins["n"] / bins["n"].sum(),
            width,
            align="edge",
            color=GREY,
            edgecolor="white",
        )
        counts[column].set_xlabel("confidence")
    diagrams[0].set_ylabel("accuracy")
    diagrams[0].legend(loc="upper left")
    counts[0].set_ylabel("share of images")
    _percent(counts[0], "xy")
    _percent(diagrams[0], "y")
    return figure


@own_style()
def plot_risk_coverage(curve: pd.DataFrame) -> Figure:
    """Error rate of the most confident images against the share of all images that they are."""
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.subplots()
    # A step's risk is that of deciding up to its right end.
    axes.plot(
        [0, *curve["coverage"]],
        [curve["risk"].iloc[0], *curve["risk"]],
        color=BLUE,
        drawstyle="steps-pre",
    )
    axes.set(
        xlabel="share of images that are decided, most confident first",
        ylabel="errors among them",
        xlim=(0, 1),
        ylim=(0, max(float(curve["risk"].max()) * 1.05, 0.01)),
    )
    axes.grid(alpha=0.3)
    _percent(axes, "xy")
    return figure


@own_style()
def plot_leaderboard(board: pd.DataFrame) -> Figure:
    """Test accuracy with its interval, a bar a model, in one colour for each number of classes."""
    figure = Figure(figsize=(8, 1.2 + 0.4 * len(board)), layout="constrained")
    axes = figure.subplots()
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
    axes.set(xlabel="top-1 accuracy on the test split with its 95% interval", xlim=(0, 1.02))
    axes.grid(axis="x", alpha=0.3)
    _percent(axes, "x")
    if board["classes"].nunique() > 1:
        axes.legend(loc="lower right")
    return figure


@own_style()
def plot_accuracy_against(board: pd.DataFrame) -> Figure:
    """Test accuracy against minutes of training and against parameters, a point a model.

    Points of models with fewer classes than the others are hollow.
    """
    figure = Figure(figsize=(9.2, 4 + 0.25 * (len(board) // LEGEND_COLUMNS)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
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
    _percent(panels[0], "y")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=LEGEND_COLUMNS
    )
    return figure


@own_style()
def plot_all_curves(histories: Mapping[str, pd.DataFrame]) -> Figure:
    """Validation accuracy of every model against epochs and against minutes of training."""
    figure = Figure(
        figsize=(9.2, 4 + 0.25 * (len(histories) // LEGEND_COLUMNS)), layout="constrained"
    )
    panels = figure.subplots(1, 2, sharey=True)
    for index, (name, history) in enumerate(histories.items()):
        style = {**_style(index), "markersize": 4}
        panels[0].plot(history["epoch"], history["val_accuracy"], **style, label=name)
        panels[1].plot(history["seconds"] / 60, history["val_accuracy"], **style)
    panels[0].set(xlabel="epoch", ylabel="validation accuracy")
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[1].set_xlabel("minutes of training")
    for panel in panels:
        panel.grid(alpha=0.3)
    _percent(panels[0], "y")
    figure.legend(loc="outside lower center", ncols=LEGEND_COLUMNS)
    return figure


def _percent(panel: Axes, which: str) -> None:
    for axis in which:
        getattr(panel, f"{axis}axis").set_major_formatter(PercentFormatter(1.0))


def _style(index: int) -> dict[str, Any]:
    """A colour and a marker of its own for each of the first 56."""
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}


def _errors(board: pd.DataFrame) -> np.ndarray:
    return np.abs(board[["top1_low", "top1_high"]].to_numpy().T - board["top1"].to_numpy())


def _shares(counts: pd.DataFrame) -> np.ndarray:
    """Of each true class, the shares that were predicted as each class."""
    matrix = counts.to_numpy()
    shares: np.ndarray = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    return shares


def _matrix(figure: Figure, axes: Axes, shares: np.ndarray, beside: Axes | None = None) -> None:
    # The square root lets confusions of a few percent be seen beside the diagonal.
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1), aspect="auto")
    place: Any = {"cax": beside} if beside else {"ax": axes, "shrink": 0.7, "pad": 0.02}
    bar = figure.colorbar(image, **place, label="share of the true class")
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set(xlabel="predicted", ylabel="true")


def _grouped_rows(
    table: pd.DataFrame, groups: list[str] | None
) -> list[tuple[str, pd.Series | None]]:
    """The rows of a plot of classes by name: a heading, which has no data, before each group."""
    if groups is None:
        return [(str(name), row) for name, row in table.iterrows()]
    rows: list[tuple[str, pd.Series | None]] = []
    for group, members in table.groupby(groups, sort=True):
        rows.append((str(group).replace("_", " "), None))
        rows += [(str(name), row) for name, row in members.iterrows()]
    return rows
