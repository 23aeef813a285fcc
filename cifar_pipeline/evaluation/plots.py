"""Pictures of a report, as PNG files. Colours are from colour-blind-safe maps; nothing here computes a metric."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display where pipelines run

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

BLUE, ORANGE = "#0072B2", "#D55E00"  # Okabe & Ito (2008)


def plot_curves(history: pd.DataFrame) -> Figure:
    """Loss and accuracy of training and validation against the epoch; lines where the image size changes."""
    changes = history[history["image_size"].diff().fillna(0) != 0]
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for panel, quantity in zip(panels, ("loss", "accuracy"), strict=True):
        for name, column, colour in (("training", quantity, BLUE), ("validation", f"val_{quantity}", ORANGE)):
            panel.plot(history["epoch"], history[column], marker="o", markersize=4, color=colour, label=name)
        panel.set(xlabel="epoch", ylabel=quantity)
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(alpha=0.3)
        for epoch, size in zip(changes["epoch"], changes["image_size"], strict=True):
            panel.axvline(epoch - 0.5, color="grey", linestyle=":")
            panel.annotate(f"{size} px", (epoch - 0.45, 0.02), xycoords=("data", "axes fraction"), color="grey", fontsize=8)
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
            axes.text(column, row, f"{share * 100:.0f}", ha="center", va="center", fontsize=7, color="black" if share > 0.6 else "white")
    elif groups is not None:
        for edge in np.flatnonzero(np.diff(np.sort(groups))) + 0.5:
            axes.axhline(edge, color="white", linewidth=0.3)
            axes.axvline(edge, color="white", linewidth=0.3)
    return figure


def plot_examples(images: np.ndarray, true: list[str], predicted: list[str]) -> Figure:
    """A grid of images with their true and predicted names; wrong ones say so in words and colour."""
    columns = 6
    figure, panels = plt.subplots(-(-len(images) // columns), columns, figsize=(11, 8.2), layout="constrained")
    for panel in panels.flat:
        panel.axis("off")
    for panel, image, name, guess in zip(panels.flat, images, true, predicted, strict=False):
        panel.imshow(image, interpolation="nearest")
        right = name == guess
        panel.set_title(f"{name}\n" + ("right" if right else f"predicted {guess}"), fontsize=9, color=BLUE if right else ORANGE)
    return figure


def plot_leaderboard(board: pd.DataFrame) -> Figure:
    """Test accuracy with its interval, a bar a model."""
    figure, axes = plt.subplots(figsize=(8, 1.2 + 0.6 * len(board)), layout="constrained")
    errors = np.abs(board[["top1_low", "top1_high"]].to_numpy().T - board["top1"].to_numpy())
    axes.barh(board["model"], board["top1"], xerr=errors, color=BLUE, ecolor="black", capsize=4)
    axes.invert_yaxis()
    axes.set(xlabel="top-1 accuracy on the test split, with 95 % interval", xlim=(0, 1.02))
    axes.grid(axis="x", alpha=0.3)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a PNG without a time stamp: the same picture gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
