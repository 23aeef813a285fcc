"""Networks of Keras Applications without their heads, from the weights that a recipe names."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from cifar_pipeline.errors import PipelineError


def load_application(
    name: str,
    application: Callable[..., keras.Model],
    size: int | None,
    weights: str,
    pooling: str | None,
) -> keras.Model:
    """The network of `application` from (N, size, size, 3) to feature maps, or what `pooling` makes of them.

    Args:
        name: what errors call it.
        size: None for images of any size.
        weights: `imagenet` (Keras fetches and verifies the file), `none`, or the path of a file in Keras' own layout.

    Raises: PipelineError when pretrained weights are asked for and cannot be had, or do not fit.
    """
    settings: dict[str, Any] = {
        "include_top": False,
        "input_shape": (size, size, 3),
        "pooling": pooling,
    }
    if weights == "none":
        return application(weights=None, **settings)
    if weights == "imagenet":
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings(
                    "ignore", message=".*input_shape.*"
                )  # MobileNet's: that 224 is what it was trained on
                return application(weights="imagenet", **settings)
        except Exception as error:  # Keras wraps every network failure in a bare Exception
            raise PipelineError(
                f"the ImageNet weights of {name} cannot be fetched ({error}). Run where there is internet once, or set "
                f"CIFAR_WEIGHTS_<ARCHITECTURE> or the recipe's `weights` to a file of them; `weights: none` trains from random ones."
            ) from None
    model = application(weights=None, **settings)
    path = Path(weights).expanduser()
    if not path.is_file():
        raise PipelineError(
            f"there are no pretrained weights at {path}; correct `weights` in params.yaml or fetch the file"
        )
    try:
        with warnings.catch_warnings():
            # Keras only warns about parts that a file lacks, and leaves them random.
            warnings.simplefilter("error", UserWarning)
            model.load_weights(path)
    except (ValueError, OSError, KeyError, UserWarning) as error:
        raise PipelineError(
            f"{path} does not hold the weights of {name} in Keras' layout: {error}"
        ) from None
    return model
