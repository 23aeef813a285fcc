import gzip
import io
import tarfile

import duckdb
import numpy as np
import pandas as pd
import pytest

from cifar_pipeline.artifacts import file_digest
from cifar_pipeline.dataset import build as build_module
from cifar_pipeline.dataset import packed as packed_module
from cifar_pipeline.dataset.build import build_table, write_table
from cifar_pipeline.dataset.generated import is_generated, legacy_pickle
from cifar_pipeline.dataset.packed import write_archive
from cifar_pipeline.dataset.splits import archive_of
from cifar_pipeline.dataset.table import pixels, read_table
from cifar_pipeline.dataset.validation import check_archive
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.settings.data import UPSTREAM_SHA256


def test_a_row_an_image_with_upstreams_content(prepared, content):
    table = read_table(prepared.table)
    assert table.num_rows == 1200
    assert table.column_names == list(build_module.SCHEMA.names)
    train = content["train"]
    assert np.array_equal(
        pixels(table)[:1000], train[b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    )
    assert table["fine_label"].to_pylist()[:1000] == train[b"fine_labels"]
    assert table["coarse_label"].to_pylist()[:1000] == train[b"coarse_labels"]
    assert table["upstream_split"].to_pylist() == ["train"] * 1000 + ["test"] * 200
    assert table["fine_name"][0].as_py() == f"generated_{train[b'fine_labels'][0]:02d}"
    assert table.schema.metadata[b"shape"] == b"32,32,3"


def test_pixels_of_a_slice(prepared):
    table = read_table(prepared.table)
    assert np.array_equal(pixels(table.slice(100, 7)), pixels(table)[100:107])


def test_pandas_and_duckdb_read_the_images(prepared):
    expected = pixels(read_table(prepared.table))[3]
    frame = pd.read_parquet(prepared.table)
    assert np.array_equal(np.frombuffer(frame["image"][3], np.uint8).reshape(32, 32, 3), expected)
    query = f"select image, coarse_name from '{prepared.table}' where row_id = 3"
    image, name = duckdb.sql(query).fetchall()[0]
    assert np.array_equal(np.frombuffer(image, np.uint8).reshape(32, 32, 3), expected)
    assert name == frame["coarse_name"][3]


def test_the_same_archive_gives_the_same_bytes(prepared, tmp_path):
    write_table(build_table(prepared.archive), tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == prepared.table.read_bytes()


def test_a_table_tells_whether_its_images_are_generated(prepared, make_archive, tmp_path):
    assert is_generated(prepared.table)
    names = [f"class_{label}".encode() for label in range(100)]
    archive = make_archive(meta={b"fine_label_names": names})
    write_table(build_table(archive), tmp_path / "table.parquet")
    assert not is_generated(tmp_path / "table.parquet")


def refused(path, message):
    with pytest.raises(PipelineError, match=message):
        build_table(path)


def test_a_missing_archive(tmp_path):
    refused(tmp_path / "none.tar.gz", "is missing; materialize the asset `archive`")


def test_a_truncated_archive(make_archive):
    path = make_archive()
    whole = path.read_bytes()
    for share in (0.0, 0.1, 0.5, 0.99):
        path.write_bytes(whole[: int(len(whole) * share)])
        refused(path, "is damaged|has no member")


def test_a_flipped_bit_never_reaches_the_table(make_archive):
    path = make_archive()
    whole = path.read_bytes()
    for position in np.random.default_rng(0).integers(10, len(whole) - 8, 20):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        refused(path, str(path))


def test_an_archive_that_unpacks_to_too_much(make_archive, monkeypatch):
    monkeypatch.setattr(packed_module, "ARCHIVE_LIMIT", 1 << 20)
    refused(make_archive(), "unpacks to more than 1,048,576 bytes")


def test_a_member_that_is_too_large(make_archive, monkeypatch):
    monkeypatch.setattr(packed_module, "MEMBER_LIMIT", 1 << 16)
    refused(make_archive(), "has 3,1.* bytes; at most 65,536")


def test_not_an_archive(tmp_path):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(b"<!doctype html>404")
    refused(path, "is damaged")
    path.write_bytes(gzip.compress(b"no tar"))
    refused(path, "is damaged")


@pytest.mark.parametrize("name", ["meta", "train", "test"])
def test_a_missing_member(make_archive, name):
    refused(make_archive(**{name: None}), f"has no member {name} in cifar-100-python/")


@pytest.mark.parametrize(
    "name", ["../../outside", "/etc/outside", "cifar-100-python/../../outside"]
)
def test_a_member_that_points_outside(tmp_path, name):
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo(name)
        info.size = 3
        tar.addfile(info, io.BytesIO(b"bad"))
    refused(path, "points outside the archive's folder")
    assert not (tmp_path.parent / "outside").exists()


def test_a_member_that_is_a_link(tmp_path):
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo("cifar-100-python/train")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    refused(path, "is a link or points outside")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {b"data": np.zeros((200, 100), np.uint8)},
            r"'data' is \(200, 100\), expected \(N, 3072\)",
        ),
        ({b"data": [1, 2]}, "'data' is list"),
        ({b"data": np.zeros((0, 3072), np.uint8)}, r"'data' holds no images"),
        ({b"fine_labels": [0] * 199}, "'fine_labels' is not a list of 200 labels"),
        (
            {b"fine_labels": [100] * 200},
            "'fine_labels' holds 100, expected whole numbers from 0 to 99",
        ),
        ({b"coarse_labels": [-1] * 200}, "'coarse_labels' holds -1"),
        ({b"fine_labels": [0.0] * 200}, "'fine_labels' holds 0.0"),
        ({b"filenames": [b"a.png"]}, "'filenames' is not a list of 200 names"),
        ({b"filenames": [1] * 200}, "'filenames' is not a list of 200 names"),
        ({b"data": 5}, "'data' is int"),
    ],
)
def test_members_that_cannot_be_cifar(make_archive, change, message):
    refused(make_archive(test=change), f"test: {message}")


