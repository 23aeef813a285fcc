"""The one exception that a user can cause.

Its message says what was found, what was expected and how to repair it.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

REPAIRS = {
    errno.ENOSPC: "free some space, and start again",
    errno.EDQUOT: "free some of your quota, and start again",
    errno.EROFS: "the disk can only be read; use a folder that can be written",
    errno.EACCES: "its permissions do not allow it; change them, and start again",
    errno.EPERM: "its permissions do not allow it; change them, and start again",
    errno.EEXIST: "a file is where a folder has to be; name another place",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "a part of the path is a file; name another place",
}
"""What the machine refuses for reasons that are its user's to mend."""


class PipelineError(Exception):
    """A bad input, setting or environment; users see its message alone, without a traceback."""


class DivergedError(PipelineError):
    """A training whose loss is no longer finite: its settings are at fault, and nothing else."""


@contextmanager
def refusals_in_words() -> Iterator[None]:
    """Raise PipelineError for what a full disk, or a folder that cannot be written, refuses."""
    try:
        yield
    except OSError as error:
        if error.errno not in REPAIRS:
            raise
        where = f"{error.filename}: " if error.filename else ""
        raise PipelineError(
            f"{where}{error.strerror}; {REPAIRS[error.errno]}. Nothing was replaced"
        ) from error
