"""The nine-layer CNN of the reports (K1): six convolutions in three blocks, three dense layers."""

from typing import Any

from keras import layers

from cifar_pipeline.models.construction import Construction
from cifar_pipeline.settings.architectures import Cnn9


def features(x: Any, architecture: Cnn9, construction: Construction) -> Any:
    """Symbolic pixels 0..255 (N, H, W, 3) to features (N, units).

    The pixels are centred per channel as the paper's generator did. With the default widths,
    32×32 pixels and 100 outputs, the network has 13,870,484 parameters. If it takes images of any
    size, the feature maps of smaller ones are repeated to 4×4, which is what 32×32 pixels give
    anyway, so that the dense layers are the same.
    """
    activated: dict[str, Any] = {
        "activation": "relu",
        "kernel_initializer": architecture.initializer,
    }
    offset = [-mean for mean in construction.channel_mean]
    x = layers.Rescaling(1 / 255, offset=offset, dtype="float32", name="centre")(x)
    for block, (filters, dropout) in enumerate(
        zip(architecture.filters, architecture.block_dropout, strict=True), start=1
    ):
        for part in "ab":
            x = layers.Conv2D(filters, 3, padding="same", **activated, name=f"conv{block}{part}")(x)
        x = layers.MaxPooling2D(2, name=f"pool{block}")(x)
        x = layers.Dropout(dropout, name=f"drop{block}")(x)
    if construction.size is None:
        # `training=False` for the reason given in registry.py
        x = layers.Resizing(4, 4, "nearest", name="to_grid")(x, training=False)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(architecture.units, **activated, name="dense1")(x)
    x = layers.Dropout(architecture.dropout, name="drop_dense1")(x)
    return layers.Dense(architecture.units, **activated, name="dense2")(x)
