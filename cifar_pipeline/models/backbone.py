"""MobileNet (Howard 2017) and ResNet50 (He 2015) from Keras Applications, with the dense layers that the reports put behind them."""

from typing import Any

import keras
from keras import layers

from cifar_pipeline.models.cnn import dense_layers
from cifar_pipeline.models.pretrained import load_application
from cifar_pipeline.settings.architectures import Backbone

APPLICATIONS = {"mobilenet": keras.applications.MobileNet, "resnet50": keras.applications.ResNet50}
IMAGENET_BGR_MEAN = (103.939, 116.779, 123.68)


def backbone_features(x: Any, architecture: Backbone, size: int | None, weights: str) -> Any:
    """Symbolic pixels 0..255 (N, size, size, 3) to features (N, last of the hidden units, or the channels).

    Raises: PipelineError as `load_application` does.
    """
    network = load_application(
        architecture.name, APPLICATIONS[architecture.name], size, weights, pooling=None
    )
    x = network(_scaled(x, architecture))
    if architecture.convolution:
        block = architecture.convolution
        x = layers.Conv2D(
            block.filters, block.kernel, padding="same", activation="relu", name="conv_head"
        )(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return dense_layers(x, architecture.hidden, architecture.hidden_dropout)


def _scaled(x: Any, architecture: Backbone) -> Any:
    if architecture.scaling == "unit":
        return layers.Rescaling(1 / 255, name="scale")(x)
    if architecture.name == "mobilenet":
        return layers.Rescaling(1 / 127.5, offset=-1, name="scale")(x)
    bgr = layers.Concatenate(name="to_bgr")([x[..., 2:3], x[..., 1:2], x[..., 0:1]])
    return layers.Rescaling(1.0, offset=[-mean for mean in IMAGENET_BGR_MEAN], name="scale")(bgr)
