"""MobileNet (Howard 2017) and ResNet50 (He 2015) from Keras Applications.

The reports add a convolution and dense layers after them.
"""

from typing import Any

import keras
from keras import layers

from cifar_pipeline.models.construction import Construction
from cifar_pipeline.models.dense import dense_layers
from cifar_pipeline.models.pretrained import load_application
from cifar_pipeline.settings.architectures import Backbone

APPLICATIONS = {"mobilenet": keras.applications.MobileNet, "resnet50": keras.applications.ResNet50}
IMAGENET_BGR_MEAN = (103.939, 116.779, 123.68)


def features(x: Any, architecture: Backbone, construction: Construction) -> Any:
    """Symbolic pixels 0..255 (N, size, size, 3) to features (N, C).

    C is the last of the hidden units, or the channels if there are none.

    Raises: PipelineError as `load_application` does.
    """
    network = load_application(
        architecture, APPLICATIONS[architecture.name], construction, pooling=None
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
