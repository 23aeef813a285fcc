"""Obtaining the archive: from a server, a file, an unpacked folder, or generated; never half there.

What arrives is judged by its checksum alone, or by those of the files in it.
"""

import errno
import shutil
from pathlib import Path

from cifar_pipeline.artifacts import file_digest, replacing_file
from cifar_pipeline.dataset.download import ANOTHER, check_answers, download
from cifar_pipeline.dataset.generated import generate_archive
from cifar_pipeline.dataset.packed import (
    FOLDER,
    MEMBERS,
    PYTHON_VERSION,
    describe,
    md5,
    member_md5,
    write_archive,
)
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.settings.data import Source, is_remote, path_of


def obtain_archive(source: Source, target: Path, *, back_off: float = 1.0) -> bool:
    """Put the archive of `source` at `target`, unless it is there. True if something was written.

    A file is stored as it is, whatever its packing; a folder is packed as upstream packs it.

    Args:
        back_off: seconds before the second attempt of a download; doubled for each one after.

    Raises: PipelineError when there is no network, no room, or what came is not the archive.
        `target` is then as it was before; of a broken download only `partial_path` stays, which
        the next call resumes.
    """
    if source.kind == "generated":
        # Its bytes follow from the settings, but generating them is as fast as knowing that.
        generate_archive(
            target,
            train_per_class=source.train_per_class,
            test_per_class=source.test_per_class,
            seed=source.seed,
        )
        return True
    if _is_there(source, target):
        return False
    if not is_remote(source.url):
        check_source(source, target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if is_remote(source.url):
            _download(source, target, back_off)
        elif (path := local_path(source)).is_dir():
            folder = _unpacked(path)
            write_archive(target, {name: (folder / name).read_bytes() for name in MEMBERS})
        else:
            with replacing_file(target) as temporary:
                shutil.copyfile(path, temporary)
                if not _is_right(source, temporary):  # it was a moment ago
                    raise _refusal(source, temporary)
    except OSError as error:
        repair = (
            "Free some space there" if error.errno == errno.ENOSPC else "Make that folder writable"
        )
        raise PipelineError(
            f"writing {target} failed: {error.strerror or error}. {repair} and run again."
        ) from None
    return True


def source_reachable(source: Source, target: Path) -> bool:
    """Whether `check_source` raises nothing."""
    try:
        check_source(source, target)
    except PipelineError:
        return False
    return True


def check_source(source: Source, target: Path, *, back_off: float = 0.5) -> None:
    """That `obtain_archive` has a chance: the archive is at `target`, or its server answers.

    What is on this machine is verified at once.

    Args:
        back_off: seconds before the second attempt to reach a server.

    Raises: PipelineError that says why the archive cannot be had.
    """
    if source.kind == "generated" or _is_there(source, target):
        return
    if is_remote(source.url):
        check_answers(source.url, back_off=back_off)
        return
    if "://" in source.url and not source.url.lower().startswith("file:"):
        scheme = source.url.partition("://")[0]
        raise PipelineError(
            f"an archive cannot be fetched from a {scheme}:// address; http(s)://, file:// and "
            f"paths are understood. {ANOTHER}."
        )
    path = local_path(source)
    try:
        if path.is_dir():
            _check_folder(source, path)
        elif not path.is_file():
            raise PipelineError(f"there is no archive at {path}. {ANOTHER}.")
        elif not _is_right(source, path):
            raise _refusal(source, path)
    except OSError as error:
        raise PipelineError(
            f"{path} cannot be read: {error.strerror or error}. Make it readable, or {ANOTHER}."
        ) from None


def local_path(source: Source) -> Path:
    """Where a source that is not fetched over HTTP lies."""
    return Path(path_of(source.url))


def partial_path(source: Source, target: Path) -> Path:
    """The part of a download that came before it broke off. One of another archive is not it."""
    return target.with_name(f"{target.name}.{source.sha256[:12]}.download")


def _is_there(source: Source, target: Path) -> bool:
    return target.is_file() and _is_right(source, target)


def _is_right(source: Source, path: Path) -> bool:
    """Whether a file is the archive: it, or each member, has the expected checksum."""
    if file_digest(path, "sha256") == source.sha256:
        return True
    return bool(source.members) and member_md5(path) == source.members


def _download(source: Source, target: Path, back_off: float) -> None:
    partial = partial_path(source, target)
    if not download(source.url, partial, lambda path: _is_right(source, path), back_off=back_off):
        refusal = _refusal(source, partial)
        partial.unlink()  # resuming wrong bytes can only give wrong bytes
        raise refusal
    partial.replace(target)
    for left in target.parent.glob(f"{target.name}.*.download"):
        left.unlink()  # of another archive, which is no longer wanted


def _unpacked(path: Path) -> Path:
    """The folder that has the members: `path`, or upstream's folder in it."""
    for folder in (path, path / FOLDER):
        if all((folder / name).is_file() for name in MEMBERS):
            return folder
    kind, repair = describe(path)
    if not kind:
        kind = f"not an unpacked archive (it has no files {', '.join(MEMBERS)}, nor {FOLDER}/)"
    raise PipelineError(f"the folder {path} is {kind}; {repair or PYTHON_VERSION}.")


def _check_folder(source: Source, path: Path) -> None:
    folder = _unpacked(path)
    for name in MEMBERS:
        found, expected = md5((folder / name).read_bytes()), source.members.get(name)
        if found != expected:
            raise PipelineError(
                f"{folder / name} is not upstream's file: its md5 is {found}, expected "
                f"{expected or 'none, because CIFAR_ARCHIVE_SHA256 is of a file'}. To use the "
                "folder all the same, pack it (`tar czf cifar-100.tar.gz meta train test` in it), "
                "set CIFAR_ARCHIVE to the packed file and CIFAR_ARCHIVE_SHA256 to its checksum."
            )


def _refusal(source: Source, path: Path) -> PipelineError:
    """Why the file at `path`, which came from `source`, is not the archive."""
    found, size = file_digest(path, "sha256"), path.stat().st_size
    kind, repair = describe(path)
    if not kind:
        kind = "another archive than expected"
        repair = f"if you trust this copy of CIFAR-100, set CIFAR_ARCHIVE_SHA256={found}"
    return PipelineError(
        f"{source.shown} is {kind}: {size:,} bytes with sha256 {found}, expected {source.sha256}; "
        f"{repair}."
    )
