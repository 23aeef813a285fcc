"""The plain CNNs of the reports: blocks of one convolution, then dense layers."""

from typing import Any

from keras import layers

from cifar_pipeline.models.construction import Construction
from cifar_pipeline.models.dense import dense_layers
from cifar_pipeline.settings.architectures import Cnn


def features(x: Any, architecture: Cnn, _: Construction) -> Any:
    """Symbolic pixels 0..255 (N, H, W, 3) to features (N, C), with the pixels scaled to 0..1.

    C is the last of the hidden units, or what the blocks leave if there are none.
    """
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
