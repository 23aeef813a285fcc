"""Networks of Keras Applications without their heads, with the weights that a recipe names."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.models.construction import Construction
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.architectures import ArchitectureSettings, KerasApplication


def load_application(
    architecture: KerasApplication,
    application: Callable[..., keras.Model],
    construction: Construction,
    pooling: str | None,
) -> keras.Model:
    """The network of `application` from (N, size, size, 3) to feature maps, pooled by `pooling`.

    Keras fetches the weights `imagenet` and verifies them; a file must have Keras' own layout.

    Raises: PipelineError when pretrained weights are asked for and cannot be had, or do not fit.
    """
    size, weights, name = construction.size, construction.weights, architecture.name
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
                # MobileNet warns that it was trained on 224 pixels.
                warnings.filterwarnings("ignore", message=".*input_shape.*")
                return application(weights="imagenet", **settings)
        except Exception as error:  # Keras wraps every network failure in a bare Exception
            raise PipelineError(
                f"the ImageNet weights of {name} cannot be fetched ({error}). Run once where "
                f"there is internet, or set {architecture.weights_variable} or the recipe's "
                "`weights` to a file that holds them; `weights: none` trains from random ones."
            ) from None
    model = application(weights=None, **settings)
    path = weights_file(weights, architecture)
    try:
        with warnings.catch_warnings():
            # Keras only warns about parts that a file lacks and leaves them random.
            warnings.simplefilter("error", UserWarning)
            model.load_weights(path)
    except (ValueError, OSError, KeyError, UserWarning) as error:
        raise PipelineError(
            f"{path} does not hold the weights of {name} in Keras' layout: {error}"
        ) from None
    return model


def weights_file(weights: str, architecture: ArchitectureSettings) -> Path:
    """The file of pretrained weights that a recipe names.

    Raises: PipelineError when it is not there.
    """
    path = Workspace.current().resolve(weights)
    if not path.is_file():
        raise PipelineError(
            f"there are no pretrained weights at {path}; correct the recipe's `weights` or "
            f"{architecture.weights_variable}, or fetch the file"
        )
    return path
