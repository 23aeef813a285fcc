"""Pictures of images: a grid, mistakes with what was guessed instead, strips of a contact sheet."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cifar_pipeline.drawing.pixels import with_attention
from cifar_pipeline.drawing.style import BLUE, INK, ORANGE, own_style


@own_style()
def plot_examples(images: np.ndarray, true: list[str], predicted: list[str]) -> Figure:
    """A grid of images with their true and predicted names; words and colour mark the mistakes."""
    columns = 6
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(9.2, 1.85 * rows))
    axes = _canvas(figure, columns, rows)
    for index, (image, name, guess) in enumerate(zip(images, true, predicted, strict=True)):
        row, column = divmod(index, columns)
        _picture(figure, axes, image, (column + 0.5, row + 0.6), 0.36)
        right = name == guess
        axes.text(
            column + 0.5,
            row + 0.2,
            f"{name}\n" + ("correct" if right else f"predicted {guess}"),
            fontsize=8,
            ha="center",
            va="bottom",
            color=BLUE if right else ORANGE,
        )
    return figure


@own_style()
def plot_mistakes(
    images: np.ndarray,
    attention: np.ndarray,
    true: list[str],
    top: list[list[tuple[str, float]]],
) -> Figure:
    """Images, and what the model looked at, beside the classes that it found likeliest, as bars;
    the true class in orange.

    Args:
        attention: for each image, (h, w) from 0 to 1.
        top: for each image, names and probabilities, likeliest first.
    """
    columns = 2
    rows = max(1, -(-len(images) // columns))
    figure = Figure(figsize=(9.2, 1.7 * rows))
    axes = _canvas(figure, columns, rows)
    if not len(images):
        axes.text(1, 0.5, "none: every image is classified correctly", ha="center", va="center")
    shown = zip(images, attention, true, top, strict=True)
    for index, (image, looked_at, name, guesses) in enumerate(shown):
        row, column = divmod(index, columns)
        axes.text(column + 0.13, row + 0.14, name, fontsize=9, ha="center", color=ORANGE)
        lit = with_attention(image, looked_at)
        _picture(figure, axes, image, (column + 0.13, row + 0.55), 0.33)
        _picture(figure, axes, lit, (column + 0.38, row + 0.55), 0.33)
        for place, (guess, share) in enumerate(guesses):
            y = row + 0.27 + 0.14 * place
            colour = ORANGE if guess == name else BLUE
            axes.barh(y, 0.24 * share, left=column + 0.52, height=0.11, color=colour)
            axes.text(
                column + 0.525 + 0.24 * share,
                y,
                f"{guess}, {share:.0%}",
                fontsize=8,
                va="center",
                color=colour if guess == name else INK,
            )
    return figure


@own_style()
def plot_contact_sheet(bands: list[tuple[str, np.ndarray]]) -> Figure:
    """Strips of images one above the other, each with its title."""
    figure = Figure(figsize=(12, 2.1 * len(bands)), layout="constrained")
    panels = figure.subplots(len(bands), 1, squeeze=False)
    for panel, (label, strip) in zip(panels.flat, bands, strict=True):
        panel.imshow(strip, interpolation="nearest")
        panel.set_title(label, fontsize=10, loc="left")
        panel.axis("off")
    return figure


def _canvas(figure: Figure, columns: int, rows: int) -> Axes:
    """One axis-less panel with a unit square for each cell; far faster than a panel a cell."""
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    axes.axis("off")
    axes.set(xlim=(0, columns), ylim=(rows, 0), autoscale_on=False)
    return axes


def _picture(
    figure: Figure, axes: Axes, image: np.ndarray, centre: tuple[float, float], half: float
) -> None:
    """An image, square on paper, `half` of a cell's height to each side of `centre`."""
    x, y = centre
    width, height = figure.get_size_inches()
    columns, rows = axes.get_xlim()[1], axes.get_ylim()[0]
    across = half * (height / rows) / (width / columns)
    axes.imshow(
        image,
        interpolation="nearest",
        aspect="auto",
        extent=(x - across, x + across, y + half, y - half),
    )
