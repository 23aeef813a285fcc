"""EfficientNet from Keras Applications, with pretrained weights that compute what they computed when they were trained.

The trap: Keras adds a layer that divides by sqrt(std) only under `weights="imagenet"`. The same weights loaded from a
file into `weights=None` see wrongly scaled pixels (tensorflow #49930, #62193). Here the file's normalisation variance
is multiplied by the standard deviations instead, which is the same arithmetic.
"""

import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cifar_pipeline.errors import PipelineError

IMAGENET_STD = (0.229, 0.224, 0.225)


def efficientnet_features(x: Any, size: int, weights: str) -> Any:
    """Symbolic pixels 0..255 (N, size, size, 3) to pooled features (N, 1280) of EfficientNet-B0.

    Args:
        weights: `imagenet` (Keras fetches and verifies the file), `none`, or the path of a file in Keras' own layout.

    Raises: PipelineError when pretrained weights are asked for and cannot be had, or do not fit.
    """
    return _backbone(size, weights)(x)


def _backbone(size: int, weights: str) -> keras.Model:
    settings: dict[str, Any] = {"include_top": False, "input_shape": (size, size, 3), "pooling": "avg", "name": "efficientnet_b0"}
    if weights == "none":
        return keras.applications.EfficientNetB0(weights=None, **settings)
    if weights == "imagenet":
        try:
            return keras.applications.EfficientNetB0(weights="imagenet", **settings)
        except Exception as error:  # Keras wraps every network failure in a bare Exception
            raise PipelineError(
                f"the ImageNet weights of EfficientNet-B0 cannot be fetched ({error}). Run where there is internet once, or set "
                "CIFAR_WEIGHTS_EFFICIENTNET_B0 or the recipe's `weights` to a file of them; `weights: none` trains from random ones."
            ) from None
    model = keras.applications.EfficientNetB0(weights=None, **settings)
    path = Path(weights).expanduser()
    if not path.is_file():
        raise PipelineError(f"there are no pretrained weights at {path}; correct `weights` in params.yaml or fetch the file")
    try:
        with warnings.catch_warnings():
            # Keras only warns about parts that a file lacks, and leaves them random.
            warnings.simplefilter("error", UserWarning)
            model.load_weights(path)
    except (ValueError, OSError, KeyError, UserWarning) as error:
        raise PipelineError(f"{path} does not hold EfficientNet-B0's weights in Keras' layout: {error}") from None
    # By type: its name counts up with every model built in the process.
    (normalization,) = (layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
    mean, variance, *rest = normalization.get_weights()
    normalization.set_weights([mean, variance * np.array(IMAGENET_STD, variance.dtype).reshape(variance.shape), *rest])
    normalization.finalize_state()
    return model
