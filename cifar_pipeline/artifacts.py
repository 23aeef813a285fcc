"""How artefacts reach the disk: whole or not at all, with a checksum that DVC agrees with.

An output is never written in place: DVC may have hard-linked it to its cache, and writing through
the link would corrupt every version of it.
"""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_pipeline.errors import PipelineError

if TYPE_CHECKING:
    import pandas as pd

PART = ".part."
"""How the names of files and folders begin that are not whole yet; .dvcignore names them too."""
LEFTOVER_S = 24 * 3600


def staging_path(target: Path) -> Path:
    """A path beside `target`, in a folder that exists, for what will replace it.

    What processes that were killed left there is removed after a day. Whether they still run
    cannot be told: they may be on another machine, or in a container.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target.parent)
    # The whole name comes last, because some writers go by its ending.
    return target.parent / f"{PART}{os.getpid()}.{target.name}"


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _remove_leftovers(folder: Path) -> None:
    for path in folder.glob(f"{PART}*"):
        with suppress(FileNotFoundError):  # it has just been put in its place
            if time.time() - path.stat().st_mtime > LEFTOVER_S:
                remove(path)


def replace(new: Path, target: Path) -> None:
    """Put the file or folder `new`, which is beside `target`, in its place."""
    if not target.is_dir():
        new.replace(target)
        return
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=PART) as old:
        target.replace(Path(old, "old"))
        new.replace(target)


@contextmanager
def replacing_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `target` when the block succeeds, and vanishes when it
    fails.
    """
    temporary = staging_path(target)
    try:
        yield temporary
        replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Like `replacing_file`, for a folder: a failing block leaves the old folder as it was."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=PART) as temporary:
        new = Path(temporary, target.name)
        new.mkdir()
        yield new
        replace(new.rename(staging_path(target)), target)


def missing_artifact(path: Path) -> PipelineError:
    """The error for an artefact that is not there."""
    return PipelineError(
        f"{path} is missing; materialize its asset first (`make run`, or `dvc pull`)"
    )


def damaged_artifact(path: Path, error: Exception) -> PipelineError:
    """The error for an artefact whose reader raised `error`."""
    return PipelineError(f"{path} is damaged ({error}); materialize its asset again")


def write_json(path: Path, content: Any) -> None:
    """Write `content` with sorted keys, so that the same content gives the same bytes."""
    with replacing_file(path) as temporary:
        text = json.dumps(content, indent=2, sort_keys=True) + "\n"
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path, keys: Collection[str] = ()) -> dict[str, Any]:
    """The content of an artefact's JSON file.

    Raises: PipelineError when it is missing, damaged, or lacks one of `keys`, as files of an older
        release do.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no object")
    except FileNotFoundError:
        raise missing_artifact(path) from None
    except ValueError as error:
        raise damaged_artifact(path, error) from None
    if missing := sorted(set(keys) - set(content)):
        raise PipelineError(
            f"{path} has no {', '.join(missing)}: an older release wrote it; materialize its asset "
            "again"
        )
    return content


def read_csv(path: Path, columns: Collection[str]) -> "pd.DataFrame":
    """The content of an artefact's CSV file.

    Raises: PipelineError when it is missing, damaged, or lacks one of `columns` or any row.
    """
    import pandas as pd  # half a second, and few users of this module need it

    try:
        content = pd.read_csv(path)
    except FileNotFoundError:
        raise missing_artifact(path) from None
    except ValueError as error:  # pandas' own errors and bytes that are no text are such
        raise damaged_artifact(path, error) from None
    if missing := sorted(set(columns) - set(content.columns)):
        raise PipelineError(
            f"{path} has no {', '.join(missing)}: it is damaged, or an older release wrote it; "
            "materialize its asset again"
        )
    if not len(content):
        raise damaged_artifact(path, ValueError("it has no rows"))
    return content


def file_digest(path: Path, algorithm: str) -> str:
    """The hexadecimal digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def dvc_md5(path: Path) -> str:
    """The md5 that DVC 3 records for `path`: of a file's bytes, or of a folder's sorted listing.

    What .dvcignore names is left out, as DVC leaves it out.
    """
    if not path.is_dir():
        return file_digest(path, "md5")
    files = sorted(
        (file.relative_to(path).as_posix(), file)
        for file in path.rglob("*")
        if file.is_file() and not _ignored(file.relative_to(path))
    )
    listing = [{"md5": file_digest(file, "md5"), "relpath": relative} for relative, file in files]
    return digest_of(listing) + ".dir"


def digest_of(content: Any) -> str:
    """The md5 of a JSON value."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _ignored(path: Path) -> bool:
    return any(part == "__pycache__" or part.startswith(PART) for part in path.parts)


def free_bytes(folder: Path) -> int:
    """Bytes free on the disk of `folder`, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
