"""The protocol: what happens to a run, and what a tracker must be able to take.

Events are values that survive a process: they are written to an outbox first, and sent from there
(`outbox.py`, `sender.py`). Sending is repeated until it succeeded, so a tracker must take an event
that it has already as it takes a new one.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

Status = Literal["finished", "failed", "stopped"]


@dataclass(frozen=True)
class Begun:
    """A run begins, or goes on after an interruption."""

    name: str
    configuration: dict[str, Any] = field(default_factory=dict)
    """the settings that decide the result: nested mappings of JSON values"""
    facts: dict[str, str] = field(default_factory=dict)
    """what may differ when it goes on, such as the hardware"""
    data: dict[str, str] = field(default_factory=dict)
    """md5 of each input, as DVC records it, by its path in the workspace"""


@dataclass(frozen=True)
class Row:
    """One epoch's figures, or one trial's for the run of a search."""

    step: int
    """counted from 1"""
    values: dict[str, float]


@dataclass(frozen=True)
class Figures:
    """Final figures by name; an interval is two further figures, `NAME_low` and `NAME_high`."""

    values: dict[str, float]
    words: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Files:
    """Files to look at. Those that are pictures are shown as pictures."""

    label: str
    """a name for all of them, which becomes a folder"""
    files: tuple[str, ...]
    """relative to the folder of the event's files"""


@dataclass(frozen=True)
class Model:
    """A model, or weights of one, as an artefact."""

    label: str
    """`model` for the final one, or `epoch-0007`"""
    files: tuple[str, ...]
    """relative to the folder of the event's files"""
    about: dict[str, Any]
    """epoch and figures, and how to load it"""


@dataclass(frozen=True)
class Trial:
    """A trial of a search that has ended, which becomes a child run."""

    label: str
    """unique within the search"""
    configuration: dict[str, Any]
    values: dict[str, float]
    rows: tuple[float, ...]
    """the validation accuracy of its first fold by epoch"""
    state: str
    """`complete`, `pruned` or `fail`"""


@dataclass(frozen=True)
class Ended:
    """The run is over. More may follow: the report of a model is made after its training."""

    status: Status


Event = Begun | Row | Figures | Files | Model | Trial | Ended
KINDS: dict[str, type[Event]] = {
    kind.__name__: kind for kind in (Begun, Row, Figures, Files, Model, Trial, Ended)
}


@dataclass(frozen=True)
class Sent:
    """An event as it stands in an outbox."""

    event: Event
    at: int
    """milliseconds since 1970"""
    folder: Path
    """where its files are"""

    def as_json(self) -> dict[str, Any]:
        """Without the part of the folder that is this machine's."""
        kind = type(self.event).__name__
        return {"kind": kind, "at": self.at, "folder": self.folder.name, **asdict(self.event)}

    @classmethod
    def from_json(cls, content: dict[str, Any], files: Path) -> "Sent":
        """The reverse of `as_json`, in the outbox whose files are in `files`."""
        rest = {key: _tuple(v) for key, v in content.items() if key not in ("kind", "at", "folder")}
        return cls(KINDS[content["kind"]](**rest), content["at"], files / content["folder"])


class Tracker(Protocol):
    """Where runs are shown. Any method may raise anything, and may take for ever."""

    def take(self, sent: Sent) -> None:
        """Take an event, which it may have already."""

    def confirm(self) -> None:
        """Return when all that was taken is safe, and cannot be lost with this process."""

    @property
    def confirms_each(self) -> bool:
        """Whether an event is safe as soon as `take` returns."""

    @property
    def page(self) -> str:
        """Where the run can be seen."""


def flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted names."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
