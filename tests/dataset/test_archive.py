"""A real server on localhost that breaks and lies as servers do; files and folders as well."""

import base64
import gzip
import hashlib
import http.server
import logging
import tarfile
import threading

import numpy as np
import pytest

from cifar_pipeline.dataset import download as download_module
from cifar_pipeline.dataset.archive import (
    check_source,
    obtain_archive,
    partial_path,
    source_reachable,
)
from cifar_pipeline.dataset.download import CHUNK
from cifar_pipeline.dataset.generated import legacy_pickle
from cifar_pipeline.dataset.packed import md5
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.settings.data import Source

CONTENT = gzip.compress(np.random.default_rng(0).bytes(3 * CHUNK), mtime=0)
OTHER = gzip.compress(np.random.default_rng(1).bytes(3 * CHUNK), mtime=0)


class Server(http.server.BaseHTTPRequestHandler):
    """Serves `content`; its first `refusals` answers are errors 503, the next `breaks` stop."""

    content, breaks, refusals, head = CONTENT, 0, 0, 200
    length = "right"  # what Content-Length says
    ranges = "honoured"  # what becomes of a Range
    encoding = ""  # what Content-Encoding says
    login = ""  # the token with which it redirects to a page that asks for a password
    credentials = ""  # what it demands as user:password
    requests: list

    def do_GET(self):
        cls = type(self)
        cls.requests.append(self.headers.get("Range"))
        authorization = base64.b64encode(cls.credentials.encode()).decode()
        if cls.refusals:
            cls.refusals -= 1
            self.send_error(503)
        elif cls.credentials and self.headers.get("Authorization") != f"Basic {authorization}":
            self.send_error(401)
        elif cls.login and not self.path.startswith("/login"):
            self.send_response(302)
            self.send_header("Location", f"/login?token={cls.login}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self.answer(b"<html>Please log in</html>" if cls.login else cls.content)

    def answer(self, content):
        cls = type(self)
        asked = int(self.headers.get("Range", "bytes=0-")[6:-1])
        start = 0 if cls.ranges == "ignored" else asked
        if start and start >= len(content):
            self.send_error(416)
            return
        sent = {"shifted": start // 2, "mute": 0}.get(cls.ranges, start)
        body = content[sent:]
        self.send_response(206 if start else 200)
        if start and cls.ranges != "mute":
            self.send_header("Content-Range", f"bytes {sent}-{len(content) - 1}/{len(content)}")
        lengths = {
            "right": str(len(body)),
            "less": str(len(body) // 2),
            "more": str(len(body) + 100),
            "nonsense": "many",
            "endless": "9" * 5000,
        }
        if cls.length == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Connection", "close")
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        elif cls.length != "absent":
            self.send_header("Content-Length", lengths[cls.length])
        if cls.encoding:
            self.send_header("Content-Encoding", cls.encoding)
        self.end_headers()
        if cls.breaks:
            cls.breaks -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def do_HEAD(self):
        self.send_response(type(self).head)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def running():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def serve(running):
    """Give the server a behaviour; what is returned has its `url` and the `requests` it got."""

    def behave(**behaviour):
        chunked = behaviour.get("length") == "chunked"
        fresh = {"requests": [], "protocol_version": "HTTP/1.1" if chunked else "HTTP/1.0"}
        running.RequestHandlerClass = type("Fresh", (Server,), fresh | behaviour)
        running.RequestHandlerClass.url = (
            f"http://127.0.0.1:{running.server_port}/cifar-100-python.tar.gz"
        )
        return running.RequestHandlerClass

    return behave


def source_of(url, content=CONTENT, **settings):
    settings = {"members": {}, **settings}
    sha256 = hashlib.sha256(content).hexdigest()
    return Source(
        kind="download",
        url=str(url),
        sha256=sha256,
        train_per_class=10,
        test_per_class=2,
        **settings,
    )


@pytest.fixture
def target(tmp_path):
    folder = tmp_path / "data" / "raw"
    folder.mkdir(parents=True)
    return folder / "cifar-100-python.tar.gz"


def fetch(server, target):
    return obtain_archive(source_of(server.url), target, back_off=0.001)


def files(target):
    return [path.name for path in target.parent.iterdir()]


def refused(source, target, message):
    """Refused with that message, and the archive that was there is there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(b"the former archive")
    with pytest.raises(PipelineError, match=message) as caught:
        obtain_archive(source, target, back_off=0.001)
    assert target.read_bytes() == b"the former archive"
    return str(caught.value)


def test_fetched_once(serve, target):
    server = serve()
    assert fetch(server, target)
    assert target.read_bytes() == CONTENT
    assert files(target) == [target.name]
    assert not fetch(server, target)
    assert len(server.requests) == 1


@pytest.mark.parametrize("head", [200, 403, 404, 405, 501, 503])
def test_reachable_is_what_answers_get(serve, target, head):
    """Signed addresses answer GET and not HEAD."""
    server = serve(head=head)
    assert source_reachable(source_of(server.url), target)
    assert fetch(server, target)


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ({"refusals": 9}, r"answered 503 \(Service Unavailable\)"),
        ({"credentials": "a:b"}, r"answered 401 \(Unauthorized\); the address may need credent"),
        ({"content": b""}, "the answer is empty"),
        ({"breaks": 9, "content": b"1"}, "broke off before the end"),
    ],
)
def test_what_does_not_answer_get_is_not_reachable(serve, target, behaviour, reason):
    source = source_of(serve(**behaviour).url)
    with pytest.raises(PipelineError, match=reason):
        check_source(source, target, back_off=0.001)


def test_one_failure_that_passes_does_not_make_it_unreachable(serve, target):
    assert source_reachable(source_of(serve(refusals=1).url), target)


def test_a_broken_download_resumes_where_it_broke(serve, target):
    server = serve(breaks=2)
    assert fetch(server, target)
    assert target.read_bytes() == CONTENT
    starts = [int(header[6:-1]) for header in server.requests[1:]]
    half = len(CONTENT) // 2
    assert half - CHUNK <= starts[0] <= half < starts[1]
    assert files(target) == [target.name]


def test_a_later_call_resumes_where_a_killed_one_stopped(serve, target):
    server = serve()
    partial_path(source_of(server.url), target).write_bytes(CONTENT[:1000])
    assert fetch(server, target)
    assert server.requests == ["bytes=1000-"]
    assert target.read_bytes() == CONTENT


def test_what_is_left_of_another_archive_is_not_resumed(serve, target):
    server = serve()
    partial_path(source_of(server.url, OTHER), target).write_bytes(OTHER[:1000])
    assert fetch(server, target)
    assert server.requests == [None]
    assert files(target) == [target.name]


LENGTHS = ["right", "absent", "chunked", "more", "nonsense", "endless"]
PARTIALS = {
    "none": b"",
    "right": CONTENT[: len(CONTENT) // 3],
    "of a changed file": OTHER[: len(CONTENT) // 3],
    "complete": CONTENT,
    "complete and wrong": OTHER[: len(CONTENT)],
    "too long": CONTENT + b"0" * 1000,
}


@pytest.mark.parametrize("partial", PARTIALS)
@pytest.mark.parametrize("ranges", ["honoured", "ignored", "shifted", "mute"])
@pytest.mark.parametrize("length", LENGTHS)
def test_no_lie_of_a_server_matters_more_than_the_checksum(serve, target, length, ranges, partial):
    """Broken off once and resumed from anything, a download ends right."""
    server = serve(length=length, ranges=ranges, breaks=1)
    source = source_of(server.url)
    if PARTIALS[partial]:
        partial_path(source, target).write_bytes(PARTIALS[partial])
    assert obtain_archive(source, target, back_off=0.001)
    assert target.read_bytes() == CONTENT
    assert files(target) == [target.name]


def test_a_server_that_cuts_the_archive_short_is_one_sentence(serve, target):
    refused(source_of(serve(length="less").url), target, "is damaged, incomplete or no archive")
    assert files(target) == [target.name]


def test_a_server_that_calls_the_archives_own_compression_a_transfers(serve, target):
    assert fetch(serve(encoding="gzip"), target)
    assert target.read_bytes() == CONTENT


def test_a_server_that_compresses_although_it_was_asked_not_to(serve, target):
    assert fetch(serve(encoding="gzip", content=gzip.compress(CONTENT)), target)
    assert target.read_bytes() == CONTENT


def test_errors_that_pass_are_tried_again(serve, target):
    assert fetch(serve(refusals=2), target)
    assert target.read_bytes() == CONTENT


def test_an_error_that_stays(serve, target):
    refused(
        source_of(serve(refusals=9).url),
        target,
        r"cannot be fetched, after 5 attempts: the server answered 503 \(Service Unavailable\)",
    )


def test_a_wrong_checksum_leaves_no_file(serve, target, make_archive):
    message = refused(
        source_of(serve(content=make_archive().read_bytes()).url, b"other"),
        target,
        r"another archive than expected: .*, expected d9298a10d1b0",
    )
    found = hashlib.sha256(make_archive().read_bytes()).hexdigest()
    assert message.endswith(
        f"if you trust this copy of CIFAR-100, set CIFAR_ARCHIVE_SHA256={found}."
    )
    assert files(target) == [target.name]


def test_a_page_instead_of_an_archive(serve, target):
    refused(source_of(serve(content=b"<html>Not found</html>").url), target, "is a web page")
    assert files(target) == [target.name]


def test_a_redirect_to_a_login_page_leaves_no_file_and_shows_no_token(serve, target):
    message = refused(source_of(serve(login="secret").url), target, "is a web page.*login page")
    assert "secret" not in message
    assert files(target) == [target.name]


@pytest.mark.parametrize("length", ["right", "absent"])
def test_a_body_without_end_is_cut_short(serve, target, monkeypatch, length):
    monkeypatch.setattr(download_module, "LIMIT", CHUNK)
    message = "it has 1.* bytes" if length == "right" else "more than 65,536 bytes came"
    refused(source_of(serve(length=length).url), target, f"{message}.* 169 million")
    assert files(target) == [target.name]


def test_no_network(target):
    source = source_of("http://127.0.0.1:9/archive")
    assert not source_reachable(source, target)
    message = refused(source, target, "after 5 attempts: .*Connection refused.*CIFAR_ARCHIVE")
    assert len(message) < 400


@pytest.mark.parametrize("url", ["http://", "http://[", "https://a..b/", "http://127.0.0.1:x/"])
def test_what_is_no_address_is_one_sentence(target, url):
    refused(source_of(url), target, "it is not a valid address|Failed to resolve")


def test_an_address_of_another_kind_is_one_sentence(target):
    refused(source_of("s3://bucket/a"), target, "cannot be fetched from a s3:// address")


@pytest.mark.parametrize("behaviour", [{}, {"breaks": 9}, {"refusals": 9}, {"content": b"<html>"}])
def test_credentials_are_sent_and_never_shown(serve, target, behaviour, caplog, capfd):
    caplog.set_level(logging.INFO)
    server = serve(credentials="mary:pass@word", **behaviour)
    address = server.url.replace("http://", "http://mary:pass%40word@")
    source = source_of(f"{address}?X-Amz-Signature=secret&token=hidden#fragment")
    if behaviour:
        said = refused(
            source, target, r"http://\*\*\*@127.0.0.1:\d+/cifar-100-python.tar.gz\?\.\.\."
        )
    else:
        said = source.shown
        assert obtain_archive(source, target)
    said += caplog.text + "".join(capfd.readouterr())
    for secret in ("mary", "pass", "secret", "hidden", "fragment"):
        assert secret not in said


def test_errors_of_the_connection_show_no_credentials(target):
    """The libraries' own messages hold the whole address."""
    source = source_of("http://mary:password@127.0.0.1:9/a.tar.gz?Signature=secret")
    for call in (check_source, obtain_archive):
        with pytest.raises(PipelineError, match="Connection refused") as caught:
            call(source, target, back_off=0.001)
        assert not any(word in str(caught.value) for word in ("mary", "password", "secret"))


def test_what_went_wrong_is_told_without_the_address_in_it():
    inner = OSError(
        "no answer from http://mary:password@proxy/ to /a.tar.gz?Signature=secret (late)"
    )
    told = download_module._cause(ConnectionError(inner))
    assert told == "no answer from http://***@proxy/ to /a.tar.gz?... (late)"


def test_too_little_space_is_known_beforehand(serve, target, monkeypatch):
    monkeypatch.setattr(download_module, "free_bytes", lambda folder: 10)
    refused(source_of(serve().url), target, r"needs [\d,]+ bytes, .* has 10\. Free some space")


def test_a_disk_that_fills_up(serve, target):
    """/dev/full is a disk without room."""
    source = source_of(serve().url)
    partial_path(source, target).symlink_to("/dev/full")
    refused(source, target, "No space left on device. Free some space there")


@pytest.mark.parametrize("form", ["{}", "file://{}", "file:{}", "file://localhost{}"])
def test_a_path_serves_as_well(make_archive, tmp_path, target, form):
    mirror = make_archive().rename(tmp_path / "a mirror.tar.gz")
    content = mirror.read_bytes()
    assert obtain_archive(source_of(form.format(mirror), content), target)
    assert target.read_bytes() == content
    missing = source_of(form.format(tmp_path / "none"), b"")
    assert not source_reachable(missing, target)
    refused(missing, target, f"there is no archive at {tmp_path / 'none'}")


def test_a_wrong_archive_does_not_replace_the_right_one(make_archive, tmp_path, target):
    path = make_archive()
    path.write_bytes(b"\x1f\x8bdamaged")
    refused(source_of(path, b"some other"), target, "is damaged, incomplete or no archive")
    assert files(target) == [target.name]


def members_of(content):
    return {name: legacy_pickle(member) for name, member in content.items()}


@pytest.fixture
def folder(content, tmp_path):
    """An unpacked archive as torchvision and Keras leave it, beside other files."""
    folder = tmp_path / "cache" / "cifar-100-python"
    folder.mkdir(parents=True)
    for name, pickled in members_of(content).items():
        (folder / name).write_bytes(pickled)
    (folder / "file.txt~").touch()
    return folder


def checksums(folder):
    return {name: md5((folder / name).read_bytes()) for name in ("meta", "test", "train")}


def test_an_unpacked_folder_is_packed_as_upstream_packs_it(folder, target, make_archive):
    for address in (folder, folder.parent):
        target.unlink(missing_ok=True)
        source = source_of(address, members=checksums(folder))
        assert obtain_archive(source, target)
        assert target.read_bytes() == make_archive().read_bytes()
        assert not obtain_archive(source, target)


def test_a_changed_file_of_a_folder_is_refused_with_the_way_out(folder, target):
    source = source_of(folder, members=checksums(folder))
    (folder / "test").write_bytes(b"changed")
    refused(source, target, r"folder/test|test is not upstream's file: its md5 is .*`tar czf")
    assert not source_reachable(source, target.parent / "none")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("inside", ["cifar-100-python/", "./cifar-100-python/", ""])
def test_a_copy_with_upstreams_files_is_recognised_however_it_is_packed(
    folder, target, tmp_path, mode, inside
):
    copy = tmp_path / "copy"
    with tarfile.open(copy, mode) as tar:
        for name in ("test", "train", "meta"):
            tar.add(folder / name, f"{inside}{name}")
    source = source_of(copy, b"", members=checksums(folder))
    assert obtain_archive(source, target)
    assert target.read_bytes() == copy.read_bytes()
    assert not obtain_archive(source, target)
    refused(source.model_copy(update={"members": {}}), target, "another archive than expected")


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"", "is an empty file"),
        (b"\n<!DOCTYPE html>", "is a web page"),
        (b"PK\x03\x04", "is a zip file.*unpack it and set CIFAR_ARCHIVE to the folder"),
        (b"BZh9", "is compressed with bzip2.*unpack it"),
        (b"PAR1", "is a Parquet file.*Hugging Face.*set CIFAR_ARCHIVE to a copy of the Python"),
        (b"version https://git-lfs.github.com/spec/v1", "is a Git LFS pointer.*git lfs pull"),
        (b"\x80\x02}q", "is a single pickle.*set CIFAR_ARCHIVE to the folder"),
        (b"random", "is damaged, incomplete or no archive"),
    ],
)
def test_other_files_are_called_what_they_are(tmp_path, target, start, message):
    (tmp_path / "file").write_bytes(start)
    assert "fetch it again" not in refused(source_of(tmp_path / "file"), target, message)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar-10-batches-py/data_batch_1", "is CIFAR-10, another data set"),
        ("cifar-100-binary/train.bin", "is CIFAR-100's binary version"),
        ("parquet/train-00000.parquet", "is Parquet, as Hugging Face"),
    ],
)
def test_other_data_sets_are_called_what_they_are(tmp_path, target, name, message):
    path = tmp_path / name
    path.parent.mkdir()
    path.touch()
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        tar.add(path.parent, path.parent.name)
    for address in (path.parent, tmp_path / "a.tar.gz"):
        refused(source_of(address), target, message)


def test_a_folder_without_the_files(tmp_path, target):
    (tmp_path / "empty").mkdir()
    refused(source_of(tmp_path / "empty"), target, "is not an unpacked archive.*meta, train, test")


def test_what_cannot_be_read_or_written_is_one_sentence(make_archive, tmp_path, target):
    content = make_archive().read_bytes()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(source_of(tmp_path / "loop"), target, "there is no archive at|cannot be read")
    (tmp_path / "file").touch()
    with pytest.raises(PipelineError, match=r"writing .* failed: .*\. Make that folder writable"):
        obtain_archive(source_of(make_archive(), content), tmp_path / "file" / "a.tar.gz")


def test_the_generated_archive_is_the_same_for_the_same_seed(tmp_path):
    source = Source(kind="generated", seed=3, train_per_class=2, test_per_class=1)
    obtain_archive(source, tmp_path / "a.tar.gz")
    obtain_archive(source, tmp_path / "b.tar.gz")
    obtain_archive(source.model_copy(update={"seed": 4}), tmp_path / "c.tar.gz")
    assert (
        (tmp_path / "a.tar.gz").read_bytes()
        == (tmp_path / "b.tar.gz").read_bytes()
        != (tmp_path / "c.tar.gz").read_bytes()
    )
