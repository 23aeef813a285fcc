"""In processes of their own, because what is set holds for the rest of one."""

import platform
import subprocess
import sys

from tests.workspaces import CHECKOUT

BLOCKS, BLOCK_MB, PAGE_KB = 20, 64, 4
PROGRAM = f"""
import resource, sys, threading
from cifar_pipeline.training.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def fill():
    for _ in range({BLOCKS}):
        bytearray(b"x") * ({BLOCK_MB} << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
thread = threading.Thread(target=fill)
thread.start()
thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_a_thread_gets_again_the_memory_that_it_freed():
    faults = {}
    for memory in ("defaults", "kept"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, memory],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=True,
        )
        faults[memory] = int(done.stdout)
    once = BLOCK_MB * 1024 / PAGE_KB
    if platform.libc_ver()[0] == "glibc":  # any other is left alone, which must not fail either
        assert faults["kept"] < 2 * once
        assert faults["defaults"] > (BLOCKS - 1) * once
