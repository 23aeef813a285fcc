"""Dense layers after a convolutional network."""

from collections.abc import Sequence
from typing import Any

from keras import layers


def dense_layers(x: Any, hidden: Sequence[int], dropout: float) -> Any:
    """Features (N, C) through dense layers of `hidden` units, with dropout between them."""
    for number, units in enumerate(hidden, start=1):
        if number > 1:
            x = layers.Dropout(dropout, name=f"drop_dense{number}")(x)
        x = layers.Dense(units, activation="relu", name=f"dense{number}")(x)
    return x
