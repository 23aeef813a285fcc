"""How the process that trains gets its memory, and how it gives back that of earlier trainings."""

import ctypes
import gc
import platform

import keras

# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> None:
    """Make glibc keep what TensorFlow frees instead of giving it back to the kernel.

    This holds for the rest of the process and must be called before the first operation. A step on
    a CPU allocates and frees every activation. With glibc's defaults the pages go back to the
    kernel, and are faulted in and cleared again in the next step (benchmarks/allocator.py; man 3
    mallopt). The price is that the process keeps the most memory that it ever used. Other C
    libraries have other allocators and are left alone.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(
            M_ARENA_MAX, 1
        )  # those of other threads than the first give back whatever the two below say
        libc.mallopt(M_MMAP_MAX, 0)  # blocks of their own are always given back
        libc.mallopt(M_TRIM_THRESHOLD, -1)


def release_earlier_trainings() -> None:
    """Free the networks and graphs of the trainings that have ended in this process.

    Layers without a name of their own are numbered from one again, so that the saved file does not
    tell how many models this process has built. TensorFlow keeps the gradients of all graphs that
    it ever traced, the loss has one, and each keeps its graph alive: 20 MB a training of the
    search's small networks (tensorflow #80895, #97697; tf-keras #898 has the same remedy).
    """
    keras.utils.clear_session()
    if keras.backend.backend() == "tensorflow":
        from tensorflow.python.framework import ops  # noqa: PLC0415  # only this backend has it

        registered = ops.gradient_registry._registry  # there is no public way to it
        for name in [name for name in registered if name.startswith("CustomGradient-")]:
            del registered[name]
    gc.collect()
