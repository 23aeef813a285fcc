"""The archive as a file: packing and reading its three pickles, and naming files that are not it.

Nothing is ever unpacked onto the disk, and nothing here knows what the pickles hold.
"""

import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self

from cifar_pipeline.artifacts import replacing_file
from cifar_pipeline.errors import PipelineError

FOLDER = "cifar-100-python"
"""The archive's only folder, in upstream's layout."""

MEMBERS = ("meta", "train", "test")

MEMBER_LIMIT = 256 << 20  # bytes; upstream's largest member has 155 MB

ARCHIVE_LIMIT = 512 << 20  # bytes, unpacked

HEADER_LIMIT = 1 << 16  # bytes of a member's long name or other headers; tarfile copies them often

MOST_MEMBERS = 1000  # upstream's archive has five, and its folder

READS_AT_THE_END = 100
"""A member that is said to be huge is skipped by reading on where nothing is left."""

DAMAGE = (OSError, EOFError, ValueError, RecursionError, zlib.error, tarfile.TarError)
"""What reading a damaged tar raises: ValueError for headers of sparse files, RecursionError for
chains of headers."""

EXTENSIONS = {
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
}

GZIP_MAGIC = b"\x1f\x8b"

CHUNK = 1 << 20

UNPACK = "unpack it and set CIFAR_ARCHIVE to the folder that has the files meta, train and test"

PYTHON_VERSION = "set CIFAR_ARCHIVE to a copy of the Python version (cifar-100-python.tar.gz)"

OTHER_FILES = (
    (b"PK\x03\x04", "a zip file", UNPACK),
    (b"BZh", "compressed with bzip2", UNPACK),
    (b"\xfd7zXZ\x00", "compressed with xz", UNPACK),
    (b"7z\xbc\xaf", "a 7z file", UNPACK),
    (b"PAR1", "a Parquet file, as Hugging Face publishes CIFAR-100", PYTHON_VERSION),
    (b"version https://git-lfs", "a Git LFS pointer", "fetch its content with `git lfs pull`"),
    (b"\x80\x02", "a single pickle", "set CIFAR_ARCHIVE to the folder that it lies in"),
)
"""First bytes of files that people name instead of the archive, what they are, and the repair."""

OTHER_DATA_SETS = (
    ("cifar-10-batches-", "CIFAR-10, another data set", PYTHON_VERSION),
    ("data_batch_", "CIFAR-10, another data set", PYTHON_VERSION),
    ("cifar-100-binary", "CIFAR-100's binary version", PYTHON_VERSION),
    ("train.bin", "CIFAR-100's binary version", PYTHON_VERSION),
    ("cifar-100-matlab", "CIFAR-100's Matlab version", PYTHON_VERSION),
    ("train.mat", "CIFAR-100's Matlab version", PYTHON_VERSION),
    (".parquet", "Parquet, as Hugging Face publishes CIFAR-100", PYTHON_VERSION),
)
"""Parts of the names of what lies in other archives and folders, likewise."""


class _Bounded:
    """A reader that refuses to unpack more than ARCHIVE_LIMIT: a small file can unpack to a lot."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile) -> None:
        self.file, self.left, self.at_the_end = file, ARCHIVE_LIMIT, 0

    def read(self, size: int = -1) -> bytes:
        content = self.file.read(size)
        self.left -= len(content)
        if self.left < 0:
            raise PipelineError(
                f"the archive unpacks to more than {ARCHIVE_LIMIT:,} bytes; CIFAR-100 needs "
                "187 million"
            )
        self.at_the_end += not content
        if self.at_the_end > READS_AT_THE_END:
            raise EOFError("a member is said to go on after the end")
        return content


class _Member(tarfile.TarInfo):
    """A member whose headers are small: tarfile reads them into memory, whatever their size."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        found = super().frombuf(buf, encoding, errors)
        if found.type in EXTENSIONS and found.size > HEADER_LIMIT:
            raise PipelineError(
                f"it has a member with {found.size:,} bytes of headers; at most {HEADER_LIMIT:,} "
                "are read"
            )
        return found


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    """The tar in a file, gzipped or not, to be read once; then it is known to be whole."""
    with archive.open("rb") as raw:
        zipped = raw.read(2) == GZIP_MAGIC
        raw.seek(0)
        stream: Any = _Bounded(gzip.GzipFile(fileobj=raw) if zipped else raw)
        try:
            with tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK, tarinfo=_Member) as tar:
                yield tar
            while stream.read(CHUNK):  # gzip compares its checksum when it comes to the end
                pass
        except DAMAGE as error:
            raise PipelineError(f"it is damaged, incomplete or no archive ({error})") from None


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """What is in a tar, which keeps all that it has read in memory."""
    for number, member in enumerate(tar):
        if number >= MOST_MEMBERS:
            raise PipelineError(f"it is an archive of more than {MOST_MEMBERS:,} files")
        yield member


