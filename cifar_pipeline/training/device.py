"""Which device trains. A GPU that was asked for and is missing is an error, never a quiet CPU run."""

import keras

from cifar_pipeline.errors import PipelineError


def gpu_names() -> list[str]:
    """Names of the GPUs that the Keras backend sees."""
    return list(keras.distribution.list_devices("gpu"))


def require_device(device: str) -> str:
    """The device that training will run on, `cpu` or the GPUs' names.

    Raises: PipelineError when the recipe asks for a GPU and there is none.
    """
    gpus = gpu_names()
    if device == "gpu" and not gpus:
        raise PipelineError(
            "the recipe asks for a GPU and the Keras backend sees none. Install the GPU build (`make setup GPU=1`) on a machine "
            "with an NVIDIA driver, or set the recipe's `device: any` in params.yaml to train on the CPU."
        )
    return ", ".join(gpus) or "cpu"
