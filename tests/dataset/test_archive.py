"""A real server on localhost, which breaks in the ways that servers break."""

import hashlib
import http.server
import threading

import pytest

from cifar_pipeline.dataset import archive as archive_module
from cifar_pipeline.dataset.archive import CHUNK, obtain_archive, source_reachable
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.settings.data import Source


class Server(http.server.BaseHTTPRequestHandler):
    """Serves `content`; the first `breaks` answers stop in the middle, the first `refusals` are errors 503."""

    content, breaks, refusals, ranges = b"", 0, 0, True
    requests: list

    def do_GET(self):
        cls = type(self)
        cls.requests.append(self.headers.get("Range"))
        if cls.refusals:
            cls.refusals -= 1
            self.send_error(503)
            return
        start = int(self.headers["Range"][6:-1]) if cls.ranges and "Range" in self.headers else 0
        if start and start >= len(cls.content):
            self.send_error(416)
            return
        body = cls.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if cls.breaks:
            cls.breaks -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def do_HEAD(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(make_archive):
    class Fresh(Server):
        content, requests = make_archive().read_bytes(), []

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Fresh)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    Fresh.url = f"http://127.0.0.1:{running.server_port}/cifar-100-python.tar.gz"
    yield Fresh
    running.shutdown()
    running.server_close()


def source_of(url, content):
    return Source(
        kind="download",
        url=str(url),
        sha256=hashlib.sha256(content).hexdigest(),
        train_per_class=10,
        test_per_class=2,
    )


@pytest.fixture
def target(tmp_path):
    return tmp_path / "data" / "raw" / "cifar-100-python.tar.gz"


def fetch(server, target):
    return obtain_archive(source_of(server.url, server.content), target, back_off=0.01)


def only(target):
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_fetched_once(server, target):
    assert source_reachable(source_of(server.url, server.content), target)
    assert fetch(server, target)
    assert target.read_bytes() == server.content
    only(target)
    assert not fetch(server, target)
    assert len(server.requests) == 1


def test_a_broken_download_goes_on_where_it_broke(server, target):
    server.breaks = 2
    assert fetch(server, target)
    assert target.read_bytes() == server.content
    starts = [int(header[6:-1]) for header in server.requests[1:]]
    half = len(server.content) // 2
    assert half - CHUNK <= starts[0] <= half < starts[1]
    only(target)


def test_a_later_call_goes_on_where_a_killed_one_stopped(server, target):
    target.parent.mkdir(parents=True)
    target.with_name(f"{target.name}.download").write_bytes(server.content[:1000])
    assert fetch(server, target)
    assert server.requests == ["bytes=1000-"]
    assert target.read_bytes() == server.content


def test_a_server_that_knows_no_ranges_starts_again(server, target):
    server.ranges, server.breaks = False, 1
    assert fetch(server, target)
    assert target.read_bytes() == server.content


def test_errors_that_pass_are_tried_again(server, target):
    server.refusals = 2
    assert fetch(server, target)
    assert target.read_bytes() == server.content


def refused(source, target, message):
    with pytest.raises(PipelineError, match=message):
        obtain_archive(source, target, back_off=0.001)
    assert not target.exists()


def test_an_error_that_stays(server, target):
    server.refusals = 10**6
    refused(source_of(server.url, b""), target, "cannot be fetched")


def test_a_wrong_checksum_leaves_no_file(server, target):
    refused(
        source_of(server.url, b"other"),
        target,
        r"another archive than expected.*expected d9298a10d1b0",
    )
    assert list(target.parent.iterdir()) == []


def test_a_page_instead_of_an_archive(server, target):
    right = source_of(server.url, server.content)
    server.content = b"<html>Not found</html>"
    refused(right, target, "no gzip archive")
    assert list(target.parent.iterdir()) == []


def test_no_network(target):
    source = source_of("http://127.0.0.1:9/archive", b"")
    assert not source_reachable(source, target)
    refused(source, target, "cannot be fetched, after 5 attempts.*CIFAR_ARCHIVE")


def test_too_little_space_is_known_beforehand(server, target, monkeypatch):
    monkeypatch.setattr(archive_module, "free_bytes", lambda folder: 10)
    refused(
        source_of(server.url, server.content),
        target,
        r"needs [\d,]+ bytes, .* has 10\. Free some space",
    )


def test_a_disk_that_fills_up(tmp_path, server):
    """/dev/full is a disk without room."""
    full = tmp_path / "raw"
    full.mkdir()
    (full / "a.tar.gz.download").symlink_to("/dev/full")
    refused(source_of(server.url, server.content), full / "a.tar.gz", "No space left on device")


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_path_serves_as_well(make_archive, tmp_path, form):
    path = make_archive()
    mirror = path.rename(tmp_path / "a mirror.tar.gz")
    target = tmp_path / "raw" / "cifar-100-python.tar.gz"
    address = form.format(mirror)
    assert obtain_archive(source_of(address, mirror.read_bytes()), target)
    assert target.read_bytes() == mirror.read_bytes()
    refused(
        source_of(form.format(tmp_path / "none"), b""),
        tmp_path / "x.tar.gz",
        "there is no archive at",
    )


def test_a_wrong_archive_does_not_replace_the_right_one(make_archive, tmp_path):
    path = make_archive()
    target = tmp_path / "raw" / "cifar-100-python.tar.gz"
    obtain_archive(source_of(path, path.read_bytes()), target)
    before = target.read_bytes()
    path.write_bytes(b"\x1f\x8bdamaged")
    with pytest.raises(PipelineError, match="another archive than expected"):
        obtain_archive(source_of(path, b"some other"), target)
    assert target.read_bytes() == before
    only(target)


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