def read_members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of `meta`, `train` and `test`, in the archive's order.

    A gzipped tar or a plain one is read, with the members in upstream's folder or in none.

    Raises: PipelineError, without a repair, for an archive that is damaged or too large, lacks one
        of the members, or has members that are links or lie outside it; OSError if it cannot be
        opened.
    """
    found = []
    with _opened(archive) as tar:
        for member in _members(tar):
            if (name := _admitted(member)) is not None:
                extracted = tar.extractfile(member)
                found.append(name)
                yield name, extracted.read() if extracted else b""
    if missing := [name for name in MEMBERS if name not in found]:
        raise PipelineError(f"it has no member {', '.join(missing)} in {FOLDER}/")


def _admitted(member: tarfile.TarInfo) -> str | None:
    """The member's name if it is one of MEMBERS; None for a folder, or another file."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
        raise PipelineError(
            f"the member '{member.name}' is a link or points outside the archive's folder"
        )
    if member.size > MEMBER_LIMIT:
        raise PipelineError(
            f"the member '{member.name}' has {member.size:,} bytes; at most {MEMBER_LIMIT:,} "
            "are read"
        )
    in_place = path.parent in (PurePosixPath(FOLDER), PurePosixPath())
    return path.name if member.isfile() and in_place and path.name in MEMBERS else None


def member_md5(archive: Path) -> dict[str, str]:
    """The md5 of each member; {} if `archive` cannot be read as one."""
    try:
        return {name: md5(content) for name, content in read_members(archive)}
    except PipelineError:
        return {}


def md5(content: bytes) -> str:
    """The hexadecimal md5 of `content`."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def write_archive(target: Path, pickles: Mapping[str, bytes]) -> None:
    """Pack pickled members into `target` in upstream's layout; equal members give equal bytes."""
    with (
        replacing_file(target) as temporary,
        temporary.open("wb") as file,
        # A time stamp would change the checksum, and pixels do not compress better with patience.
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.GNU_FORMAT) as archive,
    ):
        for name, content in {"file.txt~": b"", **pickles}.items():
            info = tarfile.TarInfo(f"{FOLDER}/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def describe(path: Path) -> tuple[str, str]:
    """What a file or folder is that is not the expected archive, and how to repair that.

    Returns: a phrase that follows "is", and a sentence without its capital and full stop; both
        empty where nothing is known.
    """
    if path.is_dir():
        return _data_set([entry.name for entry in path.iterdir()])
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        return "an empty file", PYTHON_VERSION
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return (
            "a web page (an error or a login page?)",
            "open the address in a browser to see what it says, or " + PYTHON_VERSION,
        )
    for magic, kind, repair in OTHER_FILES:
        if start.startswith(magic):
            return kind, repair
    try:
        with _opened(path) as tar:
            return _data_set([member.name for member in _members(tar)])
    except PipelineError as error:
        return str(error).removeprefix("it is "), PYTHON_VERSION


def _data_set(names: list[str]) -> tuple[str, str]:
    for part, kind, repair in OTHER_DATA_SETS:
        if any(part in name for name in names):
            return kind, repair
    return "", ""
