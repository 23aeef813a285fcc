"""The page, served as a visitor finds it: by the command, in a process of its own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from tests.workspaces import CHECKOUT

# No file larger than nothing can be written: what tries to is refused by the system.
COMMAND = """
import resource, sys
from cifar_pipeline.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
main(sys.argv[1:])
"""


@contextmanager
def served(
    root: Path, folder: Path, host: str = "127.0.0.1"
) -> Iterator[tuple[str, subprocess.Popen]]:
    """`cifar app` on the workspace at `root`; yields its address and process.

    Args:
        folder: an empty one, which is the server's home, working and temporary folder.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "CIFAR_ROOT": str(root),
        "PYTHONPATH": str(CHECKOUT),
        "PYTHONDONTWRITEBYTECODE": "1",
        **dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "MPLCONFIGDIR"), str(folder)),
    }
    command = [sys.executable, "-c", COMMAND, "app", "--host", host, "--port", str(port)]
    # Pipes have no size, whereas pytest's own files would be among those that cannot be written.
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        try:
            address = f"http://127.0.0.1:{port}"
            end = time.monotonic() + 120
            while not _healthy(address):
                assert process.poll() is None, process.communicate()[1].decode()
                assert time.monotonic() < end
                time.sleep(0.1)
            yield address, process
        finally:
            process.terminate()


def _healthy(address: str) -> bool:
    try:
        return requests.get(f"{address}/_stcore/health", timeout=5).text == "ok"
    except requests.ConnectionError:
        return False
