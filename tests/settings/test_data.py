from pathlib import Path

import pytest
from pydantic import ValidationError

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.data import UPSTREAM_MEMBERS, Source, redacted

HOME = Workspace(Path("/checkout"))
COUNTS = {"train_per_class": 500, "test_per_class": 100}
SOURCE = Source(kind="download", url="https://host/a.tar.gz", **COUNTS)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("copy.tar.gz", "/checkout/copy.tar.gz"),
        ("../copy.tar.gz", "/checkout/../copy.tar.gz"),
        ("file:copy%20of.tar.gz", "/checkout/copy of.tar.gz"),
        ("file://copy.tar.gz", "/checkout/copy.tar.gz"),
        ("FILE:///copy.tar.gz", "/copy.tar.gz"),
        ("file://localhost/copy.tar.gz", "/copy.tar.gz"),
        ("~/copy.tar.gz", "/home/mary/copy.tar.gz"),
        ("file://~/copy.tar.gz", "/home/mary/copy.tar.gz"),
        ("~nobody_has_this_name/a", "/checkout/~nobody_has_this_name/a"),
        ("https://host/copy.tar.gz", "https://host/copy.tar.gz"),
        ("s3://bucket/copy.tar.gz", "s3://bucket/copy.tar.gz"),
    ],
)
def test_a_relative_path_is_relative_to_the_checkout(monkeypatch, written, meant):
    monkeypatch.setenv("HOME", "/home/mary")
    assert SOURCE.located(written, "", HOME).url == meant
    own = SOURCE.model_copy(update={"url": written})
    assert own.located("", "", HOME).url == meant


def test_an_address_that_is_none_is_one_message():
    with pytest.raises(PipelineError, match=r"'file://\[a' is not one of a file .*write its path"):
        SOURCE.located("file://[a", "", HOME)


def test_who_named_the_archive_is_known_and_decides_nothing_else():
    assert not SOURCE.located("", "", HOME).named_by_user
    named = SOURCE.located("https://mirror/a.tar.gz", "", HOME)
    assert named.named_by_user
    assert "named_by_user" not in named.model_dump()
    assert named.members == UPSTREAM_MEMBERS


def test_a_checksum_of_the_users_admits_that_file_alone():
    named = SOURCE.located("", " " + "AB" * 32, HOME)
    assert (named.sha256, named.members) == ("ab" * 32, {})
    assert SOURCE.located("", SOURCE.sha256, HOME).members == UPSTREAM_MEMBERS
    with pytest.raises(
        PipelineError, match="CIFAR_ARCHIVE_SHA256 is 'sha256:abc', expected the 64"
    ):
        SOURCE.located("", "sha256:abc", HOME)


def test_a_download_without_an_address_is_refused():
    with pytest.raises(ValidationError, match="needs a `url`"):
        Source(kind="download", **COUNTS)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://host/a.tar.gz", "https://host/a.tar.gz"),
        ("https://host:80/a?token=x&sig=y#z", "https://host:80/a?..."),
        ("https://mary:secret@host/a", "https://***@host/a"),
        ("https://mary:se/cret@host/a", "https://***@host/a"),
        ("https://mary:se?cret@host/a", "https://***@host/a"),
        ("HTTPS://mary:se@cret@host/a", "HTTPS://***@host/a"),
        ("no route to /a?sig=y (Caused by x)", "no route to /a?... (Caused by x)"),
    ],
)
def test_no_credential_of_an_address_is_shown(address, shown):
    assert redacted(address) == shown
    if "://" in address:
        assert SOURCE.model_copy(update={"url": address}).shown == shown


def test_a_path_is_shown_as_it_is():
    path = "/data//mary@home/what?.tar.gz"
    assert SOURCE.model_copy(update={"url": path}).shown == path
    assert Source(kind="generated", **COUNTS).shown == "generated"
