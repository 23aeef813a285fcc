"""What a process costs, for tests that start one to find out."""

import re
import resource
import sys
from pathlib import Path


def peak_megabytes() -> float:
    """The most memory that this process has had.

    Not `ru_maxrss` where there is better: on Linux it begins with what the parent process had.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0]) / 1024
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 2 ** (20 if sys.platform == "darwin" else 10)
