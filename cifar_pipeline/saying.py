"""Lines about long work, for people, on stderr while it goes on."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_subjects: list[str] = []


@contextmanager
def about(subject: str) -> Iterator[None]:
    """Let every line that this process says meanwhile begin with `subject`.

    Two trainings at once share a terminal, and only this tells their lines apart.
    """
    _subjects.append(subject)
    try:
        yield
    finally:
        _subjects.remove(subject)


def say(line: str) -> None:
    """Say one line."""
    print(": ".join([*_subjects[-1:], line]), file=sys.stderr, flush=True)