def test_names_that_cannot_be_cifar(make_archive):
    refused(
        make_archive(meta={b"fine_label_names": [b"apple"] * 100}),
        "'fine_label_names' is not a list of 100 different names",
    )


def test_names_that_are_no_names(make_archive):
    for name in (1, b"", b" "):
        names = [name, *(f"class {n}".encode() for n in range(99))]
        refused(make_archive(meta={b"fine_label_names": names}), "'fine_label_names' is not")


def test_no_message_advises_to_fetch_the_same_again(make_archive):
    with pytest.raises(PipelineError, match="copy of upstream's") as caught:
        build_table(make_archive(test=None))
    assert "again" not in str(caught.value).replace("materialize `archive` again", "")


def test_a_table_says_which_files_it_was_made_of_however_they_were_packed(
    make_archive, content, monkeypatch, tmp_path
):
    """Two packings of upstream's files give one table, to which upstream's lists apply."""
    pickles = {name: legacy_pickle(member) for name, member in content.items()}
    flat = tmp_path / "flat.tar"
    with tarfile.open(flat, "w") as tar:
        for name, pickled in pickles.items():
            info = tarfile.TarInfo(name)
            info.size = len(pickled)
            tar.addfile(info, io.BytesIO(pickled))
    other = build_table(flat).schema.metadata[b"archive_sha256"]
    assert other.decode() == file_digest(flat, "sha256")
    monkeypatch.setattr(
        build_module,
        "UPSTREAM_MEMBERS",
        {name: packed_module.md5(pickled) for name, pickled in pickles.items()},
    )
    assert build_table(flat).equals(build_table(make_archive()), check_metadata=True)
    assert archive_of(build_table(flat)) == UPSTREAM_SHA256


def test_an_archive_is_checked_as_a_whole(make_archive, tmp_path):
    assert check_archive(make_archive()).passed
    path = make_archive(meta=None)
    check = check_archive(path)
    assert not check.passed
    assert "it has no member meta in cifar-100-python/" in check.message("It is an archive.")
    path.write_bytes(b"PAR1")
    said = check_archive(path).message("It is an archive.")
    assert "Found a Parquet file" in said
    assert "Set CIFAR_ARCHIVE to a copy of the Python version" in said


def test_a_pickle_inside_an_archive_runs_nothing(tmp_path, content):
    path = tmp_path / "a.tar.gz"
    pickles = {name: legacy_pickle(member) for name, member in content.items()}
    write_archive(
        path, pickles | {"meta": b"cos\nsystem\n(S'touch /tmp/cifar_pipeline_was_here'\ntR."}
    )
    refused(path, r"asks for os\.system")
