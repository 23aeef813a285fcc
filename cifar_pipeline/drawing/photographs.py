"""What a model says of photographs, as a picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cifar_pipeline.drawing.pixels import centre_square, with_attention
from cifar_pipeline.drawing.style import BLUE, GREY, INK, ORANGE, own_style

ROW_INCHES = 2.5
HEADINGS = ("the photograph", "what the network sees", "where it looks (Grad-CAM)")


@dataclass(frozen=True)
class Shown:
    """A photograph and what a model says of it."""

    title: str
    photograph: np.ndarray
    """(H, W, 3) uint8, upright"""
    seen: np.ndarray
    """(32, 32, 3) uint8"""
    attention: np.ndarray
    """(h, w) from 0 to 1, over the centre square"""
    guesses: Sequence[tuple[str, str, float]]
    """class, superclass and probability, likeliest first"""
    none_of_these: bool | None


@own_style()
def plot_predictions(model: str, photographs: Sequence[Shown]) -> Figure:
    """A row for each photograph: itself, what the network sees of it, where it looks, and the
    likeliest classes as bars."""
    figure = Figure(figsize=(12, 0.3 + ROW_INCHES * len(photographs)), layout="constrained")
    rows = figure.subplots(len(photographs), 4, squeeze=False, width_ratios=(1.35, 1, 1, 1.9))
    for heading, panel in zip((*HEADINGS, f"what {model} says"), rows[0], strict=True):
        panel.set_title(heading, fontsize=10, color=GREY)
    for shown, (photograph, seen, attention, bars) in zip(photographs, rows, strict=True):
        _photograph(photograph, shown)
        seen.imshow(shown.seen, interpolation="nearest")
        _overlay(attention, shown)
        for panel in (photograph, seen, attention):
            panel.set_xticks([])
            panel.set_yticks([])
            panel.spines[:].set_visible(False)
            panel.set_anchor("N")
        _bars(bars, shown)
    return figure


def _photograph(panel: Axes, shown: Shown) -> None:
    panel.imshow(shown.photograph)
    height, width = shown.photograph.shape[:2]
    side = min(height, width)
    corner = ((width - side) // 2 - 0.5, (height - side) // 2 - 0.5)
    panel.add_patch(Rectangle(corner, side, side, fill=False, color=ORANGE, linewidth=1.5))
    panel.set_xlabel(shown.title, fontsize=9, color=INK)


def _overlay(panel: Axes, shown: Shown) -> None:
    panel.imshow(with_attention(centre_square(shown.photograph), shown.attention))
    if not shown.attention.any():
        panel.set_xlabel("no part speaks for the class", fontsize=9, color=GREY)


def _bars(panel: Axes, shown: Shown) -> None:
    places = range(len(shown.guesses))
    probabilities = [probability for _, _, probability in shown.guesses]
    panel.barh(places, probabilities, height=0.7, color=GREY if shown.none_of_these else BLUE)
    for place, (_, superclass, probability) in zip(places, shown.guesses, strict=True):
        inside = probability > 0.5
        panel.text(
            probability - 0.01 if inside else probability + 0.01,
            place,
            f"{probability:.1%}, {superclass.replace('_', ' ')}",
            ha="right" if inside else "left",
            va="center",
            fontsize=8,
            color="white" if inside else INK,
        )
    panel.set_yticks(places, [name.replace("_", " ") for name, _, _ in shown.guesses], fontsize=9)
    panel.set(xlim=(0, 1), ylim=(len(shown.guesses) - 0.4, -0.6))
    panel.tick_params(axis="y", length=0)
    panel.set_xticks([])
    panel.spines[["top", "right", "bottom"]].set_visible(False)
    if shown.none_of_these:
        panel.set_xlabel("none of these: unlike the images of the classes", color=ORANGE)
