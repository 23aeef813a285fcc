"""How the process that trains gets its memory."""

import ctypes
import platform

# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> None:
    """Have glibc keep what TensorFlow frees instead of giving it back to the kernel, for the rest of the process. Call before the
    first operation.

    A step on a CPU allocates and frees every activation. With glibc's defaults their pages go back to the kernel and are faulted in
    and cleared again in the next step (benchmarks/allocator.py; man 3 mallopt). The process then holds the most that it ever used.
    Other C libraries have other allocators, and are left alone.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(
            M_ARENA_MAX, 1
        )  # those of other threads than the first give back whatever the two below say
        libc.mallopt(M_MMAP_MAX, 0)  # blocks of their own are always given back
        libc.mallopt(M_TRIM_THRESHOLD, -1)
