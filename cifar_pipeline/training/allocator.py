"""How the process that trains gets its memory from the C library."""

import ctypes
import platform

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
