"""Archives that a fuzzer, or what it was told to look for, made tarfile stumble over."""

import gzip
import tarfile
import time
import tracemalloc

import pytest

from cifar_pipeline.dataset.build import read_archive
from cifar_pipeline.dataset.packed import describe
from cifar_pipeline.errors import PipelineError

END = bytes(1024)


def header(name, size, kind=tarfile.REGTYPE):
    """A header whose size may be any, with the checksum that belongs to it."""
    info = tarfile.TarInfo(name)
    info.type = kind
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\x80" + size.to_bytes(11, "big")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def member(name, content, kind=tarfile.REGTYPE):
    return header(name, len(content), kind) + content + bytes(-len(content) % 512)


def pax(key, value):
    record = f" {key}={value}\n".encode()
    size = len(record) + 2
    assert 10 <= size < 100
    return member("pax", str(size).encode() + record, tarfile.XHDTYPE)


META = member("meta", b"abc")

HOSTILE = {
    "a sparse size": (pax("GNU.sparse.size", "abc") + META, "is damaged"),
    "a sparse map": (pax("GNU.sparse.map", "a,b") + META, "is damaged"),
    "a chain of names": (member("n", b"a", tarfile.GNUTYPE_LONGNAME) * 3000 + META, "is damaged"),
    "a chain of headers": (pax("comment", "none") * 3000 + META, "is damaged"),
    "a huge size": (header("other", 2**60), "has 1,152,921,504,606,846,976 bytes"),
    "a huge size in a header": (pax("size", "9" * 30) + META, "has 999,999,999"),
    "long headers": (member("h", bytes(200 << 20), tarfile.GNUTYPE_LONGNAME), "bytes of headers"),
    "many members": (member("empty", b"") * 1500, "an archive of more than 1,000 files"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_an_archive_that_would_take_hours_or_gigabytes_is_refused_at_once(tmp_path, case):
    content, message = HOSTILE[case]
    archive = tmp_path / "archive"
    archive.write_bytes(gzip.compress(content + END, 1))
    tracemalloc.start()
    started = time.monotonic()
    with pytest.raises(PipelineError, match=message):
        read_archive(archive)
    describe(archive)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.monotonic() - started < 10
    assert most < 100e6
