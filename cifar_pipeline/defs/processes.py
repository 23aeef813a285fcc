"""Processes by a name that outlives them, and threads that end this one with another."""

import os
import signal
import socket
import threading
import time
from contextlib import suppress

import psutil

EVERY_S = 1.0
GRACE_S = 30.0
"""After so long a process that was asked to end is ended; whatever it writes appears whole or not
at all."""


def name_of(process: psutil.Process) -> str:
    """`host:pid:start`."""
    return f"{socket.gethostname()}:{process.pid}:{process.create_time():.2f}"


def this_process() -> str:
    """The name of this process."""
    return name_of(psutil.Process())


def is_here(process: str) -> bool:
    """Whether the process that a name stands for is, or was, one of this machine's."""
    return process.partition(":")[0] == socket.gethostname()


def is_alive(process: str) -> bool:
    """Whether a process of this machine still runs. One that its parent has not reaped does not."""
    _, pid, started = process.split(":")
    try:
        found = psutil.Process(int(pid))
        return (
            abs(found.create_time() - float(started)) < 1 and found.status() != psutil.STATUS_ZOMBIE
        )
    except psutil.NoSuchProcess:
        return False


def end_with(process: str, what: str) -> None:
    """End this process when another one of this machine has ended: at once if it can, else after
    `GRACE_S`.

    Args:
        what: the other one, as the message calls it.
    """

    def watch() -> None:
        while is_alive(process):
            time.sleep(EVERY_S)
        with suppress(OSError):  # nobody reads what is printed
            print(f"{what} is gone, so this process ends too", flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_S)
        os._exit(1)

    threading.Thread(target=watch, name=f"ends with {process}", daemon=True).start()
