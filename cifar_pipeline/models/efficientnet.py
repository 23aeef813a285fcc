"""EfficientNet B0 to B7 (Tan & Le 2019) and EfficientNetV2 B0 to B3 (2021) from Keras Applications.

The trap: for the first family, Keras adds a layer that divides by sqrt(std) only under
`weights="imagenet"`. The same weights loaded from a file into `weights=None` see wrongly scaled
pixels (tensorflow #49930, #62193). Here the file's normalisation variance is multiplied by the
standard deviations instead, which is the same arithmetic. V2 rescales in either case.
"""

from typing import Any

import keras
import numpy as np

from cifar_pipeline.models.construction import Construction
from cifar_pipeline.models.pretrained import load_application
from cifar_pipeline.settings.architectures import EfficientNet, EfficientNetV2

IMAGENET_STD = (0.229, 0.224, 0.225)


def features(
    x: Any, architecture: EfficientNet | EfficientNetV2, construction: Construction
) -> Any:
    """Symbolic pixels 0..255 (N, size, size, 3) to pooled features (N, 1280 for B0).

    Raises: PipelineError as `load_application` does.
    """
    if isinstance(architecture, EfficientNet) and architecture.scaling == "unit":
        # The network itself divides by 255, so this is S2's mistake, which its recipe repeats.
        x = keras.layers.Rescaling(1 / 255, name="scale")(x)
    return backbone(architecture, construction)(x)


def backbone(
    architecture: EfficientNet | EfficientNetV2, construction: Construction
) -> keras.Model:
    """The network without its head, pretrained weights loaded and its scaling right for them."""
    name = architecture.name.replace("efficientnet", "EfficientNet")
    application = getattr(keras.applications, name.replace("v2", "V2").replace("_b", "B"))
    model = load_application(architecture, application, construction, pooling="avg")
    if construction.weights not in ("imagenet", "none"):
        _undo_missing_rescaling(model)
    return model


def _undo_missing_rescaling(model: keras.Model) -> None:
    # Found by type, because its name counts up with every model built in the process.
    (normalization,) = (
        layer for layer in model.layers if isinstance(layer, keras.layers.Normalization)
    )
    if not normalization.weights:  # V2's are constants in the model's own code
        return
    mean, variance, *rest = normalization.get_weights()
    normalization.set_weights(
        [mean, variance * np.array(IMAGENET_STD, variance.dtype).reshape(variance.shape), *rest]
    )
    normalization.finalize_state()
