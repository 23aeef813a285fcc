"""EfficientNet B0 to B7 (Tan & Le 2019) and EfficientNetV2 B0 to B3 (2021) from Keras Applications.

The trap: for the first family, Keras adds a layer that divides by sqrt(std) only under `weights="imagenet"`. The same weights
loaded from a file into `weights=None` see wrongly scaled pixels (tensorflow #49930, #62193). Here the file's normalisation
variance is multiplied by the standard deviations instead, which is the same arithmetic. V2 rescales in either case.
"""

import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cifar_pipeline.errors import PipelineError

IMAGENET_STD = (0.229, 0.224, 0.225)


def efficientnet_features(x: Any, name: str, size: int | None, weights: str) -> Any:
    """Symbolic pixels 0..255 (N, size, size, 3) to pooled features (N, 1280 in the smallest).

    Args:
        name: `efficientnet_b0` to `_b7`, `efficientnetv2_b0` to `_b3`.
        size: None for images of any size.
        weights: `imagenet` (Keras fetches and verifies the file), `none`, or the path of a file in Keras' own layout.

    Raises: PipelineError when pretrained weights are asked for and cannot be had, or do not fit.
    """
    return _backbone(name, size, weights)(x)


def _backbone(name: str, size: int | None, weights: str) -> keras.Model:
    application = getattr(keras.applications, name.replace("efficientnet", "EfficientNet").replace("v2", "V2").replace("_b", "B"))
    settings: dict[str, Any] = {"include_top": False, "input_shape": (size, size, 3), "pooling": "avg"}
    if weights == "none":
        return application(weights=None, **settings)
    if weights == "imagenet":
        try:
            return application(weights="imagenet", **settings)
        except Exception as error:  # Keras wraps every network failure in a bare Exception
            raise PipelineError(
                f"the ImageNet weights of {name} cannot be fetched ({error}). Run where there is internet once, or set "
                f"CIFAR_WEIGHTS_<ARCHITECTURE> or the recipe's `weights` to a file of them; `weights: none` trains from random ones."
            ) from None
    model = application(weights=None, **settings)
    path = Path(weights).expanduser()
    if not path.is_file():
        raise PipelineError(f"there are no pretrained weights at {path}; correct `weights` in params.yaml or fetch the file")
    try:
        with warnings.catch_warnings():
            # Keras only warns about parts that a file lacks, and leaves them random.
            warnings.simplefilter("error", UserWarning)
            model.load_weights(path)
    except (ValueError, OSError, KeyError, UserWarning) as error:
        raise PipelineError(f"{path} does not hold the weights of {name} in Keras' layout: {error}") from None
    _undo_missing_rescaling(model)
    return model


def _undo_missing_rescaling(model: keras.Model) -> None:
    # By type: its name counts up with every model built in the process.
    (normalization,) = (layer for layer in model.layers if isinstance(layer, keras.layers.Normalization))
    if not normalization.weights:  # V2's are constants, in the model's own code
        return
    mean, variance, *rest = normalization.get_weights()
    normalization.set_weights([mean, variance * np.array(IMAGENET_STD, variance.dtype).reshape(variance.shape), *rest])
    normalization.finalize_state()
