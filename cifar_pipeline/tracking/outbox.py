"""What a run has to tell, on disk, before anybody is told.

A training writes here and never waits for a tracker. Each tracker has a sender of its own
(`sender.py`), which keeps beside the events how many of them the tracker has.

    about.json        the run, and the trackers that it is for
    events.jsonl      an event a line
    files/            hard links to what events send, removed when every tracker has them
    mlflow.json       what MLflow has; likewise for other trackers
"""

import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cifar_pipeline.artifacts import write_json
from cifar_pipeline.tracking.events import Event, Files, Model, Sent

ABOUT, EVENTS, FILES = "about.json", "events.jsonl", "files"


@dataclass(frozen=True)
class About:
    """What a run is of. Nothing here is secret."""

    key: str
    """identifies the run everywhere"""
    asset: str
    """`model` or `search`"""
    name: str
    """of the recipe"""
    profile: str
    trackers: dict[str, dict[str, Any]]
    """the settings of each tracker, by its name"""
    runs: tuple[str, ...] = ()
    """Dagster's runs that worked on it"""


@dataclass(frozen=True)
class Delivery:
    """What a tracker has of an outbox."""

    sent: int = 0
    """events that are safe with it"""
    problem: str = ""
    """why the last attempt failed; empty when it did not"""
    page: str = ""
    """where the run can be seen"""


class Outbox:
    """One run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = folder / FILES

    @classmethod
    def create(cls, parent: Path, about: About) -> "Outbox":
        outbox = cls(parent / about.key)
        outbox.folder.mkdir(parents=True, exist_ok=True)
        outbox.describe(about)
        return outbox

    @property
    def about(self) -> About:
        content = json.loads((self.folder / ABOUT).read_text(encoding="utf-8"))
        return About(**content | {"runs": tuple(content["runs"])})

    def describe(self, about: About) -> None:
        write_json(self.folder / ABOUT, asdict(about))

    def add(self, event: Event, source: Path | None = None) -> None:
        """Write an event. Its files are linked, so that it does not matter what becomes of them.

        Args:
            source: the folder of the event's files.
        """
        folder = self._files / uuid.uuid4().hex[:12]
        if source and isinstance(event, Files | Model):
            for name in event.files:
                _link(source / name, folder / name)
        sent = Sent(event, time.time_ns() // 1_000_000, folder)
        # Other rules for numbers would let a NaN through, which no other reader of JSON takes.
        line = json.dumps(sent.as_json(), allow_nan=False, ensure_ascii=False) + "\n"
        with (self.folder / EVENTS).open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read() != b"\n":
                    file.write(b"\n")  # a kill has cut the last line short
            file.write(line.encode())

    def events(self) -> list[Sent | None]:
        """All events in order; None for a line that a kill has cut short."""
        path = self.folder / EVENTS
        if not path.is_file():
            return []
        # Not `splitlines`, which also divides at characters that JSON leaves as they are.
        *lines, _ = path.read_text(encoding="utf-8").split("\n")
        return [self._read(line) for line in lines]

    def _read(self, line: str) -> Sent | None:
        try:
            return Sent.from_json(json.loads(line), self._files)
        except (ValueError, KeyError, TypeError):
            return None

    def delivery(self, tracker: str) -> Delivery:
        try:
            content = json.loads(self._path(tracker).read_text(encoding="utf-8"))
            return Delivery(**content)
        except (FileNotFoundError, ValueError, TypeError):
            return Delivery()

    def delivered(self, tracker: str, delivery: Delivery) -> None:
        """Note what a tracker has, and remove the files that every tracker has."""
        write_json(self._path(tracker), asdict(delivery))
        everywhere = min(self.delivery(name).sent for name in self.about.trackers)
        for sent in self.events()[:everywhere]:
            if sent and isinstance(sent.event, Files | Model):
                shutil.rmtree(sent.folder, ignore_errors=True)

    def failed(self, tracker: str, problem: str) -> None:
        write_json(self._path(tracker), asdict(replace(self.delivery(tracker), problem=problem)))

    def waiting(self) -> dict[str, int]:
        """How many events each tracker does not have yet, by its name."""
        total = len(self.events())
        return {name: total - self.delivery(name).sent for name in self.about.trackers}

    def lock(self, tracker: str) -> Path:
        """Held by the one process that sends to a tracker."""
        return self.folder / f"{tracker}.lock"

    def _path(self, tracker: str) -> Path:
        return self.folder / f"{tracker}.json"


def outboxes(parent: Path) -> Iterator[Outbox]:
    """Every outbox of a workspace, the oldest first."""
    found = sorted(parent.glob(f"*/{ABOUT}"), key=lambda path: path.stat().st_mtime)
    yield from (Outbox(path.parent) for path in found)


def find(parent: Path, asset: str, name: str, run: str) -> Outbox | None:
    """The outbox of what a run of Dagster's made."""
    for outbox in outboxes(parent):
        about = outbox.about
        if (about.asset, about.name) == (asset, name) and run in about.runs:
            return outbox
    return None


def files_in(folder: Path, names: Iterable[str] = ()) -> tuple[str, ...]:
    """The files in a folder, or those of `names` that are there, relative to it."""
    wanted = [folder / name for name in names] or [folder]
    found = [path for start in wanted for path in (start, *sorted(start.rglob("*")))]
    return tuple(path.relative_to(folder).as_posix() for path in found if path.is_file())


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # on another disk, or where links are not allowed
        shutil.copyfile(source, target)
