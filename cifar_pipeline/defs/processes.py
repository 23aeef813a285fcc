"""Processes by a name that outlives them, and threads that end this one with another."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import psutil

EVERY_S = 1.0
GRACE_S = 30.0
"""After so long a process that was asked to end is ended; whatever it writes appears whole or not
at all."""


def name_of(process: psutil.Process) -> str:
    """`host:pid:start`, with the start in seconds since the machine was booted."""
    return f"{socket.gethostname()}:{process.pid}:{_started(process):.2f}"


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
        is_the_same = abs(_started(found) - float(started)) < 1
        return is_the_same and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _started(process: psutil.Process) -> float:
    """Seconds from boot to the start of a process. Its time of day would change with the clock:
    when that is set, Linux moves the start of every process by whole seconds."""
    return process.create_time() - psutil.boot_time()


def end_with(process: str, what: str, by: signal.Signals = signal.SIGTERM) -> None:
    """End this process when another one of this machine has ended.

    Args:
        what: the other one, as the message calls it.
        by: the signal; SIGKILL leaves it no time to say anything to anybody.
    """
    end_when(lambda: not is_alive(process), what, EVERY_S, by)


def end_when(
    is_gone: Callable[[], bool], what: str, every_s: float, by: signal.Signals = signal.SIGTERM
) -> None:
    """End this process when something is gone: at once if it can, else after `GRACE_S`.

    Args:
        what: as the message calls it.
        every_s: how often `is_gone` is asked.
        by: the signal, as for `end_with`.
    """

    def watch() -> None:
        while not is_gone():
            time.sleep(every_s)
        with suppress(OSError):  # nobody reads what is printed
            print(f"{what} is gone, so this process ends too", flush=True)
        os.kill(os.getpid(), by)
        time.sleep(GRACE_S)
        os._exit(1)

    threading.Thread(target=watch, name=f"ends with {what}", daemon=True).start()
