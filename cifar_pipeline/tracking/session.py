"""A tracked run, as the process sees it that works on it: it writes, looks and, once, waits."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cifar_pipeline.artifacts import write_json
from cifar_pipeline.tracking.events import Event
from cifar_pipeline.tracking.outbox import Outbox, outboxes
from cifar_pipeline.tracking.trackers import TITLES

RUNS = "runs"
"""The folder of the outboxes, in that of the tracking."""
SPARE_S = 2.0
"""A sender ends itself; this much later it is ended."""
SENDER = "cifar_pipeline.tracking.sender"


class Session:
    """Sends a run's events while it is open.

    Args:
        tell: is given a line for people whenever a tracker fails, or takes events again.
    """

    def __init__(self, outbox: Outbox, wait_s: float, tell: Callable[[str], None]) -> None:
        self._outbox, self._wait_s, self._tell = outbox, wait_s, tell
        self._told: dict[str, str] = {}
        self._senders = {name: start_sender(outbox, name, wait_s) for name in outbox.about.trackers}

    @property
    def outbox(self) -> Outbox:
        return self._outbox

    def add(self, event: Event, source: Path | None = None) -> None:
        """As `Outbox.add`. Tells people what has come up since."""
        self._outbox.add(event, source)
        for name in self._senders:
            self._look(name)

    def close(self, wait_s: float | None = None) -> dict[str, str]:
        """Wait for the trackers, each for `wait_s` seconds at most and all at the same time.

        Returns: what each tracker has, in words, by its name.
        """
        end_senders(self._senders, self._wait_s if wait_s is None else wait_s)
        return {name: self._closing_words(name) for name in self._senders}

    def _closing_words(self, name: str) -> str:
        words = described(self._outbox, name)
        if self._outbox.waiting()[name]:
            self._tell(words)
        return words

    def _look(self, name: str) -> None:
        problem, before = self._outbox.delivery(name).problem, self._told.get(name, "")
        if problem == before:
            return
        self._told[name] = problem
        if not before:
            self._tell(
                f"{TITLES[name]} does not take what it is sent ({problem}). The work goes on, and "
                "what it misses is kept and sent later"
            )
        elif not problem:
            self._tell(f"{TITLES[name]} takes what it is sent again")


@dataclass(frozen=True)
class Continued:
    """Which tracked run the checkpoints beside it belong to."""

    path: Path
    decided_by: str
    """a checksum of all that a training must have in common with them"""

    def find(self, runs: Path) -> Outbox | None:
        """The outbox of the run, if it is there and of the same training."""
        content = _read(self.path)
        outbox = Outbox(runs / str(content.get("key")))
        known = content.get("decided_by") == self.decided_by and outbox.folder.is_dir()
        return outbox if known else None

    def remember(self, outbox: Outbox) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, {"key": outbox.folder.name, "decided_by": self.decided_by})

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)


def new_key() -> str:
    """A name for a run, which is unique, short, and fits every tracker."""
    return uuid.uuid4().hex[:12]


def continued(outbox: Outbox, trackers: dict[str, dict[str, Any]], run: str) -> Outbox:
    """The outbox, for the trackers that are chosen now and another of Dagster's runs."""
    about = outbox.about
    runs = tuple(dict.fromkeys((*about.runs, run)))
    outbox.describe(replace(about, trackers=trackers, runs=runs))
    return outbox


def described(outbox: Outbox, name: str) -> str:
    """What a tracker has of an outbox, in words."""
    waiting, delivery = outbox.waiting()[name], outbox.delivery(name)
    if waiting:
        why = f" ({delivery.problem})" if delivery.problem else ""
        return (
            f"{TITLES[name]} has {delivery.sent} of {delivery.sent + waiting} events{why}; "
            "`cifar track` sends the rest"
        )
    return f"{TITLES[name]} has all {delivery.sent} events: {delivery.page}"


def send_waiting(runs: Path, trackers: Iterable[str], wait_s: float) -> Iterator[str]:
    """Send what trackers have missed of all runs, one run after another.

    Args:
        trackers: their names; others are left alone.
        wait_s: seconds for each run.

    Yields: what has come of each run that was waiting, in words.
    """
    for outbox in outboxes(runs):
        waiting = [name for name, count in outbox.waiting().items() if count and name in trackers]
        end_senders({name: start_sender(outbox, name, wait_s) for name in waiting}, wait_s)
        for name in waiting:
            about = outbox.about
            yield f"{about.asset}/{about.name}, {about.profile}: {described(outbox, name)}"


def start_sender(outbox: Outbox, name: str, wait_s: float) -> subprocess.Popen[bytes]:
    """Start the process that sends an outbox to a tracker; see `sender.py`."""
    package = Path(__file__).parents[2]
    paths = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-m", SENDER, str(outbox.folder), name, str(wait_s)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdin=subprocess.PIPE,
        # Its libraries print what they like; what failed is in the outbox.
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the training, which then closes it
    )


def end_senders(senders: dict[str, subprocess.Popen[bytes]], wait_s: float) -> None:
    """Tell senders to close, and return when they have, `wait_s` seconds later at the latest."""
    for sender in senders.values():
        assert sender.stdin is not None
        with contextlib.suppress(OSError):  # it has died
            sender.stdin.write(b"\n")
            sender.stdin.close()
    end = time.monotonic() + wait_s + SPARE_S
    for sender in senders.values():
        try:
            sender.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(sender.pid, signal.SIGKILL)
            sender.wait()


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
