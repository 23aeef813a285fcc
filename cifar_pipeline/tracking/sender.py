"""The process that sends an outbox to one tracker, so that no training ever waits for one.

    python -m cifar_pipeline.tracking.sender FOLDER TRACKER WAIT_S

It follows the outbox until its standard input gets a byte or ends, which also happens when whoever
started it is killed. It then sends what is left, and is gone WAIT_S seconds later at the latest,
whatever a library of the tracker is waiting for.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path

from filelock import FileLock

from cifar_pipeline.tracking.events import Tracker
from cifar_pipeline.tracking.outbox import Delivery, Outbox
from cifar_pipeline.tracking.secrets import redacted
from cifar_pipeline.tracking.trackers import connect

POLL_S, FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 1.0, 60.0
NICENESS = 10
LONGEST_PROBLEM = 300


class Sender:
    """Sends what is in an outbox, and what comes while it is not told to close."""

    def __init__(self, outbox: Outbox, name: str, closing: threading.Event) -> None:
        self._outbox, self._name, self._closing = outbox, name, closing
        self._tracker: Tracker | None = None
        self._taken = outbox.delivery(name).sent

    def run(self) -> None:
        pause = FIRST_PAUSE_S
        while True:
            closing = self._closing.is_set()
            try:
                self._send(closing)
                pause = FIRST_PAUSE_S
                wait = POLL_S
            except Exception as error:  # whatever a tracker's library raises
                self._tracker, self._taken = None, self._outbox.delivery(self._name).sent
                self._outbox.failed(self._name, described(error))
                wait, pause = pause, min(2 * pause, LONGEST_PAUSE_S)
            if closing:
                return
            self._closing.wait(wait)

    def _send(self, closing: bool) -> None:
        new = self._outbox.events()[self._taken :]
        if new and not self._tracker:
            self._tracker = connect(self._name, self._outbox)
        if not self._tracker:
            return
        for sent in new:
            if sent:
                self._tracker.take(sent)
            self._taken += 1
            if self._tracker.confirms_each:
                self._note(self._tracker)
        if closing and not self._tracker.confirms_each:
            self._tracker.confirm()
            self._note(self._tracker)

    def _note(self, tracker: Tracker) -> None:
        delivery = Delivery(sent=self._taken, page=redacted(tracker.page))
        self._outbox.delivered(self._name, delivery)


def described(error: Exception) -> str:
    """An error in one line, without secrets and without the addresses of objects."""
    words = " ".join(str(error).split()) or type(error).__name__
    return redacted(f"{type(error).__name__}: {words}")[:LONGEST_PROBLEM]


def main(folder: str, name: str, wait_s: str) -> None:
    outbox, closing = Outbox(Path(folder)), threading.Event()
    os.nice(NICENESS)

    def watch() -> None:
        sys.stdin.buffer.read(1)
        closing.set()
        time.sleep(float(wait_s))
        with contextlib.suppress(Exception):
            outbox.failed(name, f"no answer within {float(wait_s):.0f} s")
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)  # with the process that wandb starts
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    with FileLock(outbox.lock(name)):  # of a process that was killed it is free in WAIT_S seconds
        Sender(outbox, name, closing).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
