"""The plain CNNs of the reports: a convolution a block, then dense layers."""

from collections.abc import Sequence
from typing import Any

from keras import layers

from cifar_pipeline.settings.architectures import Cnn


def cnn_features(x: Any, architecture: Cnn) -> Any:
    """Symbolic pixels 0..255 (N, H, W, 3) to features (N, last of the hidden units, or what the blocks leave), scaled to 0..1."""
    x = layers.Rescaling(1 / 255, name="scale")(x)
    for number, block in enumerate(architecture.blocks, start=1):
        x = layers.Conv2D(
            block.filters, block.kernel, padding="same", activation="relu", name=f"conv{number}"
        )(x)
        if block.batch_norm:
            x = layers.BatchNormalization(name=f"norm{number}")(x)
        x = layers.MaxPooling2D(2, name=f"pool{number}")(x)
        x = layers.Dropout(block.dropout, name=f"drop{number}")(x)
    x = layers.Flatten(name="flatten")(x)
    return dense_layers(x, architecture.hidden, architecture.hidden_dropout)


def dense_layers(x: Any, hidden: Sequence[int], dropout: float) -> Any:
    """Features (N, C) through dense layers of `hidden` units, with dropout between them."""
    for number, units in enumerate(hidden, start=1):
        if number > 1:
            x = layers.Dropout(dropout, name=f"drop_dense{number}")(x)
        x = layers.Dense(units, activation="relu", name=f"dense{number}")(x)
    return x
