"""Which devices train. A missing GPU that was asked for is an error, never a quiet CPU run."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import keras

from cifar_pipeline.errors import PipelineError

MOST_WORKERS = 8


def gpu_names() -> list[str]:
    """Names of the GPUs that the Keras backend sees."""
    # Not `list_devices("gpu")`, with which JAX fails where there is none.
    return [name for name in keras.distribution.list_devices() if name.startswith("gpu")]


def divide_cpu(devices: int) -> None:
    """Divide the CPU into that many TensorFlow devices, for the rest of the process.

    It must be called before the first operation. Small operations keep one core busy and seldom
    several, so two devices of one core each can train faster than one device of two cores
    (benchmarks/steps.py). A machine with a GPU is left as it is, and so is another backend.

    Raises: PipelineError when TensorFlow has begun undivided.
    """
    if devices == 1 or keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf  # noqa: PLC0415  # only this backend has it

    [cpu] = tf.config.list_physical_devices("CPU")
    if (
        tf.config.list_physical_devices("GPU")
        or len(tf.config.get_logical_device_configuration(cpu) or ()) == devices
    ):
        return
    try:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * devices
        )
        tf.config.threading.set_intra_op_parallelism_threads(
            max(1, (os.cpu_count() or 1) // devices)
        )
        tf.config.threading.set_inter_op_parallelism_threads(devices)
    except RuntimeError:
        raise PipelineError(
            f"the CPU cannot be divided into {devices} devices, because this process has computed "
            "with TensorFlow already; train in a process of its own, or set the recipe's "
            "`cpu_devices: 1`"
        ) from None


def require_devices(device: str, cpu_devices: int = 1) -> list[str]:
    """The devices that training will run on: all GPUs, or the CPU divided as the recipe asks.

    Raises: PipelineError when the recipe asks for a GPU and there is none, and when the CPU cannot
        be divided.
    """
    divide_cpu(cpu_devices)  # first, because looking for GPUs starts TensorFlow
    gpus = gpu_names()
    if device == "gpu" and not gpus:
        raise PipelineError(
            "the recipe asks for a GPU and the Keras backend sees none. Install the GPU build "
            "(`make setup GPU=1`) on a machine with an NVIDIA driver, or set the recipe's "
            "`device: any` to train on the CPU."
        )
    cpus = keras.distribution.list_devices("cpu")[:cpu_devices]
    if not gpus and len(cpus) < cpu_devices:
        backend = keras.backend.backend()
        raise PipelineError(
            f"`cpu_devices: {cpu_devices}` needs Keras' TensorFlow backend, not {backend}; set it "
            "to 1"
        )
    return gpus or cpus


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a backend raised `error` because a device's memory is full. TensorFlow has a type for
    it, JAX only the words."""
    return type(error).__name__ == "ResourceExhaustedError" or "RESOURCE_EXHAUSTED" in str(error)


def input_workers(devices: Sequence[str]) -> int:
    """How many processes make batches: none for a CPU, which trains more slowly than one thread
    makes them."""
    if devices[0].startswith("cpu"):
        return 0
    return max(1, min(MOST_WORKERS, (os.cpu_count() or 2) - 1))


@contextmanager
def data_parallel(devices: Sequence[str], batch_size: int) -> Iterator[None]:
    """The frame in which a model is built and trained on all devices.

    Each takes an equal share of every batch. The recipe's batch size is that of a step over all
    devices, so that its learning rate does not change with their number. BatchNorm's statistics are
    over all GPUs too (`share_statistics`); dropout's masks repeat from device to device.

    Raises: PipelineError when the batch cannot be shared equally, or the Keras backend is not
        TensorFlow.
    """
    if len(devices) == 1:
        yield
        return
    if batch_size % len(devices):
        raise PipelineError(
            f"a batch of {batch_size} cannot be shared equally by {len(devices)} devices; make the "
            "recipe's `batch_size` a multiple, or hide devices (CUDA_VISIBLE_DEVICES)"
        )
    if keras.backend.backend() != "tensorflow":
        raise PipelineError(
            f"{len(devices)} devices need Keras' TensorFlow backend, not "
            f"{keras.backend.backend()}; hide all but one"
        )
    import tensorflow as tf  # noqa: PLC0415  # as in Keras' guide for this backend

    with tf.distribute.MirroredStrategy([name.upper() for name in devices]).scope():
        yield


def share_statistics(model: keras.Model) -> None:
    """Let BatchNorm normalise over all devices' shares of a batch, as one device would."""
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
